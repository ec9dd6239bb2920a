"""One training run in a process of its own: `python -m workers.training.process JOB_DIR`.

Exit status: 0 only once result.json and the output are on the disk; 75 after SIGTERM, with a
whole checkpoint of what was learned by then; 1 for an error that no retry mends, described in
error.json; 73 if another process holds the job; anything else is a crash.
"""

import argparse
import ctypes
import fcntl
import importlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from app.domain.registry import scan
from workers.training.ending import die_with, status_of
from workers.training.job import ERROR, EXIT_BUSY, EXIT_DONE, Job, read_job
from workers.training.progress import Progress, Stop
from workers.training.run import execute
from workers.training.task_type import TaskType

PLUG_INS = "workers.task_types"
"""Named, not imported: this layer must load without them, and the process is where they meet."""
PR_SET_NAME = 15
NAME = b"upkeep-run"
"""As which the process is shown, however it was started: `pgrep -x upkeep-run`."""


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


def work(job: Job, progress: Progress, stop: Stop) -> int:
    """Run a job under its lock; return the exit status."""
    with (job.directory / "lock").open("w") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of this process: no fork has it
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

    def begin() -> int:
        job = read_job(options.job_directory)
        if options.progress_fd is None:
            progress.to(job.progress_fd)
        stop = Stop(job.deadline_seconds)
        stop.listen()
        return work(job, progress, stop)

    return status_of(begin, options.job_directory, progress)


if __name__ == "__main__":
    sys.exit(main())
