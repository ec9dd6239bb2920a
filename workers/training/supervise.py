"""How does a job start a training process, watch it, and stop it?

Imports no training stack: the Celery process that supervises stays small.
"""

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from workers.training.files import is_as_described, read_json
from workers.training.job import (
    ERROR,
    EXIT_DONE,
    EXIT_PREEMPTED,
    EXIT_REFUSED,
    JOB,
    LOG,
    RESULT,
)
from workers.training.starting import Child, ForkServer, started

StopReason = Literal["cancel", "lease_lost", "shutdown", "deadline"]
OutcomeKind = Literal["succeeded", "preempted", "failed", "killed", "cancelled"]

OUT_OF_MEMORY = "out-of-memory"
GRACE_SECONDS = 60.0
CANCEL_GRACE_SECONDS = 8.0
"""Of a run that nobody wants any more: no checkpoint of it is needed."""
LOG_TAIL_CHARACTERS = 2000
READ_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a training process ended.

    Attributes:
        kind: "succeeded": the output is on the disk and as described; "preempted": stopped for
            the lease or a shutdown, to go on from its last checkpoint; "cancelled"; "failed": no
            retry helps unless `exit_code` says crash (not 1); "killed": by a signal nobody here
            sent; `error` is of the type out-of-memory where the kernel did so for want of it.
        result: what result.json says, if it succeeded.
        error: {"type", "title", "detail"}, if it did not end well.
        exit_code: of the process; negative is a signal.
    """

    kind: OutcomeKind
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    exit_code: int

    @property
    def is_for_memory(self) -> bool:
        """Return whether the kernel ended the process for want of memory."""
        kind = (self.error or {}).get("type")
        return self.kind == "killed" and kind == f"/problems/{OUT_OF_MEMORY}"


def problem(name: str, title: str, detail: str) -> dict[str, Any]:
    """Return a problem-like JSON object."""
    return {"type": f"/problems/{name}", "title": title, "detail": detail}


class _Lines:
    """JSON lines out of a pipe."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._rest = b""
        os.set_blocking(fd, False)  # the name of os's own argument

    def read(self, timeout_seconds: float) -> tuple[list[dict[str, Any]], bool]:
        """Return the whole lines that came within the time, and whether the pipe is closed."""
        if not select.select([self.fd], [], [], timeout_seconds)[0]:
            return [], False
        try:
            data = os.read(self.fd, READ_BYTES)
        except BlockingIOError:
            return [], False
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [value for line in lines if (value := _parse(line)) is not None], not data


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def memory_kills(root: Path = Path("/proc")) -> int:
    """Return how many processes the kernel of this machine has killed for want of memory."""
    try:
        words = (root / "vmstat").read_text().split()
    except OSError:
        return 0
    return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else 0


def run_process(
    job_dir: Path,
    *,
    on_progress: Callable[[dict[str, Any]], None],
    should_stop: Callable[[], StopReason | None],
    poll_seconds: float = 0.5,
    grace_seconds: float = GRACE_SECONDS,
    environment: Mapping[str, str] | None = None,
    fork_server: ForkServer | None = None,
) -> Outcome:
    """Run the job in JOB_DIR in a process of its own and wait for its end.

    Args:
        job_dir: holds job.json.
        on_progress: called with each progress object.
        should_stop: asked at every poll; a reason makes the child stop at its next step.
        poll_seconds: longest time between two polls.
        grace_seconds: time from SIGTERM to SIGKILL; longer than a step and a checkpoint take. Of
            a cancelled run at most `CANCEL_GRACE_SECONDS`. A process that has not ended so long
            after its deadline is stopped too, whatever it is at.
        environment: variables on top of this process's own.
        fork_server: what to fork the process from, where that can be; None = a new interpreter.
    """
    deadline_at = _deadline_of(job_dir) + grace_seconds
    kills_before = memory_kills()
    child, progress_fd = started(job_dir, environment, fork_server)
    lines = _Lines(progress_fd)
    reason: StopReason | None = None
    kill_at = float("inf")
    last_error: dict[str, Any] | None = None
    try:
        is_closed = False
        while child.poll() is None:
            if is_closed:
                _wait(child, poll_seconds)
                said: list[dict[str, Any]] = []
            else:
                said, is_closed = lines.read(poll_seconds)
            last_error = _pass_on(said, on_progress) or last_error
            is_overdue = time.monotonic() >= deadline_at
            if reason is None and (reason := should_stop() or ("deadline" if is_overdue else None)):
                child.signal(signal.SIGTERM)
                shortest = CANCEL_GRACE_SECONDS if reason == "cancel" else grace_seconds
                kill_at = time.monotonic() + min(grace_seconds, shortest)
            if time.monotonic() >= kill_at:
                child.signal(signal.SIGKILL)
        while not is_closed:
            said, is_closed = lines.read(0.0)
            last_error = _pass_on(said, on_progress) or last_error
            is_closed = is_closed or not said
    finally:
        os.close(lines.fd)
        if child.poll() is None:
            child.signal(signal.SIGKILL)
        exit_code = child.wait()
    is_for_memory = exit_code == -signal.SIGKILL and memory_kills() > kills_before
    return _outcome(job_dir, exit_code, reason, last_error, is_for_memory=is_for_memory)


def _deadline_of(job_dir: Path) -> float:
    """Return when a process that starts now must have ended, on the monotonic clock."""
    seconds = (read_json(job_dir / JOB) or {}).get("deadline_seconds")
    return time.monotonic() + float(seconds) if seconds else float("inf")


def _wait(child: Child, seconds: float) -> None:
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _pass_on(
    said: list[dict[str, Any]], on_progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any] | None:
    """Hand progress on; return the error among it, if there is one."""
    found = None
    for line in said:
        if line.get("phase") == "error":
            found = line.get("error")
        on_progress(line)
    return found


def _outcome(
    job_dir: Path,
    exit_code: int,
    reason: StopReason | None,
    said: dict[str, Any] | None,
    *,
    is_for_memory: bool,
) -> Outcome:
    """Conclude from the exit status, why it was stopped, and what lies on the disk."""
    if reason == "cancel":
        return Outcome("cancelled", None, None, exit_code)
    if exit_code == EXIT_DONE:
        return _finished(job_dir)
    if reason == "deadline":
        detail = "the run was stopped at its deadline; allow more time or train less"
        error = problem("deadline-exceeded", "The run exceeded its deadline", detail)
        return Outcome("failed", None, error, exit_code)
    if exit_code == EXIT_PREEMPTED or (reason is not None and exit_code != EXIT_REFUSED):
        return Outcome("preempted", None, None, exit_code)
    if exit_code < 0:
        return Outcome("killed", None, _kill_of(exit_code, is_for_memory), exit_code)
    return Outcome("failed", None, _error_of(job_dir, said), exit_code)


def _kill_of(exit_code: int, is_for_memory: bool) -> dict[str, Any]:
    if is_for_memory:
        detail = "the kernel ended the process for want of memory; it goes on with halved batches"
        return problem(OUT_OF_MEMORY, "The memory ran out", detail)
    detail = f"{signal.Signals(-exit_code).name} ended it; it goes on from its last checkpoint"
    return problem("killed", "The process was killed", detail)


def _finished(job_dir: Path) -> Outcome:
    """Trust exit status 0 only if the files are there as described."""
    result = read_json(job_dir / RESULT)
    if isinstance(result, dict) and is_as_described(Path(result["output"]), result["files"]):
        return Outcome("succeeded", result, None, EXIT_DONE)
    detail = "the process reported success, but its files are not what result.json says"
    return Outcome(
        "failed", None, problem("output-damaged", "The output is damaged", detail), EXIT_DONE
    )


def _error_of(job_dir: Path, said: dict[str, Any] | None) -> dict[str, Any]:
    """Return the error the process left: in error.json, on the pipe, or at the log's end."""
    written = read_json(job_dir / ERROR)
    if isinstance(written, dict):
        return written
    if said is not None:
        return said
    try:
        tail = (job_dir / LOG).read_text(errors="replace")[-LOG_TAIL_CHARACTERS:]
    except OSError:
        tail = "it left no log"
    return problem("training-crashed", "The training process crashed", tail)
