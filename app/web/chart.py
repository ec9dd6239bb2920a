"""Where does each thing of a model's story lie on its chart?"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from math import ceil, floor, sqrt
from statistics import NormalDist
from typing import Any, Final

WIDTH: Final = 1000
LEFT, RIGHT, TOP, BOTTOM = 62, 984, 34, 250
LANES: Final[Mapping[str, int]] = {"drift": 292, "run": 312, "version": 332}
"""Height of the row in which the marks of a kind stand."""
HEIGHT: Final = 346
_Z: Final = NormalDist().inv_cdf(0.975)
_MOST_BUCKETS: Final = 48
_SIGN_WIDTH: Final = 11


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that belongs on the time axis.

    Attributes:
        kind: "drift", "run", "promoted", "rejected" or "rolled_back".
        sequence: arrival number of the newest observation then; 0 before the first.
        version: for the moves of a version, its number.
        href: where on the page it is told in full.
    """

    kind: str
    at: datetime
    sequence: int
    text: str
    version: int | None = None
    href: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A happening with its place on the chart.

    Attributes:
        at_x: where it happened.
        x: where its sign stands; further left when a later one of its row stands there.
    """

    kind: str
    at_x: float
    x: float
    y: float
    text: str
    at: datetime
    href: str
    is_tall: bool


@dataclass(frozen=True, slots=True)
class Dot:
    """One bucket of one line."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its pieces as SVG paths (a gap where nothing is labelled) and its dots."""

    path: str
    dots: Sequence[Dot]
    newest: float | None


@dataclass(frozen=True, slots=True)
class Era:
    """The stretch of observations during which one version was in charge."""

    x: float
    width: float
    version: int


@dataclass(frozen=True, slots=True)
class Chart:
    """All that the drawing shows, in units of its view box."""

    served: Line
    first: Line
    first_version: int
    band: str
    floor_y: float | None
    floor: float | None
    y_ticks: Sequence[tuple[float, str]]
    x_ticks: Sequence[tuple[float, str]]
    marks: Sequence[Mark]
    eras: Sequence[Era]
    rows: Sequence[Mapping[str, Any]]
    bucket: int
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = RIGHT
    top: int = TOP
    bottom: int = BOTTOM
    lanes: Mapping[str, int] = field(default_factory=lambda: LANES)


def bucket_size(n_observations: int) -> int:
    """Return a round number of observations for which the chart has at most 48 buckets."""
    wanted = max(ceil(n_observations / _MOST_BUCKETS), 10)
    scale = 1
    while scale * 100 < wanted:
        scale *= 10
    return next(step * scale for step in (10, 20, 25, 50, 100) if step * scale >= wanted)


def wilson(share: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of n (Wilson, 1927)."""
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def draw(
    items: Sequence[Mapping[str, Any]],
    happenings: Sequence[Happening],
    *,
    bucket: int,
    first_version: int = 1,
    lowest_tolerated: float | None = None,
) -> Chart | None:
    """Lay out a timeline; None while it holds no observation.

    Args:
        items: buckets in order of arrival, as the timeline of the observations gives them.
        happenings: in order of time.
        bucket: observations in each bucket but the last.
        first_version: the version whose answers the others are compared with.
        lowest_tolerated: accuracy under which labels count as decay, drawn as a line.
    """
    if not items:
        return None
    served = [(item["accuracy"], item["n_labelled"]) for item in items]
    first = [_answers_of(item, first_version) for item in items]
    low, step = _scale(served, first, lowest_tolerated)
    place = _places(items)

    def y(value: float) -> float:
        return round(BOTTOM - (max(value, low) - low) / (1 - low) * (BOTTOM - TOP), 1)

    centres = [round((place.edges[i] + place.edges[i + 1]) / 2, 1) for i in range(len(items))]
    return Chart(
        served=_line(centres, served, y, "served"),
        first=_line(centres, first, y, f"version {first_version}"),
        first_version=first_version,
        band=_band(centres, served, y),
        floor_y=y(lowest_tolerated) if lowest_tolerated is not None else None,
        floor=lowest_tolerated,
        y_ticks=[(y(value), f"{value:.0%}") for value in _steps(low, step)],
        x_ticks=_x_ticks(items, place.edges),
        marks=_marks(happenings, place.x),
        eras=_eras(happenings, place.x),
        rows=[
            {**item, "first_version": accuracy, "n_first": n}
            for item, (accuracy, n) in zip(items, first, strict=True)
        ],
        bucket=bucket,
    )


def _answers_of(item: Mapping[str, Any], version: int) -> tuple[float | None, int]:
    found = item["by_version"].get(str(version))
    return (found["accuracy"], found["n"]) if found else (None, 0)


def _scale(
    served: Sequence[tuple[float | None, int]],
    first: Sequence[tuple[float | None, int]],
    lowest_tolerated: float | None,
) -> tuple[float, float]:
    values = [value for value, _ in (*served, *first) if value is not None]
    values += [lowest_tolerated] if lowest_tolerated is not None else []
    lowest = min(values, default=0.0)
    step = 0.02 if lowest > 0.9 else 0.05 if lowest > 0.75 else 0.1 if lowest > 0.45 else 0.2
    return max(floor((lowest - step / 2) / step + 1e-9) * step, 0.0), step


def _steps(low: float, step: float) -> list[float]:
    return [min(low + i * step, 1.0) for i in range(ceil((1 - low) / step - 1e-9) + 1)]


@dataclass(frozen=True, slots=True)
class _Places:
    """Where arrival numbers lie: every observation takes the same width."""

    edges: Sequence[float]
    firsts: Sequence[int]
    lasts: Sequence[int]

    def x(self, sequence: int) -> float:
        """Return the place just after an observation; the left edge before the first."""
        i = bisect_right(self.firsts, sequence) - 1
        if i < 0:
            return self.edges[0]
        span = self.lasts[i] - self.firsts[i] + 1
        share = min((sequence - self.firsts[i] + 1) / span, 1.0)
        return round(self.edges[i] + share * (self.edges[i + 1] - self.edges[i]), 1)


def _places(items: Sequence[Mapping[str, Any]]) -> _Places:
    total = sum(item["n"] for item in items)
    edges, seen = [float(LEFT)], 0
    for item in items:
        seen += item["n"]
        edges.append(round(LEFT + seen / total * (RIGHT - LEFT), 1))
    return _Places(
        edges,
        [item["first_sequence"] for item in items],
        [item["last_sequence"] for item in items],
    )


def _line(
    centres: Sequence[float],
    values: Sequence[tuple[float | None, int]],
    y: Callable[[float], float],
    name: str,
) -> Line:
    dots, path, is_drawing = [], [], False
    newest = None
    for x, (value, n) in zip(centres, values, strict=True):
        if value is None:
            is_drawing = False
            continue
        newest = value
        dots.append(Dot(x, y(value), f"{name}: {value:.1%} of {n} labelled answers"))
        path.append(f"{'L' if is_drawing else 'M'}{x} {y(value)}")
        is_drawing = True
    return Line("".join(path), dots, newest)


def _band(
    centres: Sequence[float],
    values: Sequence[tuple[float | None, int]],
    y: Callable[[float], float],
) -> str:
    pieces: list[list[tuple[float, float, float]]] = [[]]
    for x, (value, n) in zip(centres, values, strict=True):
        if value is None or not n:
            pieces.append([])
            continue
        lower, upper = wilson(value, n)
        pieces[-1].append((x, y(lower), y(upper)))
    return "".join(
        "M"
        + "L".join(f"{x} {upper}" for x, _, upper in piece)
        + "L"
        + "L".join(f"{x} {lower}" for x, lower, _ in reversed(piece))
        + "Z"
        for piece in pieces
        if len(piece) > 1
    )


def _x_ticks(items: Sequence[Mapping[str, Any]], edges: Sequence[float]) -> list[tuple[float, str]]:
    every = max(1, ceil(len(items) / 8))
    ticks, seen = [(edges[0], "0")], 0
    for i, item in enumerate(items):
        seen += item["n"]
        is_last = i == len(items) - 1
        if is_last or ((i + 1) % every == 0 and RIGHT - edges[i + 1] > 50):
            ticks.append((edges[i + 1], f"{seen:,}"))
    return ticks


_LANE_OF: Final = {"drift": "drift", "run": "run"}
_TALL: Final = frozenset({"promoted", "rolled_back"})


def _marks(happenings: Sequence[Happening], x: Callable[[int], float]) -> list[Mark]:
    """Place the marks, the newest first, so that those of one row and time stand side by side."""
    marks: list[Mark] = []
    taken: dict[int, float] = {}
    for one in reversed(happenings):
        lane, at_x = LANES[_LANE_OF.get(one.kind, "version")], x(one.sequence)
        beside = taken.get(lane, WIDTH) - _SIGN_WIDTH
        sign_x = max(min(at_x, beside), at_x - 3 * _SIGN_WIDTH, LEFT)
        taken[lane] = sign_x
        is_tall = one.kind in _TALL
        marks.append(Mark(one.kind, at_x, sign_x, lane, one.text, one.at, one.href, is_tall))
    return marks[::-1]


def _eras(happenings: Sequence[Happening], x: Callable[[int], float]) -> list[Era]:
    reigns = [one for one in happenings if one.kind in _TALL and one.version is not None]
    edges = [*(x(one.sequence) for one in reigns), float(RIGHT)]
    return [
        Era(start, round(end - start, 1), one.version)
        for one, (start, end) in zip(reigns, pairwise(edges), strict=True)
        if one.version is not None and end > start
    ]


def sequence_at(anchors: Sequence[tuple[datetime, int]], at: datetime) -> int:
    """Return the newest arrival number that had been seen at a time; 0 before the first anchor.

    Args:
        anchors: (time, newest arrival number by then), in order of time.
        at: the time asked for.
    """
    i = bisect_left(anchors, at, key=lambda anchor: anchor[0])
    if i < len(anchors) and anchors[i][0] == at:
        return anchors[i][1]
    return anchors[i - 1][1] if i else 0
