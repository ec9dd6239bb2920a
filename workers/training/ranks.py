"""Which processes work on one run, and how do they end together?

Rank 0 is the run's own process: it alone decides, judges, writes and reports. It forks the others
before anything is computed. They make the same rows ready, and take a share of each step when they
are told to. Whoever of them ends before it is dismissed takes the whole run along.
"""

import contextlib
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar

from workers.training.ending import die_with
from workers.training.job import EXIT_CRASHED

READY = b"ready\n"
READY_SECONDS: Final = 600.0
"""Rank 0 has made its rows ready, and a head beside: the others are not far behind."""
LOOK_SECONDS: Final = 0.1
GIVE_WAY_SECONDS: Final = 5.0
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Other:
    """A rank above 0, as rank 0 sees it.

    Attributes:
        pid: its process.
        orders: where it is told what to do, a JSON line each.
        said: where it says that it is ready; closed when it ends.
    """

    pid: int
    orders: int
    said: int


class Ranks:
    """The processes of a run, seen from one of them.

    Attributes:
        size: how many there are.
        rank: which of them this is.
    """

    def __init__(self, size: int = 1) -> None:
        self.size, self.rank = size, 0
        self._others: list[Other] = []
        self._n_ready = 0
        self._are_dismissed = False
        self._lock = threading.Lock()
        self._watcher: threading.Thread | None = None
        self._orders = self._said = -1

    def start(self, follow: Callable[[], int]) -> None:
        """Fork the other ranks; each does `follow` and ends with the status that it returns."""
        leader = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        for rank in range(1, self.size):
            (orders, ordering), (hearing, said) = os.pipe(), os.pipe()
            pid = os.fork()
            if pid == 0:
                self.rank, self._orders, self._said = rank, orders, said
                _become(leader, follow)
            os.close(orders)
            os.close(said)
            self._others.append(Other(pid, ordering, hearing))
        if self._others:
            self._watcher = threading.Thread(target=self._watch, daemon=True)
            self._watcher.start()

    def together(self, work: Callable[[], Answer]) -> Answer:
        """Do work in which all ranks wait for each other.

        Where it fails because another rank has ended, that end is this one's too.
        """
        try:
            return work()
        except RuntimeError:
            time.sleep(GIVE_WAY_SECONDS)  # in which the watcher of rank 0 ends them all
            raise

    # -- of rank 0

    def tell(self, **order: Any) -> None:
        """Tell the other ranks what comes next."""
        line = json.dumps(order).encode() + b"\n"
        for other in self._others:
            with contextlib.suppress(BrokenPipeError):  # it has ended, and so will this process
                _write(other.orders, line)

    def wait_until_ready(self, check: Callable[[], None]) -> None:
        """Wait until the other ranks can take steps.

        Args:
            check: called again and again; may raise to stop.

        Raises:
            TimeoutError: one of them is stuck.
        """
        until = time.monotonic() + READY_SECONDS
        while self._n_ready < len(self._others):
            check()
            if time.monotonic() >= until:
                raise TimeoutError(f"{self._n_ready + 1} of {self.size} processes are ready")
            time.sleep(LOOK_SECONDS)

    def dismiss(self) -> None:
        """End the other ranks: what they hold is on no disk."""
        with self._lock:
            self._are_dismissed = True
            for other in self._others:
                os.kill(other.pid, signal.SIGKILL)
        if self._watcher is not None:
            self._watcher.join()

    def _watch(self) -> None:
        """Wait for the first rank that ends; end the others, and this process unless dismissed."""
        waiting = {other.said: other for other in self._others}
        gone: Other | None = None
        while gone is None:
            for fd in select.select([*waiting], [], [])[0]:
                if os.read(fd, len(READY)):
                    self._n_ready += 1
                else:
                    gone = waiting[fd]
        with self._lock:
            others, self._others = [o for o in self._others if o is not gone], []
            for other in others:
                os.kill(other.pid, signal.SIGKILL)
            status = _end_of(gone)
            for other in others:
                _end_of(other)
            if not self._are_dismissed:
                _end_likewise(status)

    # -- of the others

    def say_ready(self) -> None:
        """Say that this rank can take steps."""
        os.write(self._said, READY)

    def told(self) -> dict[str, Any]:
        """Wait for what rank 0 tells next; dies with it."""
        line = bytearray()
        while not line.endswith(b"\n"):
            byte = os.read(self._orders, 1)
            if not byte:
                sys.exit(EXIT_CRASHED)
            line += byte
        order: dict[str, Any] = json.loads(line)
        return order


def _become(leader: int, follow: Callable[[], int]) -> NoReturn:
    status = EXIT_CRASHED
    try:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which rank 0 hears too, and answers
        die_with(leader)
        status = follow()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(status)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _end_of(other: Other) -> int:
    """Wait for a rank's end; return its exit status, negative for a signal."""
    status = os.waitstatus_to_exitcode(os.waitpid(other.pid, 0)[1])
    os.close(other.orders)
    os.close(other.said)
    return status


def _end_likewise(status: int) -> NoReturn:
    """End this process as another rank ended: a kill of one is a kill of the run."""
    if status < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(status or EXIT_CRASHED)
