"""What runs when: due checks, schedules, lost runs, and the outbox, in one small loop."""

import os
import socket
import threading
import time

import structlog

import app.gates
import app.triggers
from app.adapters import queue
from app.adapters.postgres.unit_of_work import PostgresUnitOfWork, connect
from app.config import Settings
from app.domain.errors import Unavailable
from app.domain.registry import scan
from app.services import decisions, drift, training
from app.services.clock import now

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
        try:
            if time.monotonic() - beaten_at >= settings.heartbeat_seconds:
                with work:
                    work.plugins.beat(name, "scheduler", {})
                training.requeue_lost(work)
                beaten_at = time.monotonic()
            if time.monotonic() - resent_at >= settings.resend_seconds:
                training.resend_stalled(work, resend_seconds=settings.resend_seconds)
                drift.resend_stalled(work, resend_seconds=settings.resend_seconds)
                resent_at = time.monotonic()
            drift.schedule_checks(work, now=now())
            decisions.on_schedule(work, now=now())
            queue.relay(work, celery)
        except Unavailable as error:
            log.warning("scheduler.waiting", detail=str(error))
        except Exception:  # the loop must outlive one turn
            log.exception("scheduler.turn_failed")
        stopping.wait(settings.tick_seconds)
