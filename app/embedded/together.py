"""How does everything on one machine come up in order, stay up, and go down together?"""

import http.client
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from app.domain.errors import Conflict, UpkeepError
from app.embedded.owners import DirectoryLock, make_shared
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.processes import Process, Supervisor
from app.embedded.servers import EmbeddedServer
from app.embedded.valkey import EmbeddedValkey

_WAVE = {"servers": 1, "api": 2}


@dataclass(frozen=True, slots=True)
class Program:
    """One of our own processes.

    Attributes:
        needs: "servers" starts once they answer and the schema is current, and counts as the
            API, whose health is waited for; "api" starts after that.
        environment: added to ours and to DATABASE_URL and REDIS_URL.
        grace_seconds: between SIGTERM and SIGKILL.
    """

    name: str
    argv: Sequence[str]
    needs: Literal["servers", "api"] = "servers"
    environment: Mapping[str, str] = field(default_factory=dict)
    grace_seconds: float = 15.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What `up` brings up.

    Attributes:
        home: directory of all state; exists.
        database_url: an external Postgres; None embeds one.
        redis_url: an external Redis or Valkey; None embeds one.
        migrate: makes the schema current, given the database's URL.
        health_url: plain HTTP; answers 200 once the programs that need only servers work.
        announce: takes a sentence for whoever watches.
        health_seconds: how long the first healthy answer may take.
    """

    home: Path
    database_url: str | None
    redis_url: str | None
    processes: Sequence[Program]
    migrate: Callable[[str], None]
    health_url: str
    announce: Callable[[str], None]
    health_seconds: float = 120.0


def up(plan: Plan) -> int:
    """Run everything until a signal; return 0 after a clean stop, 1 if it could not come up.

    From the main thread only. Whatever `plan.migrate` raises is raised on, everything stopped.
    """
    try:
        with _only_one(plan.home) as logs, Supervisor(logs, plan.announce) as supervisor:
            servers: list[EmbeddedServer] = []
            try:
                with supervisor.interruptible():
                    _bring_up(plan, supervisor, servers)
                supervisor.run()
            except KeyboardInterrupt:
                pass
            finally:
                plan.announce("stopping")
                supervisor.stop()
                for server in servers:
                    server.release()
    except (OSError, UpkeepError) as error:
        plan.announce(str(error))
        return 1
    plan.announce("stopped")
    return 0


@contextmanager
def _only_one(home: Path) -> Iterator[Path]:
    """Hold the home for ourselves; yield its directory of logs."""
    lock = DirectoryLock(home / "up.lock")
    try:
        logs = make_shared(home / "logs")
        logs.chmod(0o700)
        yield logs
    finally:
        lock.release()


def _bring_up(plan: Plan, supervisor: Supervisor, servers: list[EmbeddedServer]) -> None:
    database_url, redis_url = _serve(plan, supervisor, servers)
    plan.migrate(database_url)
    urls = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    first = [each for each in plan.processes if each.needs == "servers"]
    later = [each for each in plan.processes if each.needs == "api"]
    if is_healthy(plan.health_url):
        raise Conflict(f"something else answers at {plan.health_url}; stop it or choose a port")
    for program in first:
        supervisor.start(_process(program, urls, plan))
    for program in first:
        supervisor.wait_until_ready(program.name)
    plan.announce(f"the API answers at {plan.health_url}")
    for program in later:
        supervisor.start(_process(program, urls, plan))


def _serve(plan: Plan, supervisor: Supervisor, servers: list[EmbeddedServer]) -> tuple[str, str]:
    """Start the servers that are not given, both at once; return both URLs."""
    valkey = None if plan.redis_url else EmbeddedValkey(plan.home / "valkey")
    postgres = None if plan.database_url else EmbeddedPostgres(plan.home / "postgres")
    servers += [each for each in (valkey, postgres) if each is not None]
    for server in servers:
        supervisor.start(server.prepare())
    for server in servers:
        supervisor.wait_until_ready(server.name)
        plan.announce(f"{server.name} is ready")
    return (
        postgres.url if postgres is not None else str(plan.database_url),
        valkey.url if valkey is not None else str(plan.redis_url),
    )


def _process(program: Program, urls: Mapping[str, str], plan: Plan) -> Process:
    is_first = program.needs == "servers"
    return Process(
        name=program.name,
        argv=program.argv,
        environment={**os.environ, "PYTHONUNBUFFERED": "1", **program.environment, **urls},
        grace_seconds=program.grace_seconds,
        wave=_WAVE[program.needs],
        is_ready=(lambda: is_healthy(plan.health_url)) if is_first else None,
        ready_seconds=plan.health_seconds,
    )


def is_healthy(url: str) -> bool:
    """Tell whether an HTTP address answers 200 within two seconds."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=2.0)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
