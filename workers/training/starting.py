"""How is a training process started: as a new interpreter, or forked from one that is loaded?

To load torch and transformers costs seconds of CPU, more than a small run itself. A fork server
has loaded them once, does nothing but wait, and becomes a run on request. Imports no training
stack: the Celery process that asks stays small.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

import structlog

from workers.training.files import read_json
from workers.training.job import EXIT_CRASHED, JOB, LOG

log = structlog.get_logger()

OFFLINE: Final = {"HF_HUB_OFFLINE": "1"}
STATUS_BYTES: Final = 64


class Child(Protocol):
    """A training process: the leader of a process group of its own.

    Attributes:
        returncode: exit status, negative for a signal; None while it runs.
    """

    @property
    def returncode(self) -> int | None:
        """Return the exit status; None while it runs, or before anybody looked."""
        ...

    def poll(self) -> int | None:
        """Look whether it has ended; return its exit status."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: it had not ended by then.
        """
        ...

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all its processes, if it has not ended."""
        ...


class Spawned:
    """A training process with an interpreter of its own."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @property
    def returncode(self) -> int | None:
        """Return the exit status."""
        return self._process.returncode

    def poll(self) -> int | None:
        """Look whether it has ended."""
        return self._process.poll()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""
        return self._process.wait(timeout)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its group."""
        _signal_group(self._process.pid, number)


class Forked:
    """A training process that the fork server became; it tells of it through a pipe.

    The pipe says `pid`, then `exit status`, a line each. The process dies with its server: where
    the pipe closes before it said how that ended, it was killed.

    Attributes:
        pid: of the process; None until the server, which may still be loading, has forked it.
    """

    def __init__(self, status_fd: int) -> None:
        self.returncode: int | None = None
        self.pid: int | None = None
        self._fd: int | None = status_fd
        self._said = b""

    def poll(self) -> int | None:
        """Look whether it has ended."""
        self._look(0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""
        until = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                raise subprocess.TimeoutExpired("a forked training process", timeout or 0.0)
            self._look(left)
        return self.returncode

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its group; one that is not there yet never will be."""
        self.poll()
        if self.pid is None:
            self._close(-number)
        elif self.returncode is None:
            _signal_group(self.pid, number)

    def _look(self, timeout: float | None) -> None:
        if self._fd is None or not select.select([self._fd], [], [], timeout)[0]:
            return
        data = os.read(self._fd, STATUS_BYTES)
        *said, _ = (self._said + data).split(b"\n")
        self._said += data
        if said:
            self.pid = int(said[0])
        if len(said) > 1:
            self._close(int(said[1]))
        elif not data:
            self._close(EXIT_CRASHED if self.pid is None else -signal.SIGKILL)

    def _close(self, status: int) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd, self.returncode = None, status


class ForkServer:
    """Starts runs on the CPU from one process that has loaded what they need.

    The server loads in the background, and is started again where it ended. One that could not
    load is given up: runs start as new interpreters then, each of whose logs tells why.

    Args:
        module: what the server's interpreter runs.
    """

    def __init__(self, module: str = "workers.training.fork_server") -> None:
        self._module = module
        self._lock = threading.Lock()
        self._is_given_up = False
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        """Return the server's process id; None before it was started."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the server, if it does not run; waits for nothing."""
        with self._lock, suppress(OSError):
            self._ensure()

    def fork(self, job_dir: Path, progress_fd: int, log_fd: int) -> Forked | None:
        """Have the server become the run of a folder; None where there is no server.

        Args:
            job_dir: holds job.json.
            progress_fd: what the run writes its lines to.
            log_fd: its output.
        """
        reading, writing = os.pipe()
        message = json.dumps({"job": str(job_dir.resolve())}).encode()
        try:
            with self._lock:
                requests = self._ensure()
                socket.send_fds(requests, [message], [progress_fd, log_fd, writing])
        except OSError as error:
            os.close(reading)
            log.warning("fork_server.lost", detail=str(error))
            return None
        finally:
            os.close(writing)
        return Forked(reading)

    def close(self) -> None:
        """End the server, and with it whatever it has become."""
        with self._lock:
            if self._requests is not None:
                self._requests.close()
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            self._process = self._requests = None

    def _ensure(self) -> socket.socket:
        """Return where to ask the server; start it if it does not run.

        Raises:
            OSError: it cannot run.
        """
        if self._process is not None and self._requests is not None:
            if self._process.poll() is None:
                return self._requests
            self._is_given_up = not _has_loaded(self._requests)
            self._requests.close()
        if self._is_given_up:
            raise OSError("the fork server could not load")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", self._module, str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
                [*command, str(os.getpid())],
                stdin=subprocess.DEVNULL,
                env=environment_of(None) | OFFLINE,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._requests = ours
        return ours


def _has_loaded(requests: socket.socket) -> bool:
    """Return whether a server that has ended had said that it was ready."""
    try:
        return bool(requests.recv(STATUS_BYTES, socket.MSG_DONTWAIT))
    except OSError:
        return False


def started(
    job_dir: Path, environment: Mapping[str, str] | None, fork_server: ForkServer | None
) -> tuple[Child, int]:
    """Start the run of a folder; return its process and where its progress is to be read.

    Forked where nothing in its environment differs from the server's: no variables of its own,
    and a start that is on this machine.

    Args:
        job_dir: holds job.json.
        environment: variables on top of this process's own.
        fork_server: None = a new interpreter.
    """
    reading, writing = os.pipe()
    try:
        with (job_dir / LOG).open("ab") as output:
            child: Child | None = None
            if fork_server is not None and not environment and _is_local(job_dir):
                child = fork_server.fork(job_dir, writing, output.fileno())
            child = child or _spawned(job_dir, writing, output.fileno(), environment)
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    return child, reading


def _spawned(
    job_dir: Path, progress_fd: int, log_fd: int, environment: Mapping[str, str] | None
) -> Spawned:
    """Start a new interpreter in a session of its own."""
    command = [sys.executable, "-m", "workers.training.process", str(job_dir)]
    command += ["--progress-fd", str(progress_fd), "--parent", str(os.getpid())]
    offline = OFFLINE if _is_local(job_dir) else {}
    process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
        command,
        stdin=subprocess.DEVNULL,
        stdout=log_fd,
        stderr=log_fd,
        env=offline | environment_of(environment),
        pass_fds=(progress_fd,),
        start_new_session=True,
    )
    return Spawned(process)


def environment_of(more: Mapping[str, str] | None) -> dict[str, str]:
    """Return a training process's environment: this one's, quiet."""
    quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return {**quiet, **os.environ, **(more or {}), "PYTHONUNBUFFERED": "1"}


def _is_local(job_dir: Path) -> bool:
    """Return whether a run starts from what is on this machine."""
    start = str((read_json(job_dir / JOB) or {}).get("start", ""))
    return start.startswith("preset:") or Path(start).exists()


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return
