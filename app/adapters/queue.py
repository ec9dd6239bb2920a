"""The outbox to Celery, by job name; Redis carries ids only, and may lose them."""

import structlog
from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from app.domain.errors import Unavailable
from app.services.ports import UnitOfWork

log = structlog.get_logger()


def broker_url(redis_url: str) -> str:
    """Return the Celery form of a Redis URL: `unix:///path` becomes `redis+socket:///path`."""
    if redis_url.startswith("unix://"):
        path, _, query = redis_url.removeprefix("unix://").partition("?")
        database = query.removeprefix("db=") if query.startswith("db=") else "0"
        return f"redis+socket://{path}?virtual_host={database}"
    return redis_url


def sender(redis_url: str) -> Celery:
    """Return a Celery app that only sends, and gives up within seconds when Redis is away."""
    app = Celery("upkeep", broker=broker_url(redis_url))
    app.conf.update(
        task_ignore_result=True,
        broker_connection_timeout=2,
        broker_connection_retry=False,
        broker_connection_max_retries=0,
        broker_transport_options={
            "socket_timeout": 5,
            "socket_connect_timeout": 2,
            "retry_on_timeout": False,
        },
        task_publish_retry=False,
    )
    return app


def relay(work: UnitOfWork, celery: Celery) -> int:
    """Send the jobs that committed transactions asked for; return how many.

    A job leaves the outbox only if it was sent: the deletion commits afterwards. A crash between
    the two sends it twice, which every job allows for.

    Raises:
        Unavailable: Redis is away; everything stays in the outbox.
    """
    with work:
        jobs = work.outbox.take()
        try:
            for job, queue, subject_id in jobs:
                celery.send_task(f"upkeep.{job}", args=[str(subject_id)], queue=queue, retry=False)
        except (OperationalError, RedisError, OSError) as error:
            raise Unavailable(f"Redis is not reachable: {error}") from error
    return len(jobs)
