"""Signing in with an API key, which the browser keeps where no script can read it."""

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from app.domain.errors import Unauthorized
from app.services import keys
from app.web.context import KEY_COOKIE, Work
from app.web.guard import PageRoute
from app.web.templating import page

router = APIRouter(route_class=PageRoute, include_in_schema=False)

REMEMBERED_SECONDS = 12 * 3600


def local(address: str) -> str:
    """Return an address of ours, or / for one that would lead elsewhere."""
    parts = urlsplit(address)
    is_ours = address.startswith("/") and not address.startswith(("//", "/\\"))
    is_plain = address.isprintable() and not parts.scheme and not parts.netloc
    return address if is_ours and is_plain else "/"


@router.get("/login")
def ask(work: Work, next_: Annotated[str, Query(alias="next")] = "/") -> Response:
    """Ask for an API key."""
    with work:
        is_open = not work.keys.any()
    values = {"visitor": None, "next": local(next_), "is_open": is_open, "error": None}
    return page("login.html", values)


@router.post("/login")
def sign_in(
    request: Request,
    work: Work,
    key: Annotated[str, Form(max_length=200)] = "",
    next_: Annotated[str, Form(alias="next", max_length=2000)] = "/",
) -> Response:
    """Check the key, and let the browser keep it until it is closed or the day is over."""
    try:
        keys.identify(work, key.strip(), claimed=None)
    except Unauthorized:
        error = "That is not a valid key. Keys begin with upk_ and are shown once, when made."
        values = {"visitor": None, "next": local(next_), "is_open": False, "error": error}
        return page("login.html", values, 401)
    response = RedirectResponse(local(next_), 303)
    response.set_cookie(
        KEY_COOKIE,
        key.strip(),
        max_age=REMEMBERED_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


@router.post("/logout")
def sign_out() -> Response:
    """Forget the key."""
    response = RedirectResponse("/login", 303)
    response.delete_cookie(KEY_COOKIE, httponly=True, samesite="strict")
    return response
