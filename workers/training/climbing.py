"""How does a run go on where the first rung that trains layers does not suffice?

`top` trains what the recipe says, `lora` all layers by narrow matrices, `full` all of them. Each
starts from the best version so far and is judged on the rows set apart; the best of all becomes
the run's. A rung that is done leaves its version and its figures in the run's directory, so that a
run that was stopped goes on with the one that was under way.
"""

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from workers.training import checkpoints, device, ladder
from workers.training.device import Device
from workers.training.errors import Diverged, OutOfMemory, RecipeError
from workers.training.files import check_artifact, read_json, replace_directory, write_json
from workers.training.job import FEATURES, Job
from workers.training.kept_features import KeptFeatures, leave
from workers.training.loop import Loop
from workers.training.position import Prepared
from workers.training.progress import Stop
from workers.training.ranks import Ranks
from workers.training.recipes import ABSENT
from workers.training.targets import RowTargets
from workers.training.task_type import BringsLearner, FitsRows, Learner
from workers.training.trainer import Order, Trained, check_start, start_directory

TRAINED: Final = ("top", "lora", "full")
"""The rungs that train layers, cheapest first."""
LORA_RANK: Final = 8
"""Of the rung `lora`, where the recipe names none."""
FIGURES: Final = "rung.json"
VERSION: Final = "version"


@dataclass(frozen=True, slots=True)
class Rung:
    """A rung that is done.

    Attributes:
        figures: what result.json would say of a run that ended here.
        value: what the targets judge it by, of the rows set apart; more is better.
        cpu_seconds: of the run, once it stood here.
        seconds: likewise, by the clock.
        is_last: it suffices, or the budget is spent.
        device: that it was computed on, as a checkpoint has it.
    """

    name: str
    figures: Mapping[str, Any]
    value: tuple[float, ...]
    step: int
    total_steps: int
    cpu_seconds: float
    seconds: float
    is_last: bool
    device: Mapping[str, Any]


def climb(order: Order, task_type: BringsLearner, ranks: Ranks) -> Trained:
    """Let the loop train a version, by batches and gradients, rung by rung.

    A rung above the first that cannot be trained is noted with its reason; the version is then that
    of another.

    Raises:
        RecipeError: the recipe cannot be used.
        Preempted: SIGTERM came; a whole checkpoint is on the disk.
    """
    job, recipe = order.job, order.recipe
    names = rungs_of(recipe)
    if len(names) > 1:
        _check(order, names, ranks)
    done = _all_kept(job, names[:-1])
    stored = order.checkpoint.state["device"] if order.checkpoint else None
    chosen = device_of(job, recipe, done[-1].device if done else stored, ranks.size)
    resumed = None if order.checkpoint is None else order.checkpoint.step
    cpu_before = 0.0
    if done:
        order.stop.spent_before_seconds = done[-1].seconds
        resumed, cpu_before = done[-1].step, done[-1].cpu_seconds
    loop: Loop | None = None
    rows: tuple[Prepared, Prepared | None] | None = None
    for name in names[len(done) :]:
        if done and done[-1].is_last:
            break
        loop = None  # before the next one needs its memory
        try:
            loop = _loop_of(order, task_type, ranks, chosen, name, done, rows, cpu_before)
            loop.train()
            rung, features = _with_features(loop, _judge(loop, recipe, name, done), names)
        except (OutOfMemory, Diverged, RecipeError) as error:
            if not done:
                raise
            spent = cpu_before + time.process_time()
            rung = _failed(name, str(error), done, chosen, order.stop, spent)
            features = None
        if loop is not None:
            cpu_before = loop.cpu_before
            rows = loop.train_rows.anew(), loop.validation.anew() if loop.validation else None
            resumed = loop.resumed_from_step if loop.resumed_from_step is not None else resumed
        done.append(rung)
        if name != names[-1]:
            _keep(loop, rung, features, job)
        order = replace(order, checkpoint=None)
    ended = _ended(job, done, loop, resumed_from_step=resumed, is_one_of_many=len(names) > 1)
    if loop is not None and _best(done) is done[-1]:
        return replace(ended, features=features)
    return replace(ended, features=KeptFeatures.read(_place(job, _best(done).name) / FEATURES))


def _with_features(
    loop: Loop, rung: Rung, names: Sequence[str]
) -> tuple[Rung, KeptFeatures | None]:
    """Return a rung, and what its version's layers say of rows where the climb ends with it."""
    if not rung.is_last and rung.name != names[-1]:
        return rung, None
    features = loop.kept_features()
    figures = {**rung.figures, "n_features_taken": loop.position.n_features_taken}
    return replace(rung, figures=figures, cpu_seconds=loop.cpu_seconds()), features


def _ended(
    job: Job,
    done: Sequence[Rung],
    loop: Loop | None,
    *,
    resumed_from_step: int | None,
    is_one_of_many: bool,
) -> Trained:
    """Return the version of the best rung, with what the run says of all.

    Args:
        job: the run's.
        done: its rungs.
        loop: of the last of them, unless another attempt did that.
        resumed_from_step: where this attempt went on.
        is_one_of_many: the run might have trained by more than one rung.
    """
    best = _best(done)
    figures = {
        **best.figures,
        "rungs": done[-1].figures["rungs"],
        "shortages": [one for rung in done for one in rung.figures.get("shortages", ())],
        "cpu_seconds": done[-1].cpu_seconds,
        "n_features_taken": max(rung.figures.get("n_features_taken", 0) for rung in done),
        "resumed_from_step": resumed_from_step,
    }
    if is_one_of_many:
        climbed = [one["name"] for one in best.figures["rungs"]]
        figures["rung"] = best.name if best.step else climbed[-1] if climbed else None
    if loop is None or best is not done[-1]:
        kept = _place(job, best.name) / VERSION
        return Trained(lambda to: _copy(kept, to), best.step, best.total_steps, figures)
    loop.learner.model.to("cpu")
    return Trained(loop.learner.save, best.step, best.total_steps, figures)


def _best(done: Sequence[Rung]) -> Rung:
    """Return the best rung, the cheaper one of equals."""
    return max(done, key=lambda rung: rung.value)


def rungs_of(recipe: Mapping[str, Any]) -> list[str]:
    """Return a recipe's rungs that train layers, cheapest first; one at least, to run the loop."""
    wanted = recipe.get("rungs", ABSENT["rungs"])
    return [name for name in TRAINED if name in wanted] or [TRAINED[0]]


def recipe_of(name: str, recipe: Mapping[str, Any], *, is_first: bool) -> dict[str, Any]:
    """Return the recipe of one rung that trains layers.

    Args:
        name: of the rung.
        recipe: the run's.
        is_first: the cheap rungs that train none come before it; a later one keeps the head.
    """
    own: dict[str, Any] = {}
    if "rungs" in recipe:
        cheap = [rung for rung in recipe["rungs"] if rung not in TRAINED]
        trains = any(rung in TRAINED for rung in recipe["rungs"])
        own["rungs"] = [*(cheap if is_first else []), *(TRAINED[:1] if trains else [])]
    if not is_first:
        own |= {"head": "keep", "sufficient": None}
    if name != TRAINED[0]:
        own["trainable_layers"] = None
        own["lora_rank"] = 0 if name == "full" else int(recipe["lora_rank"]) or LORA_RANK
    return {**recipe, **own}


def _check(order: Order, names: Sequence[str], ranks: Ranks) -> None:
    """Refuse a ladder that cannot be climbed.

    Raises:
        RecipeError: what stands in the way.
    """
    said = f"the rungs {', '.join(names)} train layers, one after another"
    if not (order.recipe["validation_share"] or order.job.validation):
        raise RecipeError(
            f"{said}, and each is judged on rows set apart; set validation_share, such as 0.1, or "
            "leave one rung"
        )
    if ranks.size > 1:
        raise RecipeError(f"{said}, in one process; set processes to 1, or leave one rung")
    learns_all = order.recipe["trainable_layers"] is None
    if "top" in names and learns_all and ("lora" in names or not order.recipe["lora_rank"]):
        raise RecipeError(
            "top trains all layers already (trainable_layers is null): leave the rungs above it "
            "out, or let it train the upper ones alone, such as 2"
        )


def _loop_of(
    order: Order,
    task_type: BringsLearner,
    ranks: Ranks,
    chosen: Device,
    name: str,
    done: Sequence[Rung],
    rows: tuple[Prepared, Prepared | None] | None,
    cpu_before: float,
) -> Loop:
    """Return the loop of a rung, where its checkpoint left it if there is one.

    Args:
        order: the run's.
        task_type: that opens versions.
        ranks: the processes that share its batches.
        chosen: to compute on.
        name: of the rung.
        done: the rungs before it.
        rows: to learn from and to judge by, where this process has made them ready.
        cpu_before: CPU time that the run had spent when this process began.
    """
    job, checkpoint = order.job, order.checkpoint
    recipe = recipe_of(name, order.recipe, is_first=not done)
    if done:
        start = _place(job, _best(done).name) / VERSION
        job = replace(job, directory=_place(job, name), start=str(start), start_is_base=False)
        job.directory.mkdir(exist_ok=True)
        checkpoint = checkpoints.latest(job.directory)
    learner, known = open_start(replace(order, job=job), task_type)
    if not done:
        ranks.tell(**asdict(chosen))  # nor is the start made twice
    if rows is None:
        judges = order.data.validation
        rows = (
            Prepared.of(learner, order.data.train),
            None if judges is None else Prepared.of(learner, judges),
        )
    loop = Loop(
        job, recipe, learner, chosen, *rows, order.progress, order.stop,
        known=known, ranks=ranks, cpu_before=cpu_before,
    )  # fmt: skip
    if checkpoint is not None:
        loop.resume(checkpoint)
    return loop


def _failed(
    name: str, said: str, done: Sequence[Rung], chosen: Device, stop: Stop, cpu_seconds: float
) -> Rung:
    """Return a rung that could not be trained; no version is its."""
    found = ladder.Judged(name, None, 0, cpu_seconds, is_enough=False)
    rungs = [*done[-1].figures["rungs"], {**asdict(found), "error": said}]
    return Rung(
        name=name,
        figures={"rungs": rungs},
        value=(),
        step=0,
        total_steps=0,
        cpu_seconds=cpu_seconds,
        seconds=stop.seconds(),
        is_last=False,
        device=asdict(chosen),
    )


def _judge(loop: Loop, recipe: Mapping[str, Any], name: str, done: Sequence[Rung]) -> Rung:
    """Return what a rung that has come to its end says of the rows set apart."""
    position, rows = loop.position, loop.validation
    metrics: dict[str, Any] = {}
    value: tuple[float, ...] = ()
    is_right = np.empty(0)
    if rows is not None:
        scores = loop.final_scores()
        metrics = rows.targets.summarise(scores, loop.learner.outputs)
        value = tuple(sign * float(metrics[key]) for key, sign in rows.targets.judged_by.items())
        if isinstance(rows.targets, RowTargets):
            is_right = np.asarray(scores.argmax(axis=1) == rows.targets.truth, dtype=np.float64)
    spent = loop.cpu_seconds()
    rungs = [*(done[-1].figures["rungs"] if done else ()), *position.rungs]
    is_last = position.is_enough or loop.is_budget_spent()
    if position.step:
        found = ladder.judged(name, is_right, recipe.get("sufficient"), spent)
        rungs.append(asdict(found))
        is_last = is_last or found.is_enough
    figures = {**_figures(loop), "metrics": metrics, "rungs": rungs}
    return Rung(
        name=name,
        figures=figures,
        value=value,
        step=position.step,
        total_steps=loop.total_steps,
        cpu_seconds=spent,
        seconds=loop.stop.seconds(),
        is_last=is_last,
        device=asdict(loop.device),
    )


# -- what a rung leaves on the disk


def _place(job: Job, name: str) -> Path:
    return job.directory / f"rung-{name}"


def _keep(loop: Loop | None, rung: Rung, features: KeptFeatures | None, job: Job) -> None:
    """Leave a rung's version and features, if it has any, then its figures, each whole."""
    place = _place(job, rung.name)
    place.mkdir(exist_ok=True)
    if loop is not None and rung.value:
        draft = place / f"{VERSION}.tmp"
        shutil.rmtree(draft, ignore_errors=True)
        loop.learner.model.to("cpu")
        loop.learner.save(draft)
        replace_directory(draft, place / VERSION)
    leave(features, place / FEATURES)
    write_json(place / FIGURES, asdict(rung))


def _all_kept(job: Job, names: Sequence[str]) -> list[Rung]:
    """Return what an earlier attempt left of the first rungs, up to the one that was not done."""
    kept = []
    for name in names:
        found = read_json(_place(job, name) / FIGURES)
        if not isinstance(found, dict):
            break
        kept.append(Rung(**{**found, "value": tuple(found["value"])}))
    return kept


def _copy(version: Path, target: Path) -> None:
    shutil.copytree(version, target)


# -- what a loop is made of


def device_of(
    job: Job, recipe: Mapping[str, Any], stored: Mapping[str, Any] | None, n_processes: int
) -> Device:
    """Return the device of an earlier attempt where it still exists, else this machine's best.

    Raises:
        RecipeError: there is no GPU for each process.
    """
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if 0 < n_gpus < n_processes:
        raise RecipeError(
            f"{n_processes} processes need a GPU each, and this run has {n_gpus}; lower processes"
        )
    if stored is not None and (stored["name"] == "cpu" or n_gpus):
        return device.restore(Device(**stored))
    threads = job.threads
    if n_processes > 1:
        threads = max(1, (threads or device.cpu_quota()) // n_processes)
    return device.choose(threads=threads, precision=str(recipe["precision"]))


def open_start(order: Order, task_type: BringsLearner) -> tuple[Learner, tuple[str, ...]]:
    """Return the version to train from, opened, and the outputs that its head has learned.

    A champion of fewer labels is widened to the job's; one that must know its rows is shown them.

    Raises:
        RecipeError: the start does not fit the job's labels.
    """
    job = order.job
    directory = start_directory(job, task_type.create)
    if not job.start_is_base:
        check_artifact(directory)
    learner = task_type.open(directory)
    known = () if job.start_is_base else tuple(learner.outputs)
    labels = tuple(learner.labels)
    if known and labels != job.labels and set(labels) <= set(job.labels):
        learner.widen(job.labels)
    check_start(learner.labels, job)
    if isinstance(learner, FitsRows):
        learner.fit(order.data.train, order.recipe)
    return learner, known


def _figures(loop: Loop) -> dict[str, Any]:
    """Return what a loop tells of itself, beside how right its version is."""
    position = loop.position
    return {
        "history": position.history,
        "n_features_taken": position.n_features_taken,
        **loop.train_rows.targets.figures,
        "n_train": len(loop.train_rows.targets),
        "n_validation": 0 if loop.validation is None else len(loop.validation.targets),
        "epochs": position.epoch,
        "best_epoch": position.best_epoch if loop.validation is not None else position.epoch,
        "cpu_seconds": loop.cpu_seconds(),
        "device": loop.device.name,
        "threads": loop.device.threads,
        "precision": loop.device.precision,
        "deterministic": loop.device.is_deterministic,
        "utilisation": loop.utilisation.share if loop.utilisation else None,
        "peak_operations_per_second": loop.utilisation.peak if loop.utilisation else None,
        "final_loss": _finite(position.smooth_loss),
        "accumulation": position.accumulation,
        "shortages": position.shortages,
        "processes": loop.ranks.size,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
