"""What happens from a job to a version on the disk? Read, prepare, train, write; result last."""

import math
import resource
import shutil
from collections.abc import Mapping
from typing import Any

import torch

from app.domain.answers import CLASS, NUMBER
from workers.training import checkpoints, device
from workers.training.checkpoints import Checkpoint
from workers.training.data import Data, check_labels, check_numbers, read_rows
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
from workers.training.task_type import BringsLearner, Learner, TaskType, answers_of
from workers.training.trainer import BringsTrainer, Order, Trained, check_start, start_directory
from workers.training.versions import library_versions

N_CLASSES_NEEDED = 2


def is_finished(job: Job) -> bool:
    """Return whether an earlier attempt ended well and its output is still as it left it."""
    result = read_json(job.directory / RESULT)
    return isinstance(result, dict) and is_as_described(job.output, result["files"])


def read_data(job: Job, answers: str = CLASS) -> Data:
    """Read and check the rows of a kind of answer.

    Raises:
        DataError: they cannot teach these labels.
    """
    if answers == NUMBER:
        return _read_numbers(job)
    if len(set(job.labels)) < N_CLASSES_NEEDED or len(set(job.labels)) != len(job.labels):
        raise DataError(f"{len(job.labels)} labels given; a classifier needs two different ones")
    train = read_rows(job.train)
    check_labels(train, job.labels, role="training", n_classes_needed=N_CLASSES_NEEDED)
    if job.validation is None:
        return Data(train, None)
    validation = read_rows(job.validation)
    check_labels(validation, job.labels, role="validation", n_classes_needed=1)
    return Data(train, validation)


def _read_numbers(job: Job) -> Data:
    train = read_rows(job.train)
    check_numbers(train, role="training", n_different_needed=N_CLASSES_NEEDED)
    if job.validation is None:
        return Data(train, None)
    validation = read_rows(job.validation)
    check_numbers(validation, role="validation", n_different_needed=1)
    return Data(train, validation)


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
    data = read_data(job, answers_of(task_type))
    order = Order(job, recipe, data, checkpoints.latest(job.directory), progress, stop)
    if isinstance(task_type, BringsTrainer):
        trained = task_type.train(order)
    elif isinstance(task_type, BringsLearner):
        trained = _taught(order, task_type)
    else:
        raise RecipeError(f"task type {task_type.name!r} brings neither a learner nor a trainer")
    _write_result(order, trained, task_type)


def _taught(order: Order, task_type: BringsLearner) -> Trained:
    """Let the loop train a version, by batches and gradients."""
    job, recipe, checkpoint = order.job, order.recipe, order.checkpoint
    chosen = _device_of(job, recipe, checkpoint)
    learner = _opened(job, task_type)
    train = Prepared.of(learner, order.data.train)
    validation = None
    if order.data.validation is not None:
        validation = Prepared.of(learner, order.data.validation)
    loop = Loop(job, recipe, learner, chosen, train, validation, order.progress, order.stop)
    if checkpoint is not None:
        loop.resume(checkpoint)
    loop.train()
    figures = _figures(loop)
    learner.model.to("cpu")
    return Trained(learner.save, loop.position.step, loop.total_steps, figures)


def _opened(job: Job, task_type: BringsLearner) -> Learner:
    """Return the version to train from, opened.

    Raises:
        RecipeError: the start does not fit the job's labels.
    """
    directory = start_directory(job, task_type.create)
    if not job.start_is_base:
        check_artifact(directory)
    learner = task_type.open(directory)
    check_start(learner.labels, job)
    return learner


def _figures(loop: Loop) -> dict[str, Any]:
    position = loop.position
    metrics: dict[str, Any] = {}
    if loop.validation is not None:
        metrics = summarise(loop.validation.truth, loop.validation_scores(), loop.job.labels)
    return {
        "metrics": metrics,
        "history": position.history,
        "n_train": len(loop.train_rows.truth),
        "n_validation": 0 if loop.validation is None else len(loop.validation.truth),
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
    }


def _write_result(order: Order, trained: Trained, task_type: TaskType) -> None:
    """Write the version, then result.json, each whole."""
    job = order.job
    order.progress.say("save", step=trained.step, total_steps=trained.total_steps)
    job.output.parent.mkdir(parents=True, exist_ok=True)
    draft = job.output.with_name(f"{job.output.name}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    trained.save(draft)
    replace_directory(draft, job.output)
    resumed = order.checkpoint
    write_json(
        job.directory / RESULT,
        {
            **trained.figures,
            "output": str(job.output),
            "files": describe(job.output),
            "steps": trained.step,
            "seconds": order.stop.seconds(),
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "seed": job.seed,
            "recipe": dict(order.recipe),
            "resumed_from_step": None if resumed is None else resumed.step,
            "library_versions": library_versions(task_type.libraries),
        },
    )
    flush(job.directory)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
