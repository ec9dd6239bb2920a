"""A process that has loaded what every run on the CPU needs, and becomes one on request.

    python -m workers.training.fork_server SOCKET PARENT

It runs no operator itself: a process must not fork once its threads compute. Each request is one
message, `{"job": directory}`, with three file descriptors: of progress, of output, and one to
which it says the run's process id and, once that has ended, its exit status, a line each.
"""

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from dataclasses import dataclass
from typing import Final, NoReturn

from app.domain.registry import scan
from workers.training import process
from workers.training.ending import die_with
from workers.training.job import EXIT_CRASHED

REQUEST_BYTES: Final = 1 << 16
N_DESCRIPTORS: Final = 3


@dataclass(frozen=True, slots=True)
class Run:
    """A run that this process has become.

    Attributes:
        pid: its process.
        ended: becomes readable when it ends.
        status: where its end is told.
    """

    pid: int
    ended: int
    status: int


def serve(requests: socket.socket) -> None:
    """Become runs until nobody can ask any more."""
    runs: dict[int, Run] = {}
    asked = requests.fileno()
    while True:
        for ready in select.select([asked, *runs], [], [])[0]:
            if ready == asked:
                message, descriptors = received(requests)
                if not message:
                    return
                run = forked(json.loads(message)["job"], descriptors, requests, runs)
                runs[run.ended] = run
            else:
                tell_end(runs.pop(ready))


def received(requests: socket.socket) -> tuple[bytes, list[int]]:
    """Return the next request and its file descriptors; nothing once nobody can ask any more."""
    try:
        message, descriptors, _, _ = socket.recv_fds(requests, REQUEST_BYTES, N_DESCRIPTORS)
    except ConnectionResetError:
        return b"", []
    return message, descriptors


def forked(
    job_directory: str, descriptors: list[int], requests: socket.socket, runs: dict[int, Run]
) -> Run:
    """Fork the run of a folder and tell its process id; who gave it up meanwhile has it killed."""
    progress, output, status = descriptors
    server = os.getpid()
    pid = os.fork()
    if pid == 0:
        requests.close()
        for fd in (status, *(fd for run in runs.values() for fd in (run.ended, run.status))):
            os.close(fd)
        become(job_directory, progress, output, server)
    lead_a_group(pid)
    os.close(progress)
    os.close(output)
    try:
        os.write(status, f"{pid}\n".encode())
    except BrokenPipeError:
        os.kill(pid, signal.SIGKILL)
    return Run(pid, os.pidfd_open(pid), status)


def lead_a_group(pid: int) -> None:
    """Give a process a group of its own; the process and its parent both do, whoever is first."""
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)


def become(job_directory: str, progress: int, output: int, server: int) -> NoReturn:
    """Be the training process of a folder, as if just started; never returns."""
    status = EXIT_CRASHED
    try:
        lead_a_group(os.getpid())
        os.dup2(output, 1)
        os.dup2(output, 2)
        status = process.main(
            [job_directory, "--progress-fd", str(progress), "--parent", str(server)]
        )
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else EXIT_CRASHED
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(status)


def tell_end(run: Run) -> None:
    """Tell how a run ended; a signal is negative."""
    status = os.waitstatus_to_exitcode(os.waitpid(run.pid, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        os.write(run.status, f"{status}\n".encode())
    os.close(run.status)
    os.close(run.ended)


def main() -> None:
    """Load, then serve."""
    requests, parent = int(sys.argv[1]), int(sys.argv[2])
    die_with(parent)
    # Where the kernel refuses it, this server ends here, and the runs start by themselves.
    os.close(os.pidfd_open(os.getpid()))
    scan(importlib.import_module(process.PLUG_INS))
    gc.freeze()  # what is loaded stays shared with the runs
    with socket.socket(fileno=requests) as asked:
        asked.send(b"ready")
        serve(asked)


if __name__ == "__main__":
    main()
