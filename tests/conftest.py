"""What the tests share: servers, databases, and a whole running stack."""

import contextlib
import itertools
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import redis
from hypothesis import settings
from sqlalchemy import Engine

import app.gates
import app.triggers
from app.adapters.artifacts import FileArtifacts
from app.adapters.postgres.unit_of_work import PostgresUnitOfWork, connect
from app.domain.registry import scan
from app.migrating import migrate
from tests.servers import fresh_database, test_servers

scan(app.gates)
scan(app.triggers)

# Hypothesis is not hurried: a loaded machine is no counterexample.
settings.register_profile("unhurried", deadline=None, max_examples=60)
settings.register_profile("quick", deadline=None, max_examples=15)
settings.load_profile("unhurried")

UPKEEP = [sys.executable, "-m", "upkeep"]


@pytest.fixture(scope="session")
def servers() -> Iterator[tuple[str, str]]:
    """Postgres (an administrator's URL) and Redis: the ones named outside, else embedded."""
    with test_servers() as urls:
        yield urls


@pytest.fixture(scope="session")
def database_url(servers: tuple[str, str]) -> Iterator[str]:
    """A migrated database of this test session."""
    with fresh_database(servers[0]) as url:
        migrate(url)
        yield url


@pytest.fixture(scope="session")
def engine(database_url: str) -> Iterator[Engine]:
    made = connect(database_url)
    yield made
    made.dispose()


@pytest.fixture
def work(engine: Engine) -> PostgresUnitOfWork:
    return PostgresUnitOfWork(engine)


@pytest.fixture
def artifacts(tmp_path: Path) -> FileArtifacts:
    return FileArtifacts(tmp_path / "artifacts")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(claim, *, seconds: float = 60.0, what: str = "it") -> None:
    """Poll a condition until it holds, or fail saying what did not."""
    deadline = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds:.0f} s still not: {what}")
        time.sleep(0.1)


@dataclass
class Stack:
    """A running service: API, scheduler and workers over servers of its own database."""

    url: str
    environment: dict[str, str]
    home: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def database_url(self) -> str:
        return self.environment["DATABASE_URL"]

    @property
    def redis_url(self) -> str:
        return self.environment["REDIS_URL"]

    def start(self, name: str, *arguments: str) -> None:
        log = (self.home / f"{name}.log").open("ab")
        self.processes[name] = subprocess.Popen(
            [*UPKEEP, *arguments], env=self.environment, stdout=log, stderr=log
        )
        log.close()

    def start_all(self) -> None:
        port = self.url.rpartition(":")[2]
        self.start("api", "api", "--port", port)
        self.start("scheduler", "scheduler")
        self.start("training", "worker", "--queue", "training")
        self.start("checks", "worker", "--queue", "checks")

    def is_ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.get(f"{self.url}/readyz").json()
            return answer["status"] == "ready" and self._has_announced()
        return False

    def _has_announced(self) -> bool:
        return bool(httpx.get(f"{self.url}/v1/task-types").json()["items"])

    def kill(self, name: str) -> None:
        """End a process at once, as a crash would."""
        self.processes[name].kill()
        self.processes[name].wait()

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="session")
def stack(servers: tuple[str, str]) -> Iterator[Stack]:
    """A whole service, as its user would run it; shared by the tests of one session."""
    with running_stack(servers) as running:
        yield running


# Test processes beside this one share the Redis of the environment: each takes its own numbers.
_first = 1 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_databases = itertools.cycle(
    range(_first, 16, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
)


def redis_database(url: str) -> str:
    """Return the URL of another, emptied database of the same Redis: queues are not shared."""
    number = next(_databases)
    base = url.partition("?")[0]
    if base.startswith("unix://"):
        chosen = f"{base}?db={number}"
    else:
        parts = urlsplit(base)
        chosen = f"{parts.scheme}://{parts.netloc}/{number}"
    with redis.Redis.from_url(chosen) as broker:
        broker.flushdb()
    return chosen


@contextlib.contextmanager
def running_stack(servers: tuple[str, str]) -> Iterator[Stack]:
    admin_url, redis_url = servers
    with tempfile.TemporaryDirectory() as folder, fresh_database(admin_url) as url:
        migrate(url)
        environment = {
            **os.environ,
            "DATABASE_URL": url,
            "REDIS_URL": redis_database(redis_url),
            "UPKEEP_HOME": folder,
            "UPKEEP_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "UPKEEP_LEASE_SECONDS": "6",
            "UPKEEP_HEARTBEAT_SECONDS": "1",
            "UPKEEP_RESEND_SECONDS": "4",
        }
        running = Stack(f"http://127.0.0.1:{free_port()}", environment, Path(folder))
        running.start_all()
        try:
            wait_until(running.is_ready, seconds=120, what="the stack is ready")
            yield running
        finally:
            running.stop()
