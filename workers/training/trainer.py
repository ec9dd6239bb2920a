"""How does a task type that is not taught by the loop bring a trainer of its own?

What stays the same for every trainer: the job, the checks of its rows, checkpoints, progress, the
ways to stop, and result.json. This module imports no training stack.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from workers.training.checkpoints import Checkpoint
from workers.training.data import Data
from workers.training.errors import RecipeError
from workers.training.files import replace_directory
from workers.training.job import Job
from workers.training.kept_features import KeptFeatures
from workers.training.progress import Progress, Stop


@dataclass(frozen=True, slots=True)
class Order:
    """All that a trainer is given.

    Attributes:
        recipe: complete and checked.
        checkpoint: where an earlier attempt got to; None for the first.
    """

    job: Job
    recipe: Mapping[str, Any]
    data: Data
    checkpoint: Checkpoint | None
    progress: Progress
    stop: Stop


@dataclass(frozen=True, slots=True)
class Trained:
    """A run that has come to its end.

    Attributes:
        save: writes the version into a directory that is not there yet.
        step: how many steps were taken; a tree or a batch is one.
        total_steps: how many they could have been at most.
        figures: what result.json says of the run, beside what it says of every run.
        features: what the version's layers say of rows, for the run that goes on from it.
    """

    save: Callable[[Path], None]
    step: int
    total_steps: int
    figures: Mapping[str, Any] = field(default_factory=dict)
    features: KeptFeatures | None = None


def start_directory(job: Job, create: Callable[..., None]) -> Path:
    """Return the directory of the version to train from: the champion's, or one of the base.

    Args:
        job: which start.
        create: the task type's, which makes a version of a base.

    Raises:
        RecipeError: there is no such base.
        UnsafeArtifact: the base holds a file that could run code.
    """
    if not job.start_is_base:
        return Path(job.start)
    directory = job.directory / "start"
    if not (directory / "upkeep.json").is_file():
        draft = job.directory / "start.tmp"
        shutil.rmtree(draft, ignore_errors=True)
        create(job.start, job.labels, draft, seed=job.seed, input_contract=job.input_contract)
        replace_directory(draft, directory)
    return directory


def check_start(labels: Sequence[str], job: Job) -> None:
    """Refuse a start that sorts into other classes.

    Raises:
        RecipeError: the labels are not the job's.
    """
    if tuple(labels) != job.labels:
        raise RecipeError(
            f"the start knows the labels {list(labels)} and the job {list(job.labels)}; labels "
            "may be added, but to leave some out start from the base"
        )


@runtime_checkable
class BringsTrainer(Protocol):
    """A task type with a trainer of its own."""

    def train(self, order: Order) -> Trained:
        """Train a version to its end, from the order's checkpoint if there is one.

        The same order must give the same bits, stopped and resumed or not.

        Raises:
            Preempted: SIGTERM came; a whole checkpoint is on the disk.
            TrainingError: no retry would help.
        """
        ...
