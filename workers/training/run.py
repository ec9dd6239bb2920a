"""What happens from a job to a version on the disk? Read, prepare, train, write; result last."""

import resource
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import torch

from app.domain import spans
from app.domain.answers import CLASS, NUMBER, SPANS, TEXT, strata_of
from workers.training import checkpoints, device
from workers.training.climbing import climb, open_start, recipe_of, rungs_of
from workers.training.code_version import code_version
from workers.training.data import (
    Data,
    Rows,
    check_labels,
    check_numbers,
    check_spans,
    check_texts,
    read_rows,
    set_apart,
)
from workers.training.device import Device
from workers.training.ending import status_of
from workers.training.errors import DataError, RecipeError
from workers.training.files import (
    describe,
    flush,
    is_as_described,
    read_json,
    replace_directory,
    write_json,
)
from workers.training.job import FEATURES, RESULT, Job
from workers.training.kept_features import leave
from workers.training.loop import Loop
from workers.training.position import Prepared
from workers.training.progress import Progress, Stop
from workers.training.ranks import Ranks
from workers.training.recipes import complete
from workers.training.task_type import BringsLearner, TaskType, answers_of
from workers.training.trainer import BringsTrainer, Order, Trained
from workers.training.versions import library_versions

N_DIFFERENT_NEEDED = 2


def is_finished(job: Job) -> bool:
    """Return whether an earlier attempt ended well and its output is still as it left it."""
    result = read_json(job.directory / RESULT)
    return isinstance(result, dict) and is_as_described(job.output, result["files"])


def read_data(job: Job, progress: Progress, stop: Stop, answers: str = CLASS) -> Data:
    """Read and check the rows of a kind of answer.

    Raises:
        Preempted: SIGTERM came; nothing is lost yet.
        DataError: they cannot teach these labels.
    """
    _check_label_set(job.labels, answers)

    def between(done: int) -> None:
        stop.check()
        progress.say("prepare", step=done, memory_bytes=device.memory_bytes())

    def read(path: Path, role: str, n_needed: int) -> Rows:
        rows = read_rows(path, between, are_labels_long=answers in {SPANS, TEXT})
        if answers == NUMBER:
            check_numbers(rows, role=role, n_different_needed=n_needed)
        elif answers == SPANS:
            check_spans(rows, job.labels, role=role, n_different_needed=n_needed)
        elif answers == TEXT:
            check_texts(rows, role=role, n_different_needed=n_needed)
        else:
            check_labels(rows, job.labels, role=role, n_classes_needed=n_needed)
        return rows

    train = read(job.train, "training", N_DIFFERENT_NEEDED)
    validation = None if job.validation is None else read(job.validation, "validation", 1)
    return Data(train, validation)


def _check_label_set(labels: Sequence[str], answers: str) -> None:
    """Refuse a label set that a kind of answer cannot have.

    Raises:
        DataError: too few labels, or one twice.
    """
    n_needed = {NUMBER: 0, TEXT: 0, SPANS: 1}.get(answers, N_DIFFERENT_NEEDED)
    if len(set(labels)) < n_needed or len(set(labels)) != len(labels):
        needed = "a span needs one" if answers == SPANS else "a classifier needs two different ones"
        raise DataError(f"{len(labels)} labels given; {needed}")


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
    if isinstance(task_type, BringsTrainer):
        order = _order(job, recipe, task_type, progress, stop)
        trained = task_type.train(order)
    elif isinstance(task_type, BringsLearner):
        ranks = Ranks(int(recipe["processes"]))
        try:
            ranks.start(lambda: _followed(job, recipe, task_type, ranks))
            order = _order(job, recipe, task_type, progress, stop)
            trained = climb(order, task_type, ranks)
        finally:
            ranks.dismiss()
            progress.cpu_seconds_elsewhere = 0.0
    else:
        raise RecipeError(f"task type {task_type.name!r} brings neither a learner nor a trainer")
    _write_result(order, trained, task_type)


def _order(
    job: Job, recipe: Mapping[str, Any], task_type: TaskType, progress: Progress, stop: Stop
) -> Order:
    """Read what a trainer is given."""
    data = read_data(job, progress, stop, answers_of(task_type))
    order = Order(job, recipe, data, checkpoints.latest(job.directory), progress, stop)
    return _with_validation(order, answers_of(task_type))


def _followed(job: Job, recipe: Mapping[str, Any], task_type: BringsLearner, ranks: Ranks) -> int:
    """Be a rank above 0 to the end of the run; return the exit status of one that ended before."""
    progress, stop = Progress(None), Stop()

    def follow() -> NoReturn:
        order = _order(job, recipe, task_type, progress, stop)
        chosen = device.restore(Device(**ranks.told()))
        if chosen.name == "cuda":
            torch.cuda.set_device(ranks.rank)
        learner, known = open_start(order, task_type)
        train = Prepared.of(learner, order.data.train)
        first = recipe_of(rungs_of(recipe)[0], recipe, is_first=True)
        Loop(
            order.job, first, learner, chosen, train, None, progress, stop,
            known=known, ranks=ranks,
        ).follow()  # fmt: skip

    return status_of(follow, job.directory, progress)


def _with_validation(order: Order, answers: str) -> Order:
    """Set rows apart to judge by, where the recipe or the job says so and none were given.

    Raises:
        RecipeError: it would stop early by rows that it does not set apart.
    """
    data, recipe, job = order.data, order.recipe, order.job
    if data.validation is not None:
        return order
    own = recipe.get("validation_share")
    if own == 0 and not job.validation_share and recipe["patience"] is not None:
        raise RecipeError(
            "patience counts epochs without a better validation score; set validation_share, "
            "such as 0.1, or leave patience out"
        )
    share = float(own or job.validation_share)
    if not share:
        return order
    rows = data.train
    strata = _strata(rows, answers)
    learned, judged, left = set_apart(rows, strata, n_newest=job.n_newest, share=share)
    return replace(order, job=replace(job, n_newest=left), data=Data(learned, judged))


def _strata(rows: Rows, answers: str) -> Sequence[str]:
    """Return the part of all labels that each row belongs to."""
    if answers == NUMBER:
        return strata_of(rows.numbers())
    if answers == SPANS:
        return spans.rarest_label([spans.read(label) for label in rows.labels])
    if answers == TEXT:
        return [""] * len(rows)  # whole blocks of them, whatever they say
    return rows.labels


def _write_result(order: Order, trained: Trained, task_type: TaskType) -> None:
    """Write the version, then result.json, each whole."""
    job = order.job
    order.progress.say("save", step=trained.step, total_steps=trained.total_steps)
    job.output.parent.mkdir(parents=True, exist_ok=True)
    draft = job.output.with_name(f"{job.output.name}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    trained.save(draft)
    replace_directory(draft, job.output)
    resumed = None if order.checkpoint is None else order.checkpoint.step
    features = trained.features
    is_kept = leave(features, job.directory / FEATURES)
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
            "repeated_ids": order.data.train.n_repeated_ids,
            "features": {"n_rows": len(features)} if features and is_kept else None,
            "recipe": dict(order.recipe),
            "resumed_from_step": trained.figures.get("resumed_from_step", resumed),
            "code": code_version(),
            "library_versions": library_versions(task_type.libraries),
        },
    )
    flush(job.directory)
    done = {"step": trained.step, "total_steps": trained.total_steps}
    order.progress.say("save", at_once=True, **done)
