"""Every page goes through here: no request forged elsewhere gets in, every error is a page."""

from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import quote, urlsplit

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from fastapi.routing import APIRoute

from app.domain.errors import (
    Conflict,
    Fault,
    Forbidden,
    Invalid,
    NotFound,
    Unauthorized,
    UpkeepError,
)
from app.web.context import open_work
from app.web.templating import page

MAXIMUM_FORM_BYTES: Final = 64 * 1024

HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""On every page that does not say otherwise."""

STATUS: Final[Mapping[type[UpkeepError], tuple[int, str]]] = {
    NotFound: (404, "Not found"),
    Conflict: (409, "That cannot be done now"),
    Forbidden: (403, "Not allowed"),
    Invalid: (422, "That does not work"),
}


class PageRoute(APIRoute):
    """A route whose answers are pages: guarded before, secured after, errors included."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]  # FastAPI says Coroutine, which is what async def gives
        """Return the handler within its guard."""
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                await run_in_threadpool(_check_host, request)
                if request.method == "POST":
                    check_origin(request.headers, request.url.scheme)
                    _check_size(request)
                response = await inner(request)
            except Unauthorized:
                response = RedirectResponse(f"/login?next={quote(_way_back(request))}", 303)
            except RequestValidationError as error:
                faults = [Fault(str(item["loc"][-1]), item["msg"]) for item in error.errors()]
                response = refusal(request, Invalid("the form is not valid", faults))
            except UpkeepError as error:
                response = refusal(request, error)
            for name, value in HEADERS.items():
                response.headers.setdefault(name, value)
            return response

        return handle


def check_origin(headers: Mapping[str, str], scheme: str) -> None:
    """Let a form pass that one of our own pages sent.

    Browsers say where a request comes from in `Sec-Fetch-Site` and `Origin`; a page elsewhere
    cannot change either. What says neither is no form of ours.

    Raises:
        Forbidden: it came from elsewhere.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    is_ours = site == "same-origin" if site is not None else False
    if site is None and origin is not None:
        is_ours = origin == f"{scheme}://{headers.get('host')}"
    if not is_ours:
        raise Forbidden(
            "this form was not sent from a page of this service; programs use the API under /v1"
        )


def is_name_of_this_machine(host: str) -> bool:
    """Whether a Host header cannot be a public domain pointed at us (DNS rebinding)."""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        ip_address(name)
    except ValueError:
        return "." not in name or name.endswith((".localhost", ".local", ".internal"))
    return True


def _check_host(request: Request) -> None:
    """Refuse a foreign domain that was pointed at this machine while no key protects it."""
    if is_name_of_this_machine(request.headers.get("host", "")):
        return
    with open_work(request) as work:
        if not work.keys.any():
            raise Forbidden(
                "there are no API keys yet, so these pages answer to the names of this machine "
                "and its addresses only; make an admin key first (POST /v1/keys)"
            )


def _check_size(request: Request) -> None:
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > MAXIMUM_FORM_BYTES:
        raise Invalid(f"a form may hold at most {MAXIMUM_FORM_BYTES} bytes and must say how many")


def _way_back(request: Request) -> str:
    if request.method == "GET" and request.url.path != "/login":
        return request.url.path
    name = request.path_params.get("name")
    return f"/models/{quote(str(name))}" if name else "/"


def refusal(request: Request, error: UpkeepError) -> Response:
    """Return the page that says why a request was refused, and what would work."""
    status, title = next(
        (found for known, found in STATUS.items() if isinstance(error, known)),
        (503, "Not available"),
    )
    values: dict[str, Any] = {
        "title": title,
        "detail": str(error),
        "faults": error.faults if isinstance(error, Invalid) else (),
        "back": _way_back(request) if request.method == "POST" else "/",
        "visitor": None,
    }
    return page("error.html", values, status)
