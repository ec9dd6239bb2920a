"""The server's commands: `upkeep up | api | worker | scheduler | migrate | audit`.

Most of them only start something else, so what few need is loaded by these alone.
"""

import argparse
import json
import os
import sys
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, NoReturn

from app.config import Settings
from app.embedded.home import state_home
from app.embedded.together import Plan, Program, up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.adapters.postgres.unit_of_work import PostgresUnitOfWork

QUEUES = ("checks", "training")
ROOT = Path(__file__).parent.parent


def register(subparsers: "argparse._SubParsersAction[Any]") -> None:
    """Add the server's commands to `upkeep`."""
    everything = subparsers.add_parser("up", help="start everything on this machine")
    everything.set_defaults(run=run_up)
    everything.add_argument("--host", help="where the API listens (default 127.0.0.1)")
    everything.add_argument("--port", type=int, help="(default 8321)")
    everything.add_argument("--home", type=Path, help="where all state is kept")
    api = subparsers.add_parser("api", help="serve REST, the pages and /metrics")
    api.set_defaults(run=run_api)
    api.add_argument("--host")
    api.add_argument("--port", type=int)
    worker = subparsers.add_parser("worker", help="work on the jobs of a queue")
    worker.set_defaults(run=run_worker)
    worker.add_argument("--queue", choices=QUEUES, action="append", required=True)
    worker.add_argument(
        "--concurrency", type=_count, default=1, help="runs at once, on the training queue (1)"
    )
    scheduling = subparsers.add_parser("scheduler", help="find due work and relay it")
    scheduling.set_defaults(run=run_scheduler)
    migrating = subparsers.add_parser("migrate", help="bring the schema to the newest revision")
    migrating.set_defaults(run=run_migrate)
    migrating.add_argument("--revision", default="head")
    audit = subparsers.add_parser("audit", help="verify the audit's hash chain")
    audit.set_defaults(run=run_audit)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _fail(text: str) -> NoReturn:
    sys.stderr.write(f"upkeep: {text}\n")
    raise SystemExit(2)


def run_migrate(args: argparse.Namespace) -> int:
    """Migrate the database that DATABASE_URL names."""
    settings = Settings()
    if settings.database_url is None:
        _fail("set DATABASE_URL to the database to migrate")
    _migrate(settings.database_url, args.revision)
    return 0


def _migrate(database_url: str, revision: str = "head") -> None:
    from app.migrating import migrate  # noqa: PLC0415  # see above

    migrate(database_url, revision)


@contextmanager
def _work(database_url: str) -> "Iterator[PostgresUnitOfWork]":
    from app.adapters.postgres.unit_of_work import (  # noqa: PLC0415  # see above
        PostgresUnitOfWork,
        connect,
    )

    engine = connect(database_url)
    try:
        with PostgresUnitOfWork(engine) as work:
            yield work
    finally:
        engine.dispose()


def run_api(args: argparse.Namespace) -> int:
    """Become the API's server; `up` itself need not load what that loads."""
    settings = _with(Settings(), host=args.host, port=args.port)
    _guard_exposure(settings)
    serve = [sys.executable, "-m", "uvicorn", "--factory", "app.main:create_app"]
    serve += ["--app-dir", str(ROOT)]
    listen = ["--host", settings.host, "--port", str(settings.port)]
    quiet = ["--log-level", "warning", "--no-access-log", "--timeout-graceful-shutdown", "5"]
    os.execv(sys.executable, [*serve, *listen, *quiet])  # noqa: S606  our own program


def _with(settings: Settings, **given: Any) -> Settings:
    changed = {name: value for name, value in given.items() if value is not None}
    return settings.model_copy(update=changed)


def _guard_exposure(settings: Settings) -> None:
    """Refuse to listen beyond loopback while anybody could do anything."""
    if settings.host in {"127.0.0.1", "::1", "localhost"} or settings.database_url is None:
        return
    with _work(settings.database_url) as work:
        if not work.keys.any() and os.environ.get("UPKEEP_ALLOW_OPEN") != "1":
            _fail(
                f"there are no API keys, so it may listen on loopback only, not {settings.host}; "
                "make an admin key first (POST /v1/keys on 127.0.0.1), or set UPKEEP_ALLOW_OPEN=1 "
                "where the network itself is closed"
            )


def _count(text: str) -> int:
    """Return a number of at least 1.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number of at least 1")
    return int(text)


def run_worker(args: argparse.Namespace) -> int:
    """Become a Celery worker of one queue; one job at a time, so start as many as wanted.

    The pool is `solo`: nothing forks after torch or CUDA are loaded. A worker of the training queue
    only watches processes that train, so it can watch several from threads.
    """
    queues = ",".join(args.queue)
    if args.concurrency > 1 and args.queue != ["training"]:
        _fail("--concurrency is for --queue training alone; start more workers of the others")
    os.environ["UPKEEP_QUEUES"] = queues
    os.environ["UPKEEP_CONCURRENCY"] = str(args.concurrency)
    celery = [sys.executable, "-m", "celery", "--app", "workers.main:celery", "--quiet", "worker"]
    pool = "solo" if args.concurrency == 1 else "threads"
    options = ["--queues", queues, "--pool", pool, "--loglevel", "WARNING"]
    options += ["--concurrency", str(args.concurrency)]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    hostname = ["--hostname", f"{queues.replace(',', '+')}-{os.getpid()}@%h"]
    os.execv(sys.executable, [*celery, *options, *quiet, *hostname])  # noqa: S606  our own program


def run_scheduler(args: argparse.Namespace) -> int:
    """Become a scheduler; the other commands need not load what that loads."""
    os.execv(sys.executable, [sys.executable, "-m", "app.scheduler"])  # noqa: S606  our own program


def run_audit(args: argparse.Namespace) -> int:
    """Verify the audit; exit 1 when it was tampered with."""
    settings = Settings()
    if settings.database_url is None:
        _fail("set DATABASE_URL to the database to verify")
    from app.services.documents import document  # noqa: PLC0415  # see above

    with _work(settings.database_url) as work:
        found = work.events.verify()
    _say(json.dumps(document(found)))
    return 0 if found["is_whole"] else 1


def run_up(args: argparse.Namespace) -> int:
    """Start everything on this machine and stop it all on Ctrl-C."""
    Thread(target=import_module, args=("app.migrating",), daemon=True).start()  # meanwhile
    settings = _with(Settings(), host=args.host, port=args.port)
    home = state_home(args.home or settings.home, Path.cwd())
    upkeep = [sys.executable, "-m", "upkeep"]
    shared = {
        "UPKEEP_HOME": str(home),
        "UPKEEP_ARTIFACTS": str(settings.artifacts or home / "artifacts"),
    }
    threads = settings.threads or max(1, len(os.sched_getaffinity(0)) - 1)
    shared |= {"UPKEEP_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    shared |= {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive")}
    listen = ["--host", settings.host, "--port", str(settings.port)]

    def ported(offset: int) -> dict[str, str]:
        return shared | {"UPKEEP_METRICS_PORT": str(settings.port + offset)}

    plan = Plan(
        home=home,
        database_url=settings.database_url,
        redis_url=settings.redis_url,
        processes=[
            Program("api", [*upkeep, "api", *listen], "servers", shared),
            Program("scheduler", [*upkeep, "scheduler"], "api", shared),
            Program("training", [*upkeep, "worker", "--queue", "training"], "api", ported(1), 30.0),
            Program("checks", [*upkeep, "worker", "--queue", "checks"], "api", ported(2)),
        ],
        migrate=_migrate,
        health_url=f"http://127.0.0.1:{settings.port}/healthz",
        announce=_say,
    )
    return up(plan)
