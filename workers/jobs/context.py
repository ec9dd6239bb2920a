"""What every job needs, put here once by `workers.main`."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from app.domain.errors import Unavailable
from app.domain.usage import Rates
from app.services.ports import Artifacts, UnitOfWork
from workers.training.starting import ForkServer

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Context:
    """Adapters and settings of this worker process.

    Attributes:
        open_work: makes a unit of work; one for each thread.
        owner: names this process in leases.
        threads: of one training process; None = what the quota allows.
        rates: by which energy and cost are stated.
        devices: UUIDs of the GPUs of this machine, in groups; each run has a group to itself.
        fork_server: what runs on the CPU are forked from; None = each is a new interpreter.
        is_stopping: turns true when the process was asked to end.
        count_lost: counts a part of a report that was left out, by the part's name.
    """

    open_work: Callable[[], UnitOfWork]
    artifacts: Artifacts
    work_directory: Path
    owner: str
    lease_seconds: float
    heartbeat_seconds: float
    threads: int | None
    is_stopping: threading.Event
    count_lost: Callable[[str], object]
    devices: tuple[str, ...]
    rates: Rates
    fork_server: ForkServer | None = None


_installed: list[Context] = []


def install(context: Context) -> None:
    """Set the context of this process."""
    _installed[:] = [context]


def current() -> Context:
    """Return the context of this process."""
    return _installed[0]


def owner_name(queue: str) -> str:
    """Return a name for this process that no other has at the same time."""
    return f"{queue}@{socket.gethostname()}:{os.getpid()}"


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


@contextmanager
def kept_alive(renew: Callable[[UnitOfWork], bool]) -> Iterator[threading.Event]:
    """Renew a lease from a thread while the block runs; the event is set when it is lost."""
    context = current()
    done, lost = threading.Event(), threading.Event()

    def beat() -> None:
        work = context.open_work()
        while not done.wait(context.heartbeat_seconds):
            try:
                with work:
                    if not renew(work):
                        lost.set()
                        return
            except Unavailable:
                log.warning("lease.renewal_failed")

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        done.set()
        thread.join(timeout=10)
