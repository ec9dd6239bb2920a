"""How does a job start a training process, watch it, and stop it?

Imports no training stack: the Celery process that supervises stays small.
"""

import json
import os
import select
import signal
import subprocess
import sys
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

StopReason = Literal["cancel", "lease_lost", "shutdown", "deadline"]
OutcomeKind = Literal["succeeded", "preempted", "failed", "killed", "cancelled"]

GRACE_SECONDS = 60.0
LOG_TAIL_CHARACTERS = 2000
READ_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a training process ended.

    Attributes:
        kind: "succeeded": the output is on the disk and as described; "preempted": stopped for
            the lease or a shutdown, to go on from its last checkpoint; "cancelled"; "failed": no
            retry helps unless `exit_code` says crash (not 1); "killed": by a signal nobody here
            sent, most often for want of memory.
        result: what result.json says, if it succeeded.
        error: {"type", "title", "detail"}, if it did not end well.
        exit_code: of the process; negative is a signal.
    """

    kind: OutcomeKind
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    exit_code: int


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


def _environment(job_dir: Path, extra: Mapping[str, str] | None) -> dict[str, str]:
    """Return the child's environment: offline where the start is on this machine."""
    environment = {**os.environ, **(extra or {})}
    job = read_json(job_dir / JOB) or {}
    start = str(job.get("start", ""))
    if start.startswith("preset:") or Path(start).exists():
        environment.setdefault("HF_HUB_OFFLINE", "1")
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    environment.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    environment["PYTHONUNBUFFERED"] = "1"
    return environment


def _start(
    job_dir: Path, environment: Mapping[str, str] | None
) -> tuple[subprocess.Popen[bytes], _Lines]:
    """Start the child in its own session with a progress pipe."""
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "workers.training.process", str(job_dir)]
    command += ["--progress-fd", str(writing), "--parent", str(os.getpid())]
    try:
        with (job_dir / LOG).open("ab") as log:
            child = subprocess.Popen(  # noqa: S603  # our own interpreter and module
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(job_dir, environment),
                pass_fds=(writing,),
                start_new_session=True,
            )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    return child, _Lines(reading)


def _signal_group(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(child.pid, number)
    except ProcessLookupError:
        return


def run_process(
    job_dir: Path,
    *,
    on_progress: Callable[[dict[str, Any]], None],
    should_stop: Callable[[], StopReason | None],
    poll_seconds: float = 0.5,
    grace_seconds: float = GRACE_SECONDS,
    environment: Mapping[str, str] | None = None,
) -> Outcome:
    """Run the job in JOB_DIR in a process of its own and wait for its end.

    Args:
        job_dir: holds job.json.
        on_progress: called with each progress object.
        should_stop: asked at every poll; a reason makes the child stop at its next step.
        poll_seconds: longest time between two polls.
        grace_seconds: time from SIGTERM to SIGKILL; longer than a step and a checkpoint take.
        environment: variables on top of this process's own.
    """
    child, lines = _start(job_dir, environment)
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
            if reason is None and (reason := should_stop()) is not None:
                _signal_group(child, signal.SIGTERM)
                kill_at = time.monotonic() + grace_seconds
            if time.monotonic() >= kill_at:
                _signal_group(child, signal.SIGKILL)
        while not is_closed:
            said, is_closed = lines.read(0.0)
            last_error = _pass_on(said, on_progress) or last_error
            is_closed = is_closed or not said
    finally:
        os.close(lines.fd)
        if child.poll() is None:
            _signal_group(child, signal.SIGKILL)
            child.wait()
    return _outcome(job_dir, child.returncode, reason, last_error)


def _wait(child: subprocess.Popen[bytes], seconds: float) -> None:
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
    job_dir: Path, exit_code: int, reason: StopReason | None, said: dict[str, Any] | None
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
        name = signal.Signals(-exit_code).name
        detail = f"{name} ended it; if that was for memory, halve token_budget or batch_size"
        return Outcome(
            "killed", None, problem("killed", "The process was killed", detail), exit_code
        )
    return Outcome("failed", None, _error_of(job_dir, said), exit_code)


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
