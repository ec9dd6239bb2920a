"""Wires adapters to services, mounts the routers, loads the plug-ins."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import redis
from fastapi import APIRouter, FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import app.gates
import app.triggers
from app.adapters import metrics
from app.adapters.artifacts import FileArtifacts
from app.adapters.logs import configure_logs
from app.adapters.postgres.unit_of_work import PostgresUnitOfWork, connect
from app.api import (
    drift,
    govern,
    health,
    incidents,
    models,
    observations,
    problems,
    promotion,
    self_tests,
    training,
)
from app.api.context import Services, Wired
from app.api.following import Following
from app.config import Settings
from app.domain.registry import scan
from app.web import pages

scan(app.triggers)
scan(app.gates)

DESCRIPTION = """
Upkeep keeps deployed models good. Send it what a model saw and answered, and the labels as they
come; it watches, decides, fine-tunes, judges, promotes, and takes back. Errors are problem details
(RFC 9457); lists are paged by cursor.
"""


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the API of one process.

    Raises:
        SystemExit: DATABASE_URL or REDIS_URL is not set.
    """
    chosen = settings or Settings()
    if chosen.database_url is None or chosen.redis_url is None:
        raise SystemExit("the API needs DATABASE_URL and REDIS_URL; `upkeep up` sets them")
    configure_logs(chosen.log_format)
    engine = connect(chosen.database_url)
    broker = redis.Redis.from_url(chosen.redis_url, socket_timeout=2, socket_connect_timeout=2)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        engine.dispose()
        broker.close()

    api = FastAPI(
        title="Upkeep", version="0.1.0", description=DESCRIPTION, lifespan=lifespan, redoc_url=None
    )
    api.state.services = Services(
        open_work=lambda: PostgresUnitOfWork(engine),
        artifacts=FileArtifacts(chosen.artifacts_directory()),
        settings=chosen,
        ping_redis=lambda: _ping(broker),
        following=Following(lambda: PostgresUnitOfWork(engine), most=chosen.maximum_streams),
    )
    problems.install(api)
    api.add_middleware(_Measure)
    for step in (
        models,
        observations,
        drift,
        self_tests,
        incidents,
        training,
        promotion,
        govern,
        health,
    ):
        api.include_router(step.router)
    api.include_router(_metrics_router())
    pages.mount(api)
    return api


def _metrics_router() -> APIRouter:
    router = APIRouter(tags=["operate"])

    @router.get("/metrics", response_class=Response)
    def scrape(wired: Wired) -> Response:
        """Return the metrics in Prometheus' text format."""
        with wired.open_work() as work:
            metrics.refresh(work)
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router


def _ping(broker: "redis.Redis") -> None:
    broker.ping()


class _Measure:
    """Counts and times every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and note its status as it is sent."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            metrics.requests.labels(scope["method"], route, str(status)).inc()
            metrics.request_seconds.labels(route).observe(time.perf_counter() - started)
