"""Is it alive, and is it ready? What is down is named."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from app.api.context import Services, Wired, answer
from app.domain.errors import UpkeepError
from app.services.ports import UnitOfWork

router = APIRouter(tags=["operate"])

ALIVE_SECONDS = 20.0


@router.get("/healthz")
def healthz() -> JSONResponse:
    """Answer while the process lives."""
    return answer({"status": "ok"})


def _look(check: Callable[[], Any]) -> dict[str, Any]:
    try:
        found = check()
    except UpkeepError as error:
        return {"ok": False, "detail": str(error)}
    except Exception as error:  # noqa: BLE001  whatever a dependency fails with, it is down
        return {"ok": False, "detail": f"{type(error).__name__}: {str(error)[:200]}"}
    return {"ok": True, **(found or {})}


def _processes(work: UnitOfWork, kind: str) -> dict[str, Any]:
    with work:
        alive = [item for item in work.plugins.alive(seconds=ALIVE_SECONDS) if item["kind"] == kind]
    if not alive:
        raise UpkeepError(f"no {kind} gave a sign of life in the last {ALIVE_SECONDS:.0f} s")
    return {"alive": [item["name"] for item in alive]}


@router.get("/readyz")
def readyz(wired: Wired) -> JSONResponse:
    """Say what is down: 200 while ingest and reads work, 503 without Postgres."""
    dependencies = _dependencies(wired)
    down = [name for name, found in dependencies.items() if not found["ok"]]
    status = "ready" if not down else "down" if "postgres" in down else "degraded"
    body = {"status": status, "down": down, "dependencies": dependencies}
    return answer(body, 503 if status == "down" else 200)


def _dependencies(wired: Services) -> dict[str, dict[str, Any]]:
    work = wired.open_work()

    def postgres() -> dict[str, Any]:
        with work:
            return {"outbox": work.outbox.n_waiting()}

    return {
        "postgres": _look(postgres),
        "redis": _look(wired.ping_redis),
        "workers": _look(lambda: _processes(work, "worker")),
        "scheduler": _look(lambda: _processes(work, "scheduler")),
    }
