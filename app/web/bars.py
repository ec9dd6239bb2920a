"""How is a column's spread drawn, before beside now?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from app.web.words import number, percent

WIDTH: Final = 240
HEIGHT: Final = 72
_GAP: Final = 2


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin: the place of its two bars in units of the view box, and what it says."""

    x: float
    width: float
    before: float
    now: float
    text: str


@dataclass(frozen=True, slots=True)
class Bars:
    """The drawing of one column: bars as high as their share of the side's values."""

    name: str
    bins: Sequence[Bin]
    first: str
    last: str
    missing: str
    width: int = WIDTH
    height: int = HEIGHT


def drawn(name: str, histogram: Mapping[str, Any]) -> Bars:
    """Return the drawing of a histogram as a check has counted it.

    Args:
        name: of the column.
        histogram: counts of both sides by bin, with `edges` or `labels`, and those missing.
    """
    sides = [histogram["reference"], histogram["current"]]
    totals = [sum(counts) + gone for counts, gone in zip(sides, histogram["missing"], strict=True)]
    shares = [
        [count / max(total, 1) for count in counts]
        for counts, total in zip(sides, totals, strict=True)
    ]
    highest = max((share for side in shares for share in side), default=0.0) or 1.0
    labels = _labels(histogram)
    width = WIDTH / max(len(labels), 1)
    bins = [
        Bin(
            x=i * width + _GAP / 2,
            width=width - _GAP,
            before=HEIGHT * before / highest,
            now=HEIGHT * now / highest,
            text=f"{label}: {percent(before)} before, {percent(now)} now",
        )
        for i, (label, before, now) in enumerate(zip(labels, *shares, strict=True))
    ]
    edges = [number(edge) for edge in histogram.get("edges", ())]
    before, now = (
        gone / max(total, 1) for gone, total in zip(histogram["missing"], totals, strict=True)
    )
    return Bars(
        name=name,
        bins=bins,
        first=edges[0] if edges else (labels[0] if labels else ""),
        last=edges[-1] if edges else (labels[-1] if labels else ""),
        missing=f"missing {percent(before)} before, {percent(now)} now" if before or now else "",
    )


def _labels(histogram: Mapping[str, Any]) -> list[str]:
    if "labels" in histogram:
        return [str(label) for label in histogram["labels"]]
    return [f"{number(low)} to {number(high)}" for low, high in pairwise(histogram["edges"])]
