"""What can the service answer but yes? Its problem documents (RFC 9457) as a tree of errors.

UpkeepError
├── NotFound        404: no such model, version, run, ...
├── Conflict        409: it is there, but its state forbids the move
├── Invalid         400, 413, 415, 422: the request cannot mean anything that works; see `errors`
├── Unauthorized    401: no valid key
│   └── Forbidden   403: the key's role does not allow it
├── Unavailable     429, 502, 503, 504, or no connection: the same call may work later
├── StillWaiting    what was waited for did not happen in time; nothing failed
└── UnsafeArtifact  files of a version that are not what was promised, or could run code
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx


class UpkeepError(Exception):
    """Anything but success.

    Attributes:
        type: stable name of the kind of problem, such as "/problems/conflict".
        title: belongs to the type.
        status: the HTTP status; None when no answer came.
        detail: what went wrong this time and what would work.
        errors: for a refused body, where and why: [{"pointer": "/labels", "detail": ...}].
    """

    def __init__(
        self,
        detail: str,
        *,
        type: str = "about:blank",  # RFC 9457's word
        title: str = "",
        status: int | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(detail)
        self.type = type
        self.title = title
        self.status = status
        self.detail = detail
        self.errors = [dict(error) for error in errors]

    def __str__(self) -> str:
        shown = [f"{error.get('pointer', '')}: {error.get('detail', '')}" for error in self.errors]
        more = [f"and {len(shown) - 5} more"] if len(shown) > 5 else []
        return "; ".join([self.detail, *shown[:5], *more])


class NotFound(UpkeepError):
    """What was asked for is not there."""


class Conflict(UpkeepError):
    """It is there, but its present state forbids the move."""


class Invalid(UpkeepError):
    """The request cannot mean anything that works; `errors` say where."""


class Unauthorized(UpkeepError):
    """No valid key came with the request."""


class Forbidden(Unauthorized):
    """The key's role does not allow it."""


class Unavailable(UpkeepError):
    """The service, or what it stands on, is away; the same call may work later."""


class StillWaiting(UpkeepError):
    """What was waited for did not happen in time; nothing failed."""


class UnsafeArtifact(UpkeepError):
    """A version's files are not what was promised, or could run code."""


_BY_STATUS: Final[Mapping[int, type[UpkeepError]]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: Invalid,
    415: Invalid,
    422: Invalid,
    429: Unavailable,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def error_of(response: httpx.Response) -> UpkeepError:
    """Return the error that an unsuccessful, fully read response stands for."""
    kind = _BY_STATUS.get(response.status_code, UpkeepError)
    problem = _problem(response)
    title = str(problem.get("title") or response.reason_phrase)
    errors = problem.get("errors")
    return kind(
        str(problem.get("detail") or _summary(response, title)),
        type=str(problem.get("type", "about:blank")),
        title=title,
        status=response.status_code,
        errors=[e for e in errors if isinstance(e, dict)] if isinstance(errors, list) else (),
    )


def _problem(response: httpx.Response) -> Mapping[str, Any]:
    try:
        body = response.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        return {}
    return body if isinstance(body, dict) else {}


def _summary(response: httpx.Response, title: str) -> str:
    """Return a sentence for a body that is no problem document, such as a proxy's own page."""
    request = response.request
    return f"{request.method} {request.url} answered {response.status_code} {title}".rstrip()
