"""How does a service of one's own come up, and surely go down again?"""

import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.config import Settings
from app.embedded.home import state_home
from app.embedded.owners import DirectoryLock, make_shared
from app.embedded.processes import Process, Supervisor
from app.embedded.together import is_healthy
from upkeep import StillWaiting, Upkeep

TASK_TYPE: Final = "image-classification"
N_PORTS: Final = 3
"""The API's and, next to it, those of the workers' metrics."""
ANNOUNCE_SECONDS: Final = 120.0
START_SECONDS: Final = 180.0
STOP_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Service:
    """A service that runs.

    Attributes:
        url: where it listens.
        home: directory of all its state.
        first_answer_seconds: from its start to its first HTTP 200.
        supervisor: keeps it running, and ends it.
    """

    url: str
    home: Path
    first_answer_seconds: float
    supervisor: Supervisor

    def stay_up(self) -> None:
        """Keep it up until a signal asks to stop."""
        self.supervisor.run()


@contextmanager
def own_service(name: str, announce: Callable[[str], None]) -> Iterator[Service]:
    """Run a fresh service, as `upkeep up` does, and take it down afterwards, whatever happens.

    Its state lies below the state home, is wiped at the start and kept at the end. A signal to
    stop becomes a KeyboardInterrupt. From the main thread only.

    Args:
        name: of the directory of its state.
        announce: takes a sentence for whoever watches.

    Raises:
        Conflict: another one of that name is running.
        Unavailable: it does not come up; with its last lines.
        KeyboardInterrupt: a stop was asked for.
    """
    home = _wiped(state_home(Settings().home, Path.cwd()) / name)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = Process(
        name="up",
        argv=[sys.executable, "-m", "upkeep", "up", "--port", str(port), "--home", str(home)],
        environment={**os.environ, "OMP_WAIT_POLICY": "passive"},
        grace_seconds=STOP_SECONDS,
        orphan_seconds=STOP_SECONDS,
        ready_seconds=START_SECONDS,
        is_ready=lambda: is_healthy(f"{url}/healthz"),
    )
    with Supervisor(home, announce) as supervisor, supervisor.interruptible():
        started_at_seconds = time.monotonic()
        supervisor.start(process)
        supervisor.wait_until_ready(process.name)
        yield Service(url, home, time.monotonic() - started_at_seconds, supervisor)


def wait_for_workers(upkeep: Upkeep) -> float:
    """Wait until a worker has announced what it can train; return for how long, in seconds.

    Raises:
        StillWaiting: none has in time.
    """
    started_at_seconds = time.monotonic()
    while TASK_TYPE not in {known["name"] for known in upkeep.task_types()}:
        if time.monotonic() - started_at_seconds > ANNOUNCE_SECONDS:
            raise StillWaiting(f"no worker announced itself within {ANNOUNCE_SECONDS:.0f} s")
        time.sleep(0.1)
    return time.monotonic() - started_at_seconds


def _wiped(home: Path) -> Path:
    if home.exists():
        DirectoryLock(home / "up.lock").release()  # raises if somebody is using it
        shutil.rmtree(home)
    return make_shared(home)


def free_port() -> int:
    """Return a port free on loopback together with the next ones; the usual one if it is."""
    port = Settings().port
    while not all(_is_free(port + offset) for offset in range(N_PORTS)):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = min(int(probe.getsockname()[1]), 2**16 - N_PORTS)
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
