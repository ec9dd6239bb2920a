"""How is the course of a training run drawn? Its loss and its speed over time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.domain.training import RunChange
from app.web.words import lasting, number

WIDTH: Final = 600
HEIGHT: Final = 120
SHOWN: Final = (("loss", "Loss"), ("rows_per_second", "Rows a second"))


@dataclass(frozen=True, slots=True)
class Curve:
    """One figure over time: a line in units of the view box for each attempt, and its ends."""

    name: str
    lines: Sequence[str]
    first: str
    last: str
    lowest: str
    highest: str
    took: str
    width: int = WIDTH
    height: int = HEIGHT


def drawn(history: Sequence[RunChange]) -> list[Curve]:
    """Return the curves of a run that told its progress at least twice."""
    return [curve for key, name in SHOWN if (curve := _curve(history, key, name)) is not None]


def _curve(history: Sequence[RunChange], key: str, name: str) -> Curve | None:
    told = [
        (change.at, change.attempt, float(change.progress[key]))
        for change in history
        if change.progress is not None and isinstance(change.progress.get(key), int | float)
    ]
    if len(told) < 2:
        return None
    values = [value for _, _, value in told]
    lowest, highest = min(values), max(values)
    began, spread = told[0][0], (highest - lowest) or 1.0
    took = (told[-1][0] - began).total_seconds() or 1.0
    lines: dict[int, list[str]] = {}
    for at, attempt, value in told:
        x = WIDTH * (at - began).total_seconds() / took
        y = HEIGHT * (1.0 - (value - lowest) / spread)
        lines.setdefault(attempt, []).append(f"{x:.1f},{y:.1f}")
    return Curve(
        name=name,
        lines=[" ".join(points) for points in lines.values()],
        first=number(values[0]),
        last=number(values[-1]),
        lowest=number(lowest),
        highest=number(highest),
        took=lasting(took),
    )
