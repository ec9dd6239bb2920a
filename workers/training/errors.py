"""What can stop a training run for a reason its owner can mend?"""

import errno
from typing import Any, ClassVar, Final

from app.domain.errors import Invalid

NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)
"""What the system says when the disk, or the part of it that one may use, is full."""


class TrainingError(Invalid):
    """A run that no retry would save: `kind` and `title` are stable, the message is its own."""

    kind: ClassVar[str] = "/problems/training-failed"
    title: ClassVar[str] = "The training run failed"

    def as_problem(self) -> dict[str, Any]:
        """Return the error as a problem-like JSON object."""
        return {"type": self.kind, "title": self.title, "detail": str(self)}


class DataError(TrainingError):
    """The training data cannot teach what was asked."""

    kind = "/problems/invalid-training-data"
    title = "The training data cannot be used"


class RecipeError(TrainingError):
    """The recipe, the base model or the start cannot be used."""

    kind = "/problems/invalid-recipe"
    title = "The recipe cannot be used"


class Diverged(TrainingError):
    """The loss grew beyond repair, or is no number any more."""

    kind = "/problems/training-diverged"
    title = "The training diverged"


class DeadlineExceeded(TrainingError):
    """The run took longer than it was given."""

    kind = "/problems/deadline-exceeded"
    title = "The run exceeded its deadline"


class OutOfSpace(TrainingError):
    """The disk is full."""

    kind = "/problems/disk-full"
    title = "The disk is full"


class OutOfMemory(TrainingError):
    """One batch does not fit the memory of the device."""

    kind = "/problems/out-of-memory"
    title = "The batch does not fit the memory"
