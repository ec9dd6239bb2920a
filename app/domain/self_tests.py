"""Would the detectors see a shift if it came? What is tried, and what it means to miss one."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from app.domain.performance import clopper_pearson
from app.domain.shifts import Shift

ALPHA: Final = 0.05
ENOUGH_ROWS: Final = 250
"""Windows of so many rows show known shifts to detectors that work; smaller ones may not."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One window with one shift in one column.

    Attributes:
        column: where the shift was.
        is_seen: whether the detectors called that column drifted.
        is_watched: whether the watch of rows reads the column.
        delay_rows: rows after which the watch alarmed; None where it did not within the window.
    """

    column: str
    is_seen: bool
    is_watched: bool = False
    delay_rows: int | None = None


@dataclass(frozen=True, slots=True)
class Sight:
    """How well one shift is seen.

    Attributes:
        columns: share of the trials seen in each column that was tried.
        power: share of all trials seen; each window is drawn anew from the same rows.
        lower: lower end of its exact 95 % interval, given these rows.
        upper: upper end.
        delay_rows: median rows until the watch alarms; None where half of the trials end without
            an alarm, or where it does not read such columns.
        n_watched: trials that the watch read.
        n_alarmed: trials in which it alarmed within the window.
        is_blind: whether even the upper end is below the least power.
    """

    kind: str
    name: str
    size: str
    n_trials: int
    n_seen: int
    columns: Mapping[str, float]
    power: float
    lower: float
    upper: float
    delay_rows: int | None
    n_watched: int
    n_alarmed: int
    is_blind: bool

    @property
    def label(self) -> str:
        """The shift's name among all."""
        return f"{self.kind}/{self.name}"


def judged(shift: Shift, trials: Sequence[Trial], *, minimum_power: float) -> Sight:
    """Say how well a shift is seen.

    Args:
        shift: which.
        trials: of it; at least one.
        minimum_power: least share to be seen, in (0, 1); blind is what surely misses that.
    """
    n, n_seen = len(trials), sum(trial.is_seen for trial in trials)
    lower, upper = clopper_pearson(n_seen, n, ALPHA)
    watched = [trial.delay_rows for trial in trials if trial.is_watched]
    by_column: dict[str, list[bool]] = {}
    for trial in trials:
        by_column.setdefault(trial.column, []).append(trial.is_seen)
    return Sight(
        kind=shift.kind,
        name=shift.name,
        size=shift.size,
        n_trials=n,
        n_seen=n_seen,
        columns={name: sum(seen) / len(seen) for name, seen in by_column.items()},
        power=n_seen / n,
        lower=lower,
        upper=upper,
        delay_rows=_median(watched),
        n_watched=len(watched),
        n_alarmed=sum(delay is not None for delay in watched),
        is_blind=upper < minimum_power,
    )


def _median(delays: Sequence[int | None]) -> int | None:
    """Return the median, the upper one of two; None where that one was never reached."""
    if not delays:
        return None
    known = sorted(delay for delay in delays if delay is not None)
    middle = len(delays) // 2
    return known[middle] if middle < len(known) else None


def turned(before: Collection[str], now: Sequence[Sight]) -> tuple[list[str], list[str]]:
    """Return the shifts that detectors have become blind to, and those they see again.

    Args:
        before: labels of the shifts that the test before found them blind to.
        now: what this test found; a shift that it did not try is neither.
    """
    return (
        [one.label for one in now if one.is_blind and one.label not in before],
        [one.label for one in now if not one.is_blind and one.label in before],
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """Which rows a self-test copies, and how large its windows are.

    Attributes:
        source: `live`; or `reference`, of which one half then stands for the reference and the
            other for live rows.
        window_rows: rows of a window, drawn without replacement from at least twice as many.
        reason: why the live rows were not taken; None where they were.
    """

    source: str
    window_rows: int
    reason: str | None = None


def planned(
    *, n_live: int, n_reference: int, full_rows: int, minimum_rows: int, unfit: str | None
) -> Plan | str:
    """Return what a self-test copies, or why it cannot be done now.

    Shifts on top of drift would be seen by that alone, so live rows serve only where nothing
    speaks against them.

    Args:
        n_live: newest rows of the champion that can be read.
        n_reference: rows of its reference.
        full_rows: rows of a window that is full.
        minimum_rows: rows below which nothing is concluded of a window.
        unfit: what speaks against the live rows; None if nothing does.
    """
    needed = max(min(full_rows, ENOUGH_ROWS), minimum_rows)
    if unfit is None and n_live < 2 * needed:
        unfit = f"there are {n_live} live rows, and a test needs {2 * needed}"
    if unfit is None:
        return Plan("live", min(full_rows, n_live // 2))
    if n_reference < 4 * needed:
        return (
            f"{unfit}; the reference, which could stand in, has {n_reference} rows and would need "
            f"{4 * needed}"
        )
    return Plan("reference", min(full_rows, n_reference // 4), unfit)


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What a self-test found.

    Attributes:
        outcome: `measured`, or `deferred`: it will be tried again.
        reason: why it was deferred, or why the reference stood in for live rows.
        source: which rows were copied: `live` or `reference`.
        n_rows: how many.
        window_rows: rows of each window drawn from them.
        n_reference: rows that they were compared with.
        level: false discovery rate that a report over such a window is entitled to.
        n_windows: windows drawn, each tried as it is and with every shift.
        n_false_alarms: of these, as they are, the detectors called a column of so many drifted.
        n_false_watches: in so many the watch of rows alarmed.
        seed: of every draw.
        seconds: how long it took.
        shifts: how well each shift is seen.
    """

    outcome: str
    reason: str | None = None
    source: str | None = None
    n_rows: int = 0
    window_rows: int = 0
    n_reference: int = 0
    level: float = 0.0
    n_windows: int = 0
    n_false_alarms: int = 0
    n_false_watches: int = 0
    seed: int = 0
    seconds: float = 0.0
    shifts: Sequence[Sight] = ()
