"""How does a version learn from rows, step by step, so that it can stop and go on anywhere?"""

import math
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from workers.training import checkpoints, mixing, probe
from workers.training.checkpoints import Checkpoint
from workers.training.data import batch_plan, sampled_rows
from workers.training.device import Device, memory_bytes
from workers.training.errors import DeadlineExceeded, Diverged, OutOfMemory
from workers.training.head_rungs import HeadRungs
from workers.training.job import Job
from workers.training.kept_features import KeptFeatures
from workers.training.layers import find_head, narrow_stream, prepare_attention, set_dropout
from workers.training.losses import loss_of
from workers.training.lower import lower_layers
from workers.training.memory import cut, fewest_rows, in_parts
from workers.training.optimiser import (
    adamw,
    add_to_mean,
    averaged,
    learned,
    moments,
    put_learned,
    put_moments,
    rate,
    seed_step,
)
from workers.training.position import Position, Prepared
from workers.training.progress import Preempted, Progress, Stop
from workers.training.ranks import Ranks
from workers.training.recipes import ABSENT
from workers.training.row_features import RowFeatures
from workers.training.sums import Sums, meet, sent
from workers.training.task_type import (
    Augments,
    Learner,
    TellsTokens,
)
from workers.training.work import Utilisation, operations_of, peak_of

LOSS_MEMORY = 0.95
DIVERGED_FACTOR = 3.0
PATIENT_STEPS = 20
STORE = "ranks-"
"""How the files begin through which the processes of a run meet."""


class Loop:
    """One run: `resume` if there is a checkpoint, then `train`."""

    def __init__(
        self,
        job: Job,
        recipe: Mapping[str, Any],
        learner: Learner,
        device: Device,
        train: Prepared,
        validation: Prepared | None,
        progress: Progress,
        stop: Stop,
        *,
        known: Sequence[str] = (),
        ranks: Ranks | None = None,
        cpu_before: float = 0.0,
    ) -> None:
        """Prepare a run.

        Args:
            job: what to do.
            recipe: complete.
            learner: opened at the start; widened to the job's labels.
            device: to compute on.
            train: rows to learn from.
            validation: rows to choose the best epoch by.
            progress: where it is told.
            stop: asked between steps.
            known: outputs that the start's head has learned.
            ranks: the processes that share its batches; None = this one alone.
            cpu_before: CPU time that the run had spent when this process began.
        """
        self.ranks = ranks or Ranks()
        self._sums: Sums | None = None
        self._known = known
        recipe = {**ABSENT, "head_learning_rate": recipe["learning_rate"], **recipe}
        self.job, self.recipe, self.learner, self.device = job, recipe, learner, device
        self.train_rows, self.validation = train, validation
        self.progress, self.stop = progress, stop
        self.position = Position(accumulation=int(recipe["accumulation"]))
        self.best_weights: dict[str, Any] = {}
        self.start_weights: dict[str, Any] = {}
        self.mean_weights: dict[str, Any] = {}
        self.budget = learner.batch_budget(recipe)
        learner.choose_trainable(recipe)
        set_dropout(learner.model, recipe["dropout"])
        prepare_attention(learner.model, device)
        narrow_stream(learner.model, device)
        learner.model.to(device.name)
        self.lower = lower_layers(learner, recipe, train.examples)
        self.optimiser = adamw(learner.model, learner.outputs, recipe)
        self.fewest_rows = fewest_rows(learner.model)
        self.criterion = loss_of(train.targets, len(learner.outputs), recipe, device.name)
        self.total_steps = self._count_steps(int(recipe["epochs"]))
        self._seen = train.examples
        self.features = RowFeatures(
            learner,
            train,
            device,
            self.lower,
            taken_from=job.features if recipe["keep_features"] else None,
            seed=job.seed,
            budget=self._inference_budget,
            on_shortage=self._infer_less,
            progress=progress,
            stop=stop,
        )
        self._saved_at = time.monotonic()
        self._saved_step = 0
        self.cpu_before = cpu_before
        self.resumed_from_step: int | None = None
        self.utilisation: Utilisation | None = None

    def _plan(self, epoch: int) -> list[NDArray[np.int64]]:
        sampling, seed, rows = str(self.recipe["sampling"]), self.job.seed, None
        if sampling != "none":
            targets = self.train_rows.targets
            truth = targets.flat(np.arange(len(targets)))
            rows = sampled_rows(truth, sampling=sampling, seed=seed, epoch=epoch)
        lengths = self.train_rows.examples.lengths
        return batch_plan(seed=seed, epoch=epoch, lengths=lengths, budget=self.budget, rows=rows)

    def _count_steps(self, epochs: int) -> int:
        """Return the steps of so many epochs; where rows are drawn, each may have as many."""
        lengths = self.train_rows.examples.lengths
        if self.recipe["sampling"] == "none" or lengths.min() == lengths.max():
            return len(self._plan(0)) * epochs
        return sum(len(self._plan(epoch)) for epoch in range(epochs))

    # -- checkpoints

    def save(self) -> None:
        """Write a checkpoint of this moment, unless this very step is on the disk already."""
        if 0 < self.position.step == self._saved_step:
            return
        self.position.seconds = self.stop.seconds()
        self.position.cpu_seconds = self.cpu_seconds()
        model = self.learner.model
        tensors = {"model": learned(model), "optimiser": moments(self.optimiser, model)}
        if self.best_weights:
            tensors["best"] = self.best_weights
        if self.start_weights:
            tensors["start"] = self.start_weights
        if self.mean_weights:
            tensors["mean"] = self.mean_weights
        state = {"position": asdict(self.position), "device": asdict(self.device)}
        checkpoints.write(self.job.directory, self.position.step, tensors, state)
        self._saved_step = self.position.step
        self._saved_at = time.monotonic()

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go back to where a checkpoint was written."""
        self.position = Position(**checkpoint.state["position"])
        self.resumed_from_step = checkpoint.step
        self._saved_step = self.position.step
        put_learned(self.learner.model, checkpoint.tensors["model"])
        put_moments(self.optimiser, self.learner.model, checkpoint.tensors.get("optimiser", {}))
        self.best_weights = checkpoint.tensors.get("best", {})
        self.start_weights = checkpoint.tensors.get("start", {})
        self.mean_weights = checkpoint.tensors.get("mean", {})
        self.stop.spent_before_seconds = self.position.seconds
        self.cpu_before = self.position.cpu_seconds

    def cpu_seconds(self) -> float:
        """Return CPU time spent, earlier attempts and other ranks included."""
        return self.cpu_before + time.process_time() + self.progress.cpu_seconds_elsewhere

    # -- the run

    def train(self) -> None:
        """Run to the end and leave the best version in the learner's model.

        Raises:
            Preempted: SIGTERM came; a whole checkpoint is on the disk.
            TrainingError: the run cannot end well.
        """
        try:
            self._heed_kills()
            if not self.position.is_head_ready:
                self._start_head()
            if not self.position.is_judged:
                self._judge()
            if self._may_train_on():
                self.features.run_frozen()
            while self._may_train_on():
                self._train_epoch()
        except Preempted:
            self.save()
            raise
        if not self.position.is_settled:
            self._settle()

    def _settle(self) -> None:
        """Have the model be the version: the best epoch or a mean, and a share of the start."""
        if self.best_weights or self.mean_weights:
            put_learned(self.learner.model, self.best_weights or self.mean_weights)
        if self.start_weights and self.position.step:
            model, share = self.learner.model, float(self.recipe["start_share"])
            weights = {name: value.detach() for name, value in model.named_parameters()}
            put_learned(model, averaged(self.start_weights, weights, share))
        self.position.is_settled = True

    def final_scores(self) -> probe.Features:
        """Return the answers of the trained version to the validation rows, shape (n, k).

        Of tokens: on all of theirs.

        Raises:
            Preempted: SIGTERM came; a whole checkpoint of the end is on the disk.
        """
        try:
            return self._validation_scores()
        except Preempted:
            self.save()
            raise

    def kept_features(self) -> KeptFeatures | None:
        """Return what the trained version's layers say of rows, for the run that goes on from it.

        None where the recipe keeps none of them, or the run has no more time or memory for it.

        Raises:
            Preempted: SIGTERM came; a whole checkpoint of the end is on the disk.
        """
        is_wanted = self.recipe["keep_features"] and self.job.keeps_features
        if not is_wanted or self.is_budget_spent():
            return None
        try:
            has_trained = bool(self.position.step)
            if not has_trained:
                self.position.n_features_taken = self.features.take_over()
            return self.features.kept(has_trained=has_trained)
        except Preempted:
            self.save()
            raise
        except (DeadlineExceeded, OutOfMemory, MemoryError):
            return None  # the version is whole without

    def _is_out_of_patience(self) -> bool:
        patience = self.recipe["patience"]
        if patience is None or self.validation is None:
            return False
        return self.position.epoch - self.position.best_epoch >= int(patience)

    def _may_climb_on(self) -> bool:
        """Return whether the layers below the head are to be trained, or trained further."""
        if self.position.is_enough or "top" not in self.recipe["rungs"]:
            return False
        return self.position.batch > 0 or not self.is_budget_spent()

    def _may_train_on(self) -> bool:
        """Return whether another epoch is to be begun, or the one under way ended."""
        is_over = self.position.is_settled or self.position.epoch >= int(self.recipe["epochs"])
        return not is_over and self._may_climb_on() and not self._is_out_of_patience()

    def is_budget_spent(self) -> bool:
        """Return whether no further rung or epoch is to be begun."""
        budget = self.recipe["budget_seconds"]
        return budget is not None and self.cpu_seconds() >= float(budget)

    def _start_head(self) -> None:
        """Set the head as the recipe says, and judge it as epoch 0."""
        position = self.position
        position.rungs = []  # an attempt that was stopped here climbs anew
        head = HeadRungs(
            self.job,
            self.recipe,
            self.learner,
            self.device,
            self.train_rows.targets,
            self.features,
            position,
            known=self._known,
            check=self.stop.check,
            cpu_seconds=self.cpu_seconds,
            is_budget_spent=self.is_budget_spent,
        )
        is_fitted = head.climb()
        position.is_head_ready, position.is_judged = True, False
        if self.recipe["start_share"] and is_fitted and self.learner.is_pretrained:
            self.start_weights = learned(self.learner.model)
        self._judge()

    def _inference_budget(self) -> int:
        usual = max(self.budget, 4 * int(self.train_rows.examples.lengths.min()))
        return self.position.inference_budget or usual

    # -- when memory runs out

    def _heed_kills(self) -> None:
        """Cut batches into more parts where the kernel killed an earlier attempt for memory."""
        least = self.job.least_accumulation
        if self.position.accumulation < least:
            self.position.inference_budget = max(1, self._inference_budget() // least)
            self._note_shortage("killed", least, "the kernel ended the process")

    def _accumulate_more(self, rows: NDArray[np.int64], n_parts: int, said: str) -> None:
        if not n_parts:
            longest = int(self.train_rows.examples.lengths[rows].max())
            raise OutOfMemory(
                f"{self.fewest_rows} rows of cost {longest} do not fit the memory ({said}); "
                "shorten the inputs, train fewer layers (trainable_layers), take a smaller base "
                "model or give the worker more memory"
            )
        self.optimiser.zero_grad(set_to_none=True)
        self._note_shortage("train", n_parts, said)

    def _infer_less(self, phase: str, budget: int, said: str) -> None:
        self.position.inference_budget = budget
        self._note_shortage(phase, self.position.accumulation, said)

    def _note_shortage(self, phase: str, accumulation: int, said: str) -> None:
        position = self.position
        position.accumulation = accumulation
        found = {"phase": phase, "step": position.step, "accumulation": accumulation, "said": said}
        position.shortages.append({**found, "inference_budget": self._inference_budget()})
        self.progress.say(
            phase, at_once=True, step=position.step, total_steps=self.total_steps, shortage=found
        )

    def _judge(self) -> None:
        """Score the validation rows and remember the version if it is the best so far."""
        if self.validation is None:
            self.position.is_judged = True
            return
        position, targets = self.position, self.validation.targets
        with self._averaged():
            found = targets.summarise(self._validation_scores(), self.learner.outputs)
            figures = {name: float(found[name]) for name in targets.judged_by}
            position.history.append({"epoch": position.epoch, **figures})
            value = [sign * figures[name] for name, sign in targets.judged_by.items()]
            if not position.best or value > position.best:
                position.best, position.best_epoch = value, position.epoch
                self.best_weights = learned(self.learner.model)
        position.is_judged = True
        self.progress.say(
            "evaluate",
            at_once=True,
            step=position.step,
            total_steps=self.total_steps,
            epoch=position.epoch,
            validation={name: value for name, value in found.items() if name != "by_class"},
        )

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Have the model stand where the version would: at the mean of the steps averaged."""
        if not self.mean_weights:
            yield
            return
        present = learned(self.learner.model)
        put_learned(self.learner.model, self.mean_weights)
        try:
            yield
        finally:
            put_learned(self.learner.model, present)

    def _validation_scores(self) -> probe.Features:
        """Return the present version's answers to the validation rows, shape (n, k).

        Of one that tells of tokens what it says of each.
        """
        if self.validation is None:
            return np.zeros((0, len(self.learner.outputs)), dtype=np.float32)

        def between(_: int) -> None:
            self.stop.check()
            self.progress.say("evaluate", step=self.position.step, total_steps=self.total_steps)

        between(0)
        if isinstance(self.learner, TellsTokens):
            return self.learner.told(
                self.validation.examples,
                budget=self._inference_budget(),
                between=between,
                on_shortage=lambda budget, said: self._infer_less("evaluate", budget, said),
            )
        _, logits = probe.infer(
            self.learner,
            self.validation.examples,
            budget=self._inference_budget(),
            between=between,
            lower=self.lower,
            states=self.validation.states,
            on_shortage=lambda budget, said: self._infer_less("evaluate", budget, said),
        )
        return self.criterion.answers(logits)

    # -- with other ranks

    def follow(self) -> NoReturn:
        """Compute this rank's share of every step that rank 0 takes; ends with rank 0."""
        self.features.run_frozen()
        self.ranks.say_ready()
        self._meet(**self.ranks.told())
        position = self.position
        plan: list[NDArray[np.int64]] = []
        while True:
            told = self.ranks.told()
            position.step, position.accumulation = told["step"], told["accumulation"]
            if not plan or told["epoch"] != position.epoch:
                position.epoch = told["epoch"]
                plan = self._began(position.epoch)
            self._step(plan[told["batch"]])

    def _gather(self) -> None:
        """Have the other ranks, if there are any, stand where this one stands."""
        if self.ranks.size == 1 or self._sums is not None:
            return
        self.ranks.wait_until_ready(self.stop.check)
        names = list(moments(self.optimiser, self.learner.model))
        store = self.job.directory / f"{STORE}{uuid.uuid4().hex}"
        for old in self.job.directory.glob(f"{STORE}*"):
            old.unlink()
        self.ranks.tell(store=str(store), names=names)
        self._meet(str(store), names)

    def _meet(self, store: str, names: Sequence[str]) -> None:
        """Join the other ranks and take over what rank 0 has learned, with moments of names."""
        ranks, model, device = self.ranks, self.learner.model, self.device.name
        own = moments(self.optimiser, model)
        like = dict(model.named_parameters())
        for name in names if ranks.rank else ():
            kind, _, parameter = name.partition(":")
            shape = () if kind == "step" else like[parameter].shape
            own[name] = torch.zeros(shape, device=device)

        def take_over() -> None:
            meet(Path(store), rank=ranks.rank, size=ranks.size, device=device)
            put_learned(model, sent(learned(model)))
            put_moments(self.optimiser, model, sent(own))

        ranks.together(take_over)
        self._sums = Sums(model, rank=ranks.rank, size=ranks.size)

    def _shares(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Return each rank's share of a batch; of a small one the last ranks have none."""
        size = self.ranks.size
        found = cut(rows, min(size, max(1, len(rows) // self.fewest_rows)))
        return found + [rows[:0]] * (size - len(found))

    def _share(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._shares(rows)[self.ranks.rank]

    def _added_up(self, sums: Sums, loss: float) -> float:
        """Have every rank's gradients be those of the whole batch; return its loss."""
        position = self.position
        figures = [loss, position.accumulation, time.process_time()]
        found = self.ranks.together(lambda: sums.add_up(figures))
        losses, parts, seconds = found.T
        self.progress.cpu_seconds_elsewhere = float(seconds.sum() - seconds[self.ranks.rank])
        if parts.max() > position.accumulation:
            self._note_shortage("train", int(parts.max()), "the memory of another process ran out")
        return float(losses.sum())

    # -- steps

    def _began(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the batches of an epoch, its rows made ready."""
        if isinstance(self.learner, Augments):
            self._seen = self.learner.augmented(
                self.train_rows.examples, seed=self.job.seed, epoch=epoch
            )
        return self._plan(epoch)

    def _train_epoch(self) -> None:
        self.features.forget()
        plan = self._began(self.position.epoch)
        if self.utilisation is None:
            self.utilisation = self._measured(self._share(plan[0]))
        self._gather()
        started, rows_done, steps_done = time.monotonic(), 0, 0
        while self.position.batch < len(plan):
            self.stop.check()
            self._save_if_due()
            rows = plan[self.position.batch]
            began = time.monotonic()
            self.ranks.tell(
                step=self.position.step,
                epoch=self.position.epoch,
                batch=self.position.batch,
                accumulation=self.position.accumulation,
            )
            loss = self._step(rows)
            if self.utilisation is not None:
                parts = cut(self._share(rows), self.position.accumulation)
                self.utilisation.add(sum(map(self._cost_of, parts)), time.monotonic() - began)
            self._watch(loss)
            self.position.step += 1
            self.position.batch += 1
            rows_done += len(rows)
            steps_done += 1
            seconds = max(1e-9, time.monotonic() - started)
            self._report(loss, rows_done / seconds, seconds / steps_done)
        self.position.epoch += 1
        self.position.batch = 0
        self.position.is_judged = False
        self._judge()

    def _cost_of(self, rows: NDArray[np.int64]) -> int:
        return len(rows) * int(self.train_rows.examples.lengths[rows].max())

    def _measured(self, rows: NDArray[np.int64]) -> Utilisation:
        """Count what a step on rows of a batch takes; nothing is learned from it."""
        model, rows = self.learner.model, rows[: self.fewest_rows]
        model.eval()

        def each(parts: Sequence[NDArray[np.int64]]) -> float:
            part = parts[0]
            return operations_of(lambda: self._loss_of(part).backward()) / self._cost_of(part)

        operations_per_cost = self._in_parts(rows, each)
        self.optimiser.zero_grad(set_to_none=True)
        return Utilisation(peak_of(self.device), operations_per_cost)

    def _in_parts(
        self, rows: NDArray[np.int64], work: Callable[[Sequence[NDArray[np.int64]]], float]
    ) -> float:
        return in_parts(
            rows,
            self.position.accumulation,
            work,
            fewest=self.fewest_rows,
            on_shortage=lambda n_parts, said: self._accumulate_more(rows, n_parts, said),
        )

    def _save_if_due(self) -> None:
        if time.monotonic() - self._saved_at >= self.job.checkpoint_every_seconds:
            self.save()

    def _step(self, rows: NDArray[np.int64]) -> float:
        """Take one step on one batch; return its loss."""
        model, step = self.learner.model, self.position.step
        factor = rate(step, self.total_steps, warmup_share=float(self.recipe["warmup_share"]))
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * factor
        model.train()
        shares = self._shares(rows)
        own = shares.pop(self.ranks.rank)
        elsewhere = sum(map(self._weight_of, shares))
        if self._sums is not None:
            self._sums.begin()
        loss = 0.0
        if len(own):
            loss = self._in_parts(own, partial(self._gradients, weight_elsewhere=elsewhere))
        if self._sums is not None:
            loss = self._added_up(self._sums, loss)
        learning = [p for p in model.parameters() if p.requires_grad]
        norm = nn.utils.clip_grad_norm_(learning, float(self.recipe["clip_norm"]))
        if not math.isfinite(float(norm)):
            raise self._diverged("the gradient is not finite")
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        is_averaged = step >= self.total_steps * (1 - float(self.recipe["average_share"]))
        if is_averaged and self.ranks.rank == 0:
            self.mean_weights = add_to_mean(self.mean_weights, model, self.position.n_averaged)
            self.position.n_averaged += 1
        return loss

    def _gradients(
        self, parts: Sequence[NDArray[np.int64]], weight_elsewhere: float = 0.0
    ) -> float:
        """Add up the gradients of a batch, each part by the weight of its rows; return its loss.

        What is random in a step comes from a source of each part, and batch normalisation sees
        one part at a time; otherwise the number of parts changes nothing but the rounding.

        Args:
            parts: of this rank's share.
            weight_elsewhere: of the rows of other ranks' shares.
        """
        weights = list(map(self._weight_of, parts))
        whole = sum(weights) + weight_elsewhere
        first = self.ranks.rank * len(parts)
        total = 0.0
        for number, (part, weight) in enumerate(zip(parts, weights, strict=True), first):
            if not weight:  # rows without a token that an answer is about
                continue
            draw = seed_step(self.job.seed, self.position.step, number)
            loss = self._loss_of(part, draw=draw) * (weight / whole)
            loss.backward()
            total += float(loss.detach())
        return total

    def _weight_of(self, rows: NDArray[np.int64]) -> float:
        """Return how much rows count among those of their batch."""
        return self.criterion.weight(self.train_rows.targets.flat(rows))

    def _loss_of(self, rows: NDArray[np.int64], *, draw: np.random.Generator | None = None) -> Any:
        """Return the loss of some rows, as an epoch sees them where chance is to have a say."""
        model, strength = self.learner.model, float(self.recipe["mixup"])
        examples = self.train_rows.examples if draw is None else self._seen
        batch = self.learner.collate(examples, rows, draw=draw)
        truth = torch.from_numpy(self.train_rows.targets.batch(rows)).to(self.device.name)
        mix = mixing.drawn(len(rows), strength, draw) if strength and draw is not None else None
        blended: AbstractContextManager[None] = nullcontext()
        if mix is not None and mixing.mixes_inputs(batch):
            batch = mixing.mixed_inputs(batch, mix)
        elif mix is not None:
            blended = mixing.mixed_features(find_head(model, len(self.learner.outputs)), mix)
        with self.device.autocast(), blended:
            output = probe.forward(model, batch, rows, self.lower, self.train_rows.states)
        logits = output.logits.float()  # (batch, k), or (batch, seq, k) of tokens
        if mix is not None:
            return mix.loss(self.criterion, logits, truth)
        return self.criterion(logits, truth)

    def _watch(self, loss: float) -> None:
        """Stop a run whose loss is no number, or far above what guessing would give."""
        if not math.isfinite(loss):
            raise self._diverged("the loss is not finite")
        before = self.position.smooth_loss
        smooth = loss if before is None else LOSS_MEMORY * before + (1 - LOSS_MEMORY) * loss
        self.position.smooth_loss = smooth
        guessing = self.criterion.guessing
        if self.position.step >= PATIENT_STEPS and smooth > DIVERGED_FACTOR * guessing:
            raise self._diverged(f"the loss is {smooth:.2f}; guessing gives {guessing:.2f}")

    def _diverged(self, reason: str) -> Diverged:
        return Diverged(
            f"at step {self.position.step} of {self.total_steps} {reason}; lower learning_rate "
            f"(now {self.recipe['learning_rate']:g}) or raise warmup_share"
        )

    def _report(self, loss: float, rows_per_second: float, seconds_a_step: float) -> None:
        self.progress.say(
            "train",
            step=self.position.step,
            total_steps=self.total_steps,
            epoch=self.position.epoch,
            loss=loss,
            learning_rate=float(self.optimiser.param_groups[0]["lr"]),
            rows_per_second=rows_per_second,
            eta_seconds=(self.total_steps - self.position.step) * seconds_a_step,
            memory_bytes=memory_bytes(),
            accumulation=self.position.accumulation,
            utilisation=self.utilisation.share if self.utilisation else None,
        )
