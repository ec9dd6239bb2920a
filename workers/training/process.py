"""One training run in a process of its own: `python -m workers.training.process JOB_DIR`.

Exit status: 0 only once result.json and the output are on the disk; 75 after SIGTERM, with a
whole checkpoint of what was learned by then; 1 for an error that no retry mends, described in
error.json; 73 if another process holds the job; anything else is a crash.
"""

import argparse
import contextlib
import ctypes
import fcntl
import importlib
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.domain.errors import UpkeepError
from app.domain.registry import scan
from workers.training.errors import NO_SPACE, OutOfMemory, OutOfSpace, RecipeError, TrainingError
from workers.training.files import write_json
from workers.training.job import (
    ERROR,
    EXIT_BUSY,
    EXIT_CRASHED,
    EXIT_DONE,
    EXIT_PREEMPTED,
    EXIT_REFUSED,
    Job,
    read_job,
)
from workers.training.memory import is_out_of_memory, said_of
from workers.training.progress import Preempted, Progress, Stop
from workers.training.run import execute
from workers.training.task_type import TaskType

PLUG_INS = "workers.task_types"
"""Named, not imported: this layer must load without them, and the process is where they meet."""
PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
NAME = b"upkeep-run"
"""As which the process is shown, however it was started: `pgrep -x upkeep-run`."""


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; at once if it already has."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(EXIT_CRASHED)


def show_as(name: bytes) -> None:
    """Have the kernel show this process under a name of at most 15 bytes."""
    ctypes.CDLL(None).prctl(PR_SET_NAME, name)


def find_task_type(name: str) -> TaskType:
    """Return the registered task type of that name.

    Raises:
        UnknownName: there is none.
    """
    package = importlib.import_module(PLUG_INS)
    scan(package)
    found: TaskType = package.task_types.get(name)
    return found


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


def work(job: Job, progress: Progress, stop: Stop) -> int:
    """Run a job under its lock; return the exit status."""
    with (job.directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return EXIT_BUSY
        (job.directory / ERROR).unlink(missing_ok=True)
        tempfile.tempdir = str(job.directory)  # what memory should not hold goes to its disk
        execute(job, find_task_type(job.task_type), progress, stop)
    return EXIT_DONE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job of the command line and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("job_directory", type=Path)
    parser.add_argument("--progress-fd", type=int)
    parser.add_argument("--parent", type=int, help="die when this process does")
    options = parser.parse_args(arguments)
    show_as(NAME)
    if options.parent is not None:
        die_with(options.parent)
    progress = Progress(options.progress_fd)
    try:
        job = read_job(options.job_directory)
        if options.progress_fd is None:
            progress = Progress(job.progress_fd)
        stop = Stop(job.deadline_seconds)
        stop.listen()
        return work(job, progress, stop)
    except Preempted:
        return EXIT_PREEMPTED
    except Exception as error:  # noqa: BLE001  # the last stop: every end must be reported
        if (known := as_training_error(error)) is not None:
            report(options.job_directory, progress, known.as_problem())
            return EXIT_REFUSED
        traceback.print_exc()
        problem = {
            "type": "/problems/training-crashed",
            "title": "The training process crashed",
            "detail": f"{type(error).__name__}: {error}",
        }
        report(options.job_directory, progress, problem)
        return EXIT_CRASHED


if __name__ == "__main__":
    sys.exit(main())
