"""How does a run go on where the first rung that trains layers does not suffice?

`top` trains what the recipe says, `lora` all layers by narrow matrices, `full` all of them. Each
starts from the best version so far and is judged on the rows set apart; the best of all becomes
the run's. A rung that is done leaves its version and its figures in the run's directory, so that a
run that was stopped goes on with the one that was under way.
"""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from workers.training import checkpoints, device, ladder
from workers.training.device import Device
from workers.training.errors import RecipeError
from workers.training.files import check_artifact, read_json, replace_directory, write_json
from workers.training.job import Job
from workers.training.loop import Loop
from workers.training.position import Prepared
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


def taught(order: Order, task_type: BringsLearner, ranks: Ranks) -> Trained:
    """Let the loop train a version, by batches and gradients, rung by rung.

    Raises:
        RecipeError: the recipe cannot be used.
        Preempted: SIGTERM came; a whole checkpoint is on the disk.
    """
    job, recipe = order.job, order.recipe
    names = rungs_of(recipe)
    if len(names) > 1:
        _check(order, names, ranks)
    done = [rung for name in names[:-1] if (rung := _kept(job, name)) is not None]
    stored = order.checkpoint.state["device"] if order.checkpoint else None
    chosen = device_of(job, recipe, done[-1].device if done else stored, ranks.size)
    loop: Loop | None = None
    for number, name in enumerate(names):
        if number < len(done):
            order.stop.spent_before_seconds = done[number].seconds
            continue
        if done and done[-1].is_last:
            break
        loop = _loop_of(order, task_type, ranks, chosen, name, done, loop)
        loop.train()
        done.append(_judged(loop, recipe, name, done))
        if number + 1 < len(names):
            _keep(loop, done[-1], job)
    best = max(done, key=lambda rung: rung.value)  # the first of equals: the cheaper one
    figures = {
        **best.figures,
        "rungs": done[-1].figures["rungs"],
        "cpu_seconds": done[-1].cpu_seconds,
    }
    if len(names) > 1:
        figures["rung"] = best.name
    if loop is None or best is not done[-1]:
        kept = _place(job, best.name) / VERSION
        return Trained(lambda to: _copy(kept, to), best.step, best.total_steps, figures)
    loop.learner.model.to("cpu")
    return Trained(loop.learner.save, best.step, best.total_steps, figures)


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
    if order.data.validation is None:
        raise RecipeError(
            f"{said}, and each is judged on rows set apart; set validation_share, such as 0.1, or "
            "leave one rung"
        )
    if ranks.size > 1:
        raise RecipeError(f"{said}, in one process; set processes to 1, or leave one rung")
    is_whole = order.recipe["trainable_layers"] is None and not order.recipe["lora_rank"]
    if "top" in names and is_whole:
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
    before: Loop | None,
) -> Loop:
    """Return the loop of a rung, where its checkpoint left it if there is one.

    Args:
        order: the run's.
        task_type: that opens versions.
        ranks: the processes that share its batches.
        chosen: to compute on.
        name: of the rung.
        done: the rungs before it.
        before: the loop of the last of them, unless another attempt did that.
    """
    job, checkpoint = order.job, order.checkpoint
    recipe = recipe_of(name, order.recipe, is_first=not done)
    cpu_before = 0.0
    if done:
        best = max(done, key=lambda rung: rung.value)
        start = _place(job, best.name) / VERSION
        job = replace(job, directory=_place(job, name), start=str(start), start_is_base=False)
        job.directory.mkdir(exist_ok=True)
        checkpoint = checkpoints.latest(job.directory)
        cpu_before = done[-1].cpu_seconds if before is None else before.cpu_before
    learner, known = opened(replace(order, job=job), task_type)
    if not done:
        ranks.tell(**asdict(chosen))  # nor is the start made twice
    if before is None:
        train = Prepared.of(learner, order.data.train)
        rows = order.data.validation
        validation = None if rows is None else Prepared.of(learner, rows)
    else:
        train = before.train_rows.anew()
        validation = None if before.validation is None else before.validation.anew()
    loop = Loop(
        job, recipe, learner, chosen, train, validation, order.progress, order.stop,
        known=known, ranks=ranks, cpu_before=cpu_before,
    )  # fmt: skip
    if checkpoint is not None:
        loop.resume(checkpoint)
    return loop


def _judged(loop: Loop, recipe: Mapping[str, Any], name: str, done: Sequence[Rung]) -> Rung:
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


def _keep(loop: Loop, rung: Rung, job: Job) -> None:
    """Leave a rung's version, then its figures, each whole."""
    place = _place(job, rung.name)
    place.mkdir(exist_ok=True)
    draft = place / f"{VERSION}.tmp"
    shutil.rmtree(draft, ignore_errors=True)
    loop.learner.model.to("cpu")
    loop.learner.save(draft)
    replace_directory(draft, place / VERSION)
    write_json(place / FIGURES, asdict(rung))


def _kept(job: Job, name: str) -> Rung | None:
    """Return what an earlier attempt left of a rung; None where it was not done."""
    found = read_json(_place(job, name) / FIGURES)
    if not isinstance(found, dict):
        return None
    return Rung(**{**found, "value": tuple(found["value"])})


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


def opened(order: Order, task_type: BringsLearner) -> tuple[Learner, tuple[str, ...]]:
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
