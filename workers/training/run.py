"""What happens from a job to a version on the disk? Read, prepare, train, write; result last."""

import math
import resource
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from workers.training import checkpoints, device
from workers.training.checkpoints import Checkpoint
from workers.training.data import Rows, check_labels, read_rows
from workers.training.device import Device
from workers.training.errors import DataError, RecipeError
from workers.training.files import (
    check_artifact,
    describe,
    flush,
    is_as_described,
    read_json,
    replace_directory,
    write_json,
)
from workers.training.job import RESULT, Job
from workers.training.loop import Loop, Prepared
from workers.training.metrics import summarise
from workers.training.progress import Progress, Stop
from workers.training.recipes import complete
from workers.training.task_type import Learner, TaskType
from workers.training.versions import UPKEEP, library_versions

N_CLASSES_NEEDED = 2


def is_finished(job: Job) -> bool:
    """Return whether an earlier attempt ended well and its output is still as it left it."""
    result = read_json(job.directory / RESULT)
    return isinstance(result, dict) and is_as_described(job.output, result["files"])


@dataclass(frozen=True, slots=True)
class Data:
    """The rows of a run."""

    train: Rows
    validation: Rows | None


def read_data(job: Job) -> Data:
    """Read and check the rows.

    Raises:
        DataError: they cannot teach these labels.
    """
    if len(set(job.labels)) < N_CLASSES_NEEDED or len(set(job.labels)) != len(job.labels):
        raise DataError(f"{len(job.labels)} labels given; a classifier needs two different ones")
    train = read_rows(job.train)
    check_labels(train, job.labels, role="training", n_classes_needed=N_CLASSES_NEEDED)
    if job.validation is None:
        return Data(train, None)
    validation = read_rows(job.validation)
    check_labels(validation, job.labels, role="validation", n_classes_needed=1)
    return Data(train, validation)


def open_start(job: Job, task_type: TaskType, recipe: Mapping[str, Any]) -> Learner:
    """Return the version to train from: the champion, or one made from the base.

    Raises:
        RecipeError: the start does not fit the job's labels.
    """
    if job.start_is_base:
        directory = job.directory / "start"
        if not (directory / UPKEEP).is_file():
            draft = job.directory / "start.tmp"
            shutil.rmtree(draft, ignore_errors=True)
            task_type.create(
                job.start, job.labels, draft, seed=job.seed, input_contract=job.input_contract
            )
            replace_directory(draft, directory)
        return task_type.open(directory)
    directory = Path(job.start)
    check_artifact(directory)
    learner = task_type.open(directory)
    if learner.labels != job.labels:
        raise RecipeError(
            f"the start knows the labels {list(learner.labels)} and the job {list(job.labels)}; "
            "start from the base to change the label set"
        )
    return learner


def _device_of(job: Job, recipe: Mapping[str, Any], checkpoint: Checkpoint | None) -> Device:
    """Return the checkpoint's device where it still exists, else the best of this machine."""
    if checkpoint is not None:
        stored = Device(**checkpoint.state["device"])
        if stored.name == "cpu" or torch.cuda.is_available():
            return device.restore(stored)
    return device.choose(threads=job.threads, precision=str(recipe["precision"]))


def execute(job: Job, task_type: TaskType, progress: Progress, stop: Stop) -> None:
    """Train a version as the job says; returns once result.json and the output are on the disk.

    Raises:
        Preempted: SIGTERM came; a whole checkpoint is on the disk.
        TrainingError: no retry would help.
    """
    if is_finished(job):
        return
    progress.say("prepare")
    recipe = complete(task_type.recipe_schema, job.recipe)
    data = read_data(job)
    checkpoint = checkpoints.latest(job.directory)
    chosen = _device_of(job, recipe, checkpoint)
    learner = open_start(job, task_type, recipe)
    train = Prepared.of(learner, data.train)
    validation = Prepared.of(learner, data.validation) if data.validation is not None else None
    loop = Loop(job, recipe, learner, chosen, train, validation, progress, stop)
    if checkpoint is not None:
        loop.resume(checkpoint)
    loop.train()
    _write_result(loop, recipe, checkpoint)


def _write_result(loop: Loop, recipe: Mapping[str, Any], resumed: Checkpoint | None) -> None:
    """Write the version, then result.json, each whole."""
    job, learner, position = loop.job, loop.learner, loop.position
    metrics: dict[str, Any] = {}
    if loop.validation is not None:
        metrics = summarise(loop.validation.truth, loop.validation_scores(), job.labels)
    loop.progress.say("save", step=position.step, total_steps=loop.total_steps)
    job.output.parent.mkdir(parents=True, exist_ok=True)
    draft = job.output.with_name(f"{job.output.name}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    learner.model.to("cpu")
    learner.save(draft)
    replace_directory(draft, job.output)
    write_json(
        job.directory / RESULT,
        {
            "output": str(job.output),
            "files": describe(job.output),
            "metrics": metrics,
            "history": position.history,
            "n_train": len(loop.train_rows.truth),
            "n_validation": 0 if loop.validation is None else len(loop.validation.truth),
            "epochs": position.epoch,
            "best_epoch": position.best_epoch if loop.validation is not None else position.epoch,
            "steps": position.step,
            "seconds": loop.stop.seconds(),
            "cpu_seconds": loop.cpu_seconds(),
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "seed": job.seed,
            "recipe": dict(recipe),
            "device": loop.device.name,
            "threads": loop.device.threads,
            "precision": loop.device.precision,
            "deterministic": loop.device.is_deterministic,
            "utilisation": loop.utilisation.share if loop.utilisation else None,
            "peak_operations_per_second": loop.utilisation.peak if loop.utilisation else None,
            "resumed_from_step": None if resumed is None else resumed.step,
            "library_versions": library_versions(),
            "final_loss": _finite(position.smooth_loss),
        },
    )
    flush(job.directory)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
