"""Errors as problem details (RFC 9457): the one place that pairs them with HTTP."""

import json
from collections.abc import Sequence
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from sqlalchemy.exc import DataError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from app.domain.errors import (
    Busy,
    Conflict,
    Fault,
    Forbidden,
    Forgotten,
    Invalid,
    NotFound,
    NotReady,
    StaleVerdict,
    Unauthorized,
    Unavailable,
    UnknownName,
    UnsafeArtifact,
    UpkeepError,
)

log = structlog.get_logger()

MEDIA_TYPE: Final = "application/problem+json"

PROBLEMS: Final[Sequence[tuple[type[UpkeepError], int, str]]] = (
    (Forgotten, 410, "forgotten"),
    (NotFound, 404, "not-found"),
    (StaleVerdict, 409, "stale-verdict"),
    (Conflict, 409, "conflict"),
    (UnsafeArtifact, 422, "unsafe-artifact"),
    (UnknownName, 422, "unknown-name"),
    (Invalid, 422, "invalid"),
    (Forbidden, 403, "forbidden"),
    (Unauthorized, 401, "unauthorized"),
    (NotReady, 503, "not-ready"),
    (Busy, 503, "busy"),
    (Unavailable, 503, "unavailable"),
    (UpkeepError, 400, "refused"),
)
"""Error, status and type, the most specific first."""

RETRY_AFTER_SECONDS: Final = {NotReady: "3", Busy: "5", Unavailable: "2"}

_BY_STATUS: Final = {404: "not-found", 405: "method-not-allowed", 413: "too-large"}


def problem_response(
    request: Request,
    status: int,
    kind: str,
    detail: str,
    *,
    faults: Sequence[Fault] = (),
    headers: dict[str, str] | None = None,
) -> Response:
    """Return one problem document."""
    body: dict[str, Any] = {
        "type": f"/problems/{kind}",
        "title": kind.replace("-", " ").capitalize(),
        "status": status,
        "detail": detail,
        "instance": request.url.path,
    }
    if faults:
        body["errors"] = [{"pointer": fault.pointer, "detail": fault.detail} for fault in faults]
    return Response(json.dumps(body), status, headers, MEDIA_TYPE)  # ASCII: any text can be quoted


def _on_refusal(request: Request, error: Exception) -> Response:
    for known, status, kind in PROBLEMS:
        if isinstance(error, known):
            faults = error.faults if isinstance(error, Invalid) else ()
            wait = next((s for t, s in RETRY_AFTER_SECONDS.items() if isinstance(error, t)), None)
            headers = {"Retry-After": wait} if wait else {}
            if status == 401:
                headers["WWW-Authenticate"] = "Bearer"
            return problem_response(
                request, status, kind, str(error), faults=faults, headers=headers
            )
    raise error


def _on_validation(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    faults = [
        Fault("/" + "/".join(str(part) for part in item["loc"][1:]), item["msg"])
        for item in error.errors()
    ]
    where = {str(item["loc"][0]) for item in error.errors()}
    detail = f"the request's {' and '.join(sorted(where))} is not valid; see errors"
    return problem_response(request, 422, "invalid", detail, faults=faults)


def _on_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    kind = _BY_STATUS.get(error.status_code, "refused")
    headers = dict(error.headers) if error.headers else None
    detail = str(error.detail)
    if error.status_code == 404:
        detail = f"there is no {request.url.path}; GET /openapi.json lists what there is"
    return problem_response(request, error.status_code, kind, detail, headers=headers)


def _on_database(request: Request, error: Exception) -> Response:
    log.warning("postgres.unreachable", detail=str(error)[:300])
    return problem_response(
        request,
        503,
        "unavailable",
        "Postgres is not reachable; nothing was stored, try again",
        headers={"Retry-After": "2"},
    )


def _on_data(request: Request, error: Exception) -> Response:
    said = str(getattr(error, "orig", error)).splitlines()[0]
    detail = f"a value of the request cannot be stored or looked for: {said}"
    return problem_response(request, 422, "invalid", detail)


def _on_bug(request: Request, error: Exception) -> Response:
    log.error("request.failed", path=request.url.path, exc_info=error)
    return problem_response(
        request, 500, "internal", "an error of ours; the log of the API has it in full"
    )


def install(app: FastAPI) -> None:
    """Answer every error of this app as a problem document."""
    app.add_exception_handler(UpkeepError, _on_refusal)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    for lost in (OperationalError, InterfaceError, PoolTimeoutError):
        app.add_exception_handler(lost, _on_database)
    app.add_exception_handler(DataError, _on_data)
    app.add_exception_handler(Exception, _on_bug)
