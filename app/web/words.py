"""Numbers, times and states in words that fit a table."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from app.services.documents import document

NOTHING: Final = "–"

FINDINGS: Final[Mapping[str, tuple[str, str]]] = {
    "fault": ("Fault upstream", "bad"),
    "drift": ("Drift", "warn"),
    "no_drift": ("No drift", "good"),
    "insufficient_data": ("Too little data", "idle"),
}
"""A finding's name and tone."""

TONES: Final[Mapping[str, str]] = {
    "champion": "good",
    "challenger": "busy",
    "trained": "busy",
    "imported": "busy",
    "superseded": "idle",
    "rejected": "warn",
    "quarantined": "bad",
    "retrain": "busy",
    "defer": "warn",
    "skip": "idle",
    "queued": "busy",
    "running": "busy",
    "succeeded": "good",
    "failed": "bad",
    "cancelled": "idle",
    "promoted": "good",
    "watching": "good",
    "training": "busy",
    "checking": "busy",
    "paused": "warn",
    "waiting": "idle",
    "broken input": "bad",
    "open": "bad",
    "acknowledged": "warn",
    "resolved": "good",
}
"""The tone in which a state is shown: good, busy, warn, bad or idle."""


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share such as 0.943 as "94.3 %"."""
    return NOTHING if value is None else f"{value * 100:.{digits}f}\u202f%"


def points(value: float | None) -> str:
    """Return a difference of shares in percentage points, signed."""
    return NOTHING if value is None else f"{value * 100:+.1f}".replace("-", "\u2212")


def count(value: int | None) -> str:
    """Return a whole number with its thousands apart."""
    return NOTHING if value is None else f"{value:,}".replace(",", "\u202f")


def small(value: float | None) -> str:
    """Return a p-value or q-value: two digits that count, or that it is under 0.0001."""
    if value is None:
        return NOTHING
    if value < 1e-4:
        return "< 0.0001"
    return f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def number(value: Any) -> str:
    """Return any number, four digits that count; other values as they are."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def size(value: float | None) -> str:
    """Return bytes in the unit that fits."""
    if value is None:
        return NOTHING
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"


def lasting(seconds: float | None) -> str:
    """Return a duration in the two units that fit."""
    if seconds is None:
        return NOTHING
    whole = round(max(seconds, 0.0))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def ago(at: datetime | None, now: datetime) -> str:
    """Return how long ago a time was, in the one unit that fits."""
    if at is None:
        return "never"
    seconds = (now - at).total_seconds()
    if seconds < 5:
        return "just now"
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit} ago"
    return f"{int(seconds)} s ago"


def exact(at: datetime | None) -> str:
    """Return a time to the second, in UTC."""
    return NOTHING if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def spaced(name: str) -> str:
    """Return a name made of parts, such as `new-category` or `brightness_mean`, as words."""
    return name.replace("_", " ").replace("-", " ")


def pretty(value: Any) -> str:
    """Return a document as indented JSON."""
    return json.dumps(document(value), indent=2, ensure_ascii=False)


def finding(value: str | None) -> tuple[str, str]:
    """Return the name and the tone of a finding."""
    return FINDINGS.get(value or "", ("Not looked yet", "idle"))


def tone(state: str | None) -> str:
    """Return the tone in which a state is shown."""
    return TONES.get(str(state), "idle")


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "percent": percent,
    "points": points,
    "count": count,
    "small": small,
    "number": number,
    "size": size,
    "lasting": lasting,
    "ago": ago,
    "exact": exact,
    "spaced": spaced,
    "pretty": pretty,
    "finding": finding,
    "tone": tone,
}
"""What the templates call, by name."""
