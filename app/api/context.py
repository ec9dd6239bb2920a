"""What every route gets: the unit of work, who calls, and which page is wanted.

What waits for nothing is `async`, so that it costs no thread.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Header, HTTPException, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from app.api.following import Following
from app.config import Settings
from app.services import keys
from app.services.documents import document
from app.services.ports import Actor, Artifacts, Listed, Page, UnitOfWork


@dataclass(frozen=True, slots=True)
class Services:
    """The adapters behind the routes, chosen in `app.main`."""

    open_work: Callable[[], UnitOfWork]
    artifacts: Artifacts
    settings: Settings
    ping_redis: Callable[[], None]
    following: Following


async def services(request: Request) -> Services:
    """Return the adapters of this app."""
    found: Services = request.app.state.services
    return found


Wired = Annotated[Services, Depends(services)]


async def work(wired: Wired) -> UnitOfWork:
    """Return a unit of work for this request."""
    return wired.open_work()


Work = Annotated[UnitOfWork, Depends(work)]


def _caller(permission: str) -> Callable[..., Actor]:
    def caller(
        work: Work,
        authorization: Annotated[str | None, Header(include_in_schema=False)] = None,
        x_actor: Annotated[str | None, Header(description="your name, for the audit")] = None,
    ) -> Actor:
        scheme, _, key = (authorization or "").partition(" ")
        actor = keys.identify(
            work, key.strip() if scheme.lower() == "bearer" else None, claimed=x_actor
        )
        keys.allow(actor, permission)
        return actor

    return caller


Reader = Annotated[Actor, Depends(_caller(keys.READ))]
Ingester = Annotated[Actor, Depends(_caller(keys.INGEST))]
Operator = Annotated[Actor, Depends(_caller(keys.OPERATE))]
Approver = Annotated[Actor, Depends(_caller(keys.APPROVE))]
Admin = Annotated[Actor, Depends(_caller(keys.ADMINISTER))]


async def page(
    limit: Annotated[int, Query(ge=1, le=500, description="rows on a page")] = 50,
    cursor: Annotated[str | None, Query(description="next_cursor of the page before")] = None,
) -> Page:
    """Return which page is wanted."""
    return Page(limit, cursor)


Paged = Annotated[Page, Depends(page)]


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return any value of ours as JSON."""
    return JSONResponse(document(body), status, headers)


def listing(listed: Listed, render: Callable[[Any], Any] = document) -> JSONResponse:
    """Return one page of a list."""
    items = [render(item) for item in listed.items]
    return answer({"items": items, "next_cursor": listed.next_cursor})


async def body_of(request: Request, wired: Services) -> bytes:
    """Return a request's body, refused while it is read when it is too large.

    Raises:
        HTTPException: 413, it is larger than the settings allow.
    """
    most = wired.settings.maximum_body_bytes
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            detail = f"the body is larger than {most} bytes; send smaller batches"
            raise HTTPException(413, detail)
        chunks.append(chunk)
    return b"".join(chunks)


in_thread = run_in_threadpool
