"""What runs when: due checks, schedules, lost runs, and the outbox, in one small loop."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable

import structlog

import app.gates
import app.triggers
from app.adapters import queue
from app.adapters.logs import configure_logs
from app.adapters.postgres.unit_of_work import PostgresUnitOfWork, connect
from app.config import Settings
from app.domain.errors import Unavailable
from app.domain.registry import scan
from app.services import decisions, drift, observations, retention, self_tests, training
from app.services.clock import now
from app.services.ports import UnitOfWork

log = structlog.get_logger()

scan(app.triggers)
scan(app.gates)


def run(settings: Settings, stopping: threading.Event) -> None:
    """Turn until told to stop; several schedulers at once do no harm.

    Raises:
        SystemExit: DATABASE_URL or REDIS_URL is not set.
    """
    if settings.database_url is None or settings.redis_url is None:
        raise SystemExit("the scheduler needs DATABASE_URL and REDIS_URL; `upkeep up` sets them")
    work = PostgresUnitOfWork(connect(settings.database_url, pool_size=2))
    celery = queue.sender(settings.redis_url)
    name = f"scheduler@{socket.gethostname()}:{os.getpid()}"
    beaten_at = resent_at = float("-inf")
    while not stopping.is_set():
        turn: list[Callable[[], object]] = [
            lambda: drift.schedule_checks(work, now=now()),
            lambda: self_tests.schedule(work, now=now()),
            lambda: decisions.on_schedule(work, now=now()),
            lambda: queue.relay(work, celery),
        ]
        if time.monotonic() - beaten_at >= settings.heartbeat_seconds:
            turn[:0] = [lambda: _beat(work, name), lambda: training.requeue_lost(work)]
            beaten_at = time.monotonic()
        if time.monotonic() - resent_at >= settings.resend_seconds:
            resend = {"resend_seconds": settings.resend_seconds}
            turn[:0] = [
                lambda: training.resend_stalled(work, **resend),  # noqa: B023  ends with this turn
                lambda: drift.resend_stalled(work, **resend),  # noqa: B023  ends with this turn
                lambda: self_tests.resend_stalled(work, **resend),  # noqa: B023  ends with this turn
                lambda: observations.prepare_days(work, now=now()),
                lambda: retention.enforce(work, now=now()),
            ]
            resent_at = time.monotonic()
        for step in turn:
            _attempt(step)
        stopping.wait(settings.tick_seconds)


def _beat(work: UnitOfWork, name: str) -> None:
    with work:
        work.plugins.beat(name, "scheduler", {})


def _attempt(step: Callable[[], object]) -> None:
    """Do one thing; whatever it fails with, the others are still done."""
    try:
        step()
    except Unavailable as error:
        log.warning("scheduler.waiting", detail=str(error))
    except Exception:  # the loop must outlive it
        log.exception("scheduler.step_failed")


def main() -> None:
    """Find due work and relay it until a signal."""
    settings, stopping = Settings(), threading.Event()
    configure_logs(settings.log_format)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    run(settings, stopping)


if __name__ == "__main__":
    main()
