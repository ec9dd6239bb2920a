"""How does a training process end, and what does it leave to say why?"""

import contextlib
import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.domain.errors import UpkeepError
from workers.training.errors import NO_SPACE, OutOfMemory, OutOfSpace, RecipeError, TrainingError
from workers.training.files import write_json
from workers.training.job import ERROR, EXIT_CRASHED, EXIT_PREEMPTED, EXIT_REFUSED
from workers.training.memory import is_out_of_memory, said_of
from workers.training.progress import Preempted, Progress

PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; at once if it already has."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(EXIT_CRASHED)


def as_training_error(error: BaseException) -> TrainingError | None:
    """Return the typed error behind an exception of a library; None if it has no such meaning."""
    if isinstance(error, TrainingError):
        return error
    if isinstance(error, UpkeepError):
        return RecipeError(str(error))
    is_full = isinstance(error, OSError) and error.errno in NO_SPACE
    if is_full or "No space left on device" in str(error):
        return OutOfSpace(f"no space left while writing ({error}); free some and retrain")
    if is_out_of_memory(error):
        return OutOfMemory(
            f"memory ran out beside the batches ({said_of(error)}); take a smaller base model, "
            "train fewer layers (trainable_layers) or give the worker more memory"
        )
    return None


def report(job_directory: Path, progress: Progress, problem: dict[str, Any]) -> None:
    """Leave an error where the supervisor finds it: in error.json, and on the pipe if not."""
    progress.say("error", at_once=True, error=problem)
    try:
        write_json(job_directory / ERROR, problem)
    except OSError:
        with contextlib.suppress(OSError):  # its log may lie on the same full disk
            sys.stderr.write(f"{problem['title']}: {problem['detail']}\n")


def status_of(work: Callable[[], int], job_directory: Path, progress: Progress) -> int:
    """Do a process's work and return its exit status; whatever stops it is reported."""
    try:
        return work()
    except Preempted:
        return EXIT_PREEMPTED
    except Exception as error:  # noqa: BLE001  # the last stop: every end must be reported
        if (known := as_training_error(error)) is not None:
            report(job_directory, progress, known.as_problem())
            return EXIT_REFUSED
        traceback.print_exc()
        problem = {
            "type": "/problems/training-crashed",
            "title": "The training process crashed",
            "detail": f"{type(error).__name__}: {error}",
        }
        report(job_directory, progress, problem)
        return EXIT_CRASHED
