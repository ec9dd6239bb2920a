"""How does a version learn from rows, step by step, so that it can stop and go on anywhere?"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from workers.training import checkpoints, ladder, probe
from workers.training.checkpoints import Checkpoint
from workers.training.data import Rows, batch_plan, class_weights
from workers.training.device import Device, memory_bytes
from workers.training.errors import Diverged, RecipeError
from workers.training.job import Job
from workers.training.layers import find_head, prepare_attention, set_dropout
from workers.training.lower import RowStates, lower_layers
from workers.training.metrics import accuracy, log_loss
from workers.training.optimiser import (
    adamw,
    averaged,
    learned,
    moments,
    put_learned,
    put_moments,
    rate,
    seed_step,
)
from workers.training.progress import Preempted, Progress, Stop
from workers.training.task_type import Examples, Learner
from workers.training.work import Utilisation, operations_of, peak_of

LOSS_MEMORY = 0.95
DIVERGED_FACTOR = 3.0
PATIENT_STEPS = 20
PROBE_TOLERANCE = {"fp32": 1e-3, "bf16": 2e-2}
"""Gap in probability: bf16 keeps eight bits of a logit."""
N_CHECKED = 64


@dataclass(slots=True)
class Position:
    """Where a run is; everything in it goes into a checkpoint.

    Attributes:
        best: (accuracy, -log loss) on validation of the best epoch so far; empty without.
        best_epoch: how many epochs that version had seen; 0 is the head alone.
        history: one object of validation figures an epoch.
        rungs: what each rung climbed so far says of the newest rows.
        is_enough: the last of them suffices.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    is_head_ready: bool = False
    smooth_loss: float | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    best: list[float] = field(default_factory=list)
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    rungs: list[dict[str, Any]] = field(default_factory=list)
    is_enough: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows made ready: encoded once, their class indices, and what frozen layers say of them."""

    examples: Examples
    truth: NDArray[np.int64]
    states: RowStates

    @classmethod
    def of(cls, learner: Learner, rows: Rows) -> "Prepared":
        """Encode rows."""
        examples = learner.encode(rows.inputs)
        truth = rows.indices(learner.labels)
        return cls(examples, truth, RowStates(examples.lengths))


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
            known: labels that the start's head has learned.
        """
        self._is_new = ladder.new_classes(learner.labels, known) if known else None
        self.job, self.recipe, self.learner, self.device = job, recipe, learner, device
        self.train_rows, self.validation = train, validation
        self.progress, self.stop = progress, stop
        self.position = Position()
        self.best_weights: dict[str, Any] = {}
        self.start_weights: dict[str, Any] = {}
        self.budget = learner.batch_budget(recipe)
        learner.choose_trainable(recipe)
        set_dropout(learner.model, recipe["dropout"])
        prepare_attention(learner.model, device)
        learner.model.to(device.name)
        self.lower = lower_layers(learner, recipe, train.examples)
        self.optimiser = adamw(learner.model, learner.labels, recipe)
        weights = class_weights(
            train.truth, len(learner.labels), power=float(recipe["class_weight_power"])
        )
        self.criterion = nn.CrossEntropyLoss(
            weight=torch.from_numpy(weights).to(device.name),
            label_smoothing=float(recipe["label_smoothing"]),
        )
        n_batches = len(self._plan(0))
        self.total_steps = n_batches * int(recipe["epochs"])
        self._saved_at = time.monotonic()
        self._saved_step = 0
        self._cpu_before = 0.0
        self.utilisation: Utilisation | None = None

    def _plan(self, epoch: int) -> list[NDArray[np.int64]]:
        return batch_plan(
            seed=self.job.seed,
            epoch=epoch,
            lengths=self.train_rows.examples.lengths,
            budget=self.budget,
        )

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
        state = {"position": asdict(self.position), "device": asdict(self.device)}
        checkpoints.write(self.job.directory, self.position.step, tensors, state)
        self._saved_step = self.position.step
        self._saved_at = time.monotonic()

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go back to where a checkpoint was written."""
        self.position = Position(**checkpoint.state["position"])
        self._saved_step = self.position.step
        put_learned(self.learner.model, checkpoint.tensors["model"])
        put_moments(self.optimiser, self.learner.model, checkpoint.tensors.get("optimiser", {}))
        self.best_weights = checkpoint.tensors.get("best", {})
        self.start_weights = checkpoint.tensors.get("start", {})
        self.stop.spent_before_seconds = self.position.seconds
        self._cpu_before = self.position.cpu_seconds

    def cpu_seconds(self) -> float:
        """Return CPU time spent, earlier attempts included."""
        return self._cpu_before + time.process_time()

    # -- the run

    def train(self) -> None:
        """Run to the end and leave the best version in the learner's model.

        Raises:
            Preempted: SIGTERM came; a whole checkpoint is on the disk.
            TrainingError: the run cannot end well.
        """
        try:
            if not self.position.is_head_ready:
                self._start_head()
            if self._may_climb_on() and self.lower and not self.train_rows.states.is_full:
                self._look_at_rows()
            while self._may_climb_on() and self.position.epoch < int(self.recipe["epochs"]):
                self._train_epoch()
                if self._is_out_of_patience():
                    break
        except Preempted:
            self.save()
            raise
        if self.best_weights:
            put_learned(self.learner.model, self.best_weights)
        if self.start_weights and self.position.step:
            share = float(self.recipe["start_share"])
            end = learned(self.learner.model)
            put_learned(self.learner.model, averaged(self.start_weights, end, share))

    def _is_out_of_patience(self) -> bool:
        patience = self.recipe["patience"]
        if patience is None or self.validation is None:
            return False
        return self.position.epoch - self.position.best_epoch >= int(patience)

    def _may_climb_on(self) -> bool:
        """Return whether the layers below the head are to be trained, or trained further."""
        budget = self.recipe["budget_seconds"]
        if self.position.is_enough or "top" not in self.recipe["rungs"]:
            return False
        return budget is None or self.cpu_seconds() < float(budget)

    def _start_head(self) -> None:
        """Set the head as the recipe says, and judge it as epoch 0."""
        wanted = str(self.recipe["head"])
        if wanted in {"auto", "keep"} and self._is_new is not None and self._is_new.any():
            self._climb_to_centroids(self._is_new)
        is_pretrained = self.learner.is_pretrained
        probes = wanted == "probe" or (wanted == "auto" and is_pretrained)
        if probes and not self.position.is_enough and "probe" in self.recipe["rungs"]:
            self._probe_head()
        elif not self.position.rungs and wanted != "keep" and not self._trains():
            raise RecipeError(
                "this recipe learns nothing here: allow the rung 'probe', or an epoch of 'top'"
            )
        self.position.is_head_ready = True
        if self.recipe["start_share"] and wanted != "random" and is_pretrained:
            self.start_weights = learned(self.learner.model)
        self._judge()

    def _trains(self) -> bool:
        return int(self.recipe["epochs"]) > 0 and "top" in self.recipe["rungs"]

    @property
    def _newest(self) -> NDArray[np.int64]:
        """Rows that no version has learned from before."""
        n = len(self.train_rows.truth)
        count = n if self.job.n_newest is None else min(n, self.job.n_newest)
        return np.arange(n - count, n, dtype=np.int64)

    def _climb_to_centroids(self, is_new: NDArray[np.bool_]) -> None:
        """Give the new classes rows of the head; all other classes stay as they are."""
        head, rows = find_head(self.learner.model, len(self.learner.labels)), self._newest
        if head.bias is None or not len(rows):
            return
        weight, bias, is_right = ladder.centroid_rows(
            self._features(rows)[rows],
            self.train_rows.truth[rows],
            head.weight.detach().cpu().numpy(),
            head.bias.detach().cpu().numpy(),
            is_new,
        )
        probe.put_rows(head, weight, bias)
        if "centroid" in self.recipe["rungs"]:
            self._reached("centroid", is_right)

    def _reached(self, rung: str, is_right: NDArray[np.float64]) -> None:
        """Note what a rung's version says of the newest rows, and whether that is enough."""
        found = ladder.judged(rung, is_right, self.recipe["sufficient"], self.cpu_seconds())
        self.position.rungs.append(asdict(found))
        self.position.is_enough = found.is_enough

    def _probe_head(self) -> None:
        learner, rows = self.learner, self.train_rows
        features = self._look_at_rows()
        fitted = probe.fit(features, rows.truth, len(learner.labels), seed=self.job.seed)
        probe.put_into(learner.model, fitted)
        self._check_head(fitted, features[:N_CHECKED])
        self._reached("probe", fitted.is_right[self._newest])

    def _look_at_rows(self) -> probe.Features:
        """Return the features of the training rows; frozen layers are done with them after."""
        return self._features(None)

    def _features(self, only: NDArray[np.int64] | None) -> probe.Features:
        """Return what the head sees of the training rows, or of some with all else 0."""
        n_rows = len(self.train_rows.truth if only is None else only)

        def between(done: int) -> None:
            self.stop.check()
            self.progress.say("probe", step=done, total_steps=n_rows, memory_bytes=memory_bytes())

        between(0)
        features, _ = probe.infer(
            self.learner,
            self.train_rows.examples,
            budget=self._inference_budget(),
            between=between,
            lower=self.lower,
            states=self.train_rows.states,
            autocast=self.device.autocast,
            only=only,
        )
        return features

    def _check_head(self, fitted: probe.Probe, features: probe.Features) -> None:
        """Make sure that the model now says what the probe says: step 0 is the probe."""
        model = self.learner.model
        model.eval()
        rows = np.arange(len(features), dtype=np.int64)
        with torch.inference_mode(), self.device.autocast():
            batch = self.learner.collate(self.train_rows.examples, rows)
            logits = model(**batch).logits.float().cpu().numpy()
        gap = probe.disagreement(fitted, features, logits)
        if not gap <= PROBE_TOLERANCE[self.device.precision]:
            raise Diverged(f"the model does not say what its probe says: {gap:.2g} apart")

    def _inference_budget(self) -> int:
        return max(self.budget, 4 * int(self.train_rows.examples.lengths.min()))

    def _judge(self) -> None:
        """Score the validation rows and remember the version if it is the best so far."""
        if self.validation is None:
            return
        scores = self.validation_scores()
        truth = self.validation.truth
        figures = {"accuracy": accuracy(truth, scores), "log_loss": log_loss(truth, scores)}
        self.position.history.append({"epoch": self.position.epoch, **figures})
        value = [figures["accuracy"], -figures["log_loss"]]
        if not self.position.best or value > self.position.best:
            self.position.best = value
            self.position.best_epoch = self.position.epoch
            self.best_weights = learned(self.learner.model)

    def validation_scores(self) -> probe.Features:
        """Return the present version's probabilities on the validation rows, shape (n, k)."""
        if self.validation is None:
            return np.zeros((0, len(self.learner.labels)), dtype=np.float32)
        self.progress.say("evaluate", step=self.position.step, total_steps=self.total_steps)
        _, logits = probe.infer(
            self.learner,
            self.validation.examples,
            budget=self._inference_budget(),
            lower=self.lower,
            states=self.validation.states,
        )
        return probe.softmax(logits)

    def _train_epoch(self) -> None:
        plan = self._plan(self.position.epoch)
        if self.utilisation is None:
            self.utilisation = self._measured(plan[0])
        started, rows_done, steps_done = time.monotonic(), 0, 0
        while self.position.batch < len(plan):
            self.stop.check()
            self._save_if_due()
            rows = plan[self.position.batch]
            began = time.monotonic()
            loss = self._step(rows)
            if self.utilisation is not None:
                self.utilisation.add(self._cost_of(rows), time.monotonic() - began)
            self._watch(loss)
            self.position.step += 1
            self.position.batch += 1
            rows_done += len(rows)
            steps_done += 1
            seconds = max(1e-9, time.monotonic() - started)
            self._report(loss, rows_done / seconds, seconds / steps_done)
        self.position.epoch += 1
        self.position.batch = 0
        self._judge()

    def _cost_of(self, rows: NDArray[np.int64]) -> int:
        return len(rows) * int(self.train_rows.examples.lengths[rows].max())

    def _measured(self, rows: NDArray[np.int64]) -> Utilisation:
        """Count what a step on a batch takes; nothing is learned from it."""
        model = self.learner.model
        model.eval()

        def work() -> None:
            self._loss_of(rows).backward()

        operations = operations_of(work)
        self.optimiser.zero_grad(set_to_none=True)
        return Utilisation(peak_of(self.device), operations / self._cost_of(rows))

    def _save_if_due(self) -> None:
        if time.monotonic() - self._saved_at >= self.job.checkpoint_every_seconds:
            self.save()

    def _step(self, rows: NDArray[np.int64]) -> float:
        """Take one step on one batch; return its loss."""
        model, step = self.learner.model, self.position.step
        draw = seed_step(self.job.seed, step)
        factor = rate(step, self.total_steps, warmup_share=float(self.recipe["warmup_share"]))
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * factor
        model.train()
        loss = self._loss_of(rows, draw=draw)
        loss.backward()
        learning = [p for p in model.parameters() if p.requires_grad]
        norm = nn.utils.clip_grad_norm_(learning, float(self.recipe["clip_norm"]))
        if not math.isfinite(float(norm)):
            raise self._diverged("the gradient is not finite")
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return float(loss.detach())

    def _loss_of(self, rows: NDArray[np.int64], *, draw: np.random.Generator | None = None) -> Any:
        batch = self.learner.collate(self.train_rows.examples, rows, draw=draw)
        truth = torch.from_numpy(self.train_rows.truth[rows]).to(self.device.name)
        with self.device.autocast():
            output = probe.forward(
                self.learner.model, batch, rows, self.lower, self.train_rows.states
            )
        return self.criterion(output.logits.float(), truth)

    def _watch(self, loss: float) -> None:
        """Stop a run whose loss is no number, or far above what guessing would give."""
        if not math.isfinite(loss):
            raise self._diverged("the loss is not finite")
        before = self.position.smooth_loss
        smooth = loss if before is None else LOSS_MEMORY * before + (1 - LOSS_MEMORY) * loss
        self.position.smooth_loss = smooth
        guessing = math.log(len(self.learner.labels))
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
            utilisation=self.utilisation.share if self.utilisation else None,
        )
