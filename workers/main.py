"""The Celery app: queues, limits, what this process can run, and its signs of life."""

import os
import threading
import time
from typing import Any

import structlog
from celery import Celery
from celery.signals import (
    task_postrun,
    task_prerun,
    worker_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutting_down,
)
from prometheus_client import start_http_server

import app.gates
import app.triggers
from app.adapters import metrics
from app.adapters.artifacts import FileArtifacts
from app.adapters.logs import configure_logs
from app.adapters.postgres.unit_of_work import PostgresUnitOfWork, connect
from app.adapters.queue import broker_url
from app.config import Settings
from app.domain.errors import Unavailable
from app.domain.registry import scan
from app.domain.usage import Rates
from app.services.ports import Plugin
from workers.jobs.context import Context, install, owner_name
from workers.jobs.devices import grouped, usable_gpus
from workers.training.starting import ForkServer

log = structlog.get_logger()

JOBS = {
    "checks": (
        "workers.jobs.check_drift",
        "workers.jobs.evaluate",
        "workers.jobs.self_test",
        "workers.jobs.verify_version",
        "workers.announcements",
    ),
    "training": ("workers.jobs.train",),
}

scan(app.gates)
scan(app.triggers)

settings = Settings()
concurrency = int(os.environ.get("UPKEEP_CONCURRENCY", "1"))
queues = os.environ.get("UPKEEP_QUEUES", "checks,training").split(",")
if settings.database_url is None or settings.redis_url is None:
    raise SystemExit("a worker needs DATABASE_URL and REDIS_URL; `upkeep up` sets them")

celery = Celery("upkeep", broker=broker_url(settings.redis_url))
celery.conf.update(
    include=[module for queue in queues for module in JOBS[queue]],
    task_ignore_result=True,
    task_acks_late=False,
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=concurrency > 1,  # what a busy worker holds, no idle one can take
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={"socket_keepalive": True, "health_check_interval": 5},
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_proc_alive_timeout=60,
)

_stopping = threading.Event()
_engine = connect(settings.database_url, pool_size=3 * concurrency + 1)
_devices = grouped(usable_gpus(), settings.gpus_of_a_run) if "training" in queues else ()
_fork_server = ForkServer() if "training" in queues and settings.fork_server else None


@worker_init.connect
def start(**_: Any) -> None:
    """Give the jobs their context before the first one comes."""
    configure_logs(settings.log_format)
    install(
        Context(
            open_work=lambda: PostgresUnitOfWork(_engine),
            artifacts=FileArtifacts(settings.artifacts_directory()),
            work_directory=settings.work_directory(),
            owner=owner_name("+".join(queues)),
            lease_seconds=settings.lease_seconds,
            heartbeat_seconds=settings.heartbeat_seconds,
            threads=_threads_of_a_run(),
            is_stopping=_stopping,
            count_lost=lambda part: metrics.lost_parts.labels(part).inc(),
            devices=_devices,
            fork_server=_fork_server,
            rates=Rates(
                watts_per_core=settings.cpu_watts,
                watts_per_gpu=settings.gpu_watts,
                cost_per_core_hour=settings.cpu_cost_per_hour,
                cost_per_gpu_hour=settings.gpu_cost_per_hour,
                grams_per_kwh=settings.grid_grams_per_kwh,
            ),
        )
    )
    settings.work_directory().mkdir(parents=True, exist_ok=True)


def _threads_of_a_run() -> int | None:
    """Return the setting, else a fair share of the cores where several runs go on at once."""
    if settings.threads is not None or concurrency == 1:
        return settings.threads
    return max(1, len(os.sched_getaffinity(0)) // concurrency)


@worker_ready.connect
def ready(**_: Any) -> None:
    """Announce what this worker can run, and go on showing that it lives."""
    if settings.metrics_port:
        start_http_server(settings.metrics_port, addr=settings.host)
    threading.Thread(target=_beat, name="heartbeat", daemon=True).start()
    if _fork_server is not None:
        _fork_server.start()
    log.info("worker.started", queues=queues)


def _beat() -> None:
    work = PostgresUnitOfWork(_engine)
    announced = False
    detail = {"queues": queues, "concurrency": concurrency, "devices": _devices}
    while True:
        try:
            with work:
                if not announced:
                    work.plugins.announce(_plugins())
                work.plugins.beat(owner_name("+".join(queues)), "worker", detail)
            announced = True
        except Unavailable:
            log.warning("worker.heartbeat_failed")
        if _stopping.wait(settings.heartbeat_seconds):
            return


def _plugins() -> list[Plugin]:
    loaded = celery.loader.import_module(JOBS["checks"][-1]) if "checks" in queues else None
    return loaded.plugins() if loaded else []


_started_at: dict[str, float] = {}


@task_prerun.connect
def begin(task_id: str, **_: Any) -> None:
    """Note when a job began."""
    _started_at[task_id] = time.monotonic()


@task_postrun.connect
def end(task_id: str, task: Any, state: str | None = None, **_: Any) -> None:
    """Count a job and its time."""
    job = task.name.removeprefix("upkeep.")
    metrics.jobs.labels(job, (state or "unknown").lower()).inc()
    started = _started_at.pop(task_id, None)
    if started is not None:
        metrics.job_seconds.labels(job).observe(time.monotonic() - started)


@worker_shutting_down.connect
@worker_process_shutdown.connect
def stop(**_: Any) -> None:
    """Let a job in progress see that it must end."""
    _stopping.set()
