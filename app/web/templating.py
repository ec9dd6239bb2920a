"""From values to HTML: templates with escaping on, and the files they link to."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Final

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from app.web.words import FILTERS

STATIC: Final[Mapping[str, tuple[bytes, str]]] = {
    name: ((files("app.web") / "static" / name).read_bytes(), media_type)
    for name, media_type in (
        ("upkeep.css", "text/css; charset=utf-8"),
        ("upkeep.js", "text/javascript; charset=utf-8"),
        ("upkeep.svg", "image/svg+xml"),
    )
}
"""The files under /static, by name, with their media types."""

ETAGS: Final[Mapping[str, str]] = {
    name: hashlib.sha256(body).hexdigest()[:16] for name, (body, _) in STATIC.items()
}


def static_url(name: str) -> str:
    """Return where a static file lies; another content gives another address."""
    return f"/static/{name}?v={ETAGS[name]}"


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("app.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(FILTERS)
    made.globals["static_url"] = static_url
    return made


_TEMPLATES: Final = _environment()


def render(template: str, values: Mapping[str, Any]) -> str:
    """Return a template filled in; everything in `values` is escaped."""
    return _TEMPLATES.get_template(template).render({"now": datetime.now(UTC), **values})


def page(template: str, values: Mapping[str, Any], status: int = 200) -> HTMLResponse:
    """Return a template filled in as a response."""
    return HTMLResponse(render(template, values), status)
