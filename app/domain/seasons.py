"""Which rows of a reference are of the same season as those of a window?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

Season = Literal["none", "hour_of_day", "day_of_week", "hour_of_week"]
Times = NDArray[np.int64]

UNKNOWN: Final = np.iinfo(np.int64).min
"""The time of a row that nobody said it of."""
MINIMUM_ROWS: Final = 30
"""Rows of the reference that a season needs to be compared with by itself."""
_HOUR: Final = 3_600_000_000
_FROM_MONDAY: Final = 72  # 1970 began on a Thursday
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_COARSER: Final[Mapping[str, Season]] = {"hour_of_week": "hour_of_day"}
_WHOLE: Final = "whole reference"


def seasons_of(times: Times, kind: Season) -> NDArray[np.int64]:
    """Return the season (UTC) of each time, (n,), microseconds since 1970; -1 where unknown."""
    hours = times // _HOUR
    found = {
        "none": np.zeros_like(hours),
        "hour_of_day": hours % 24,
        "day_of_week": (hours + _FROM_MONDAY) % 168 // 24,
        "hour_of_week": (hours + _FROM_MONDAY) % 168,
    }[kind]
    return np.where(times == UNKNOWN, -1, found)


def name_of(season: int, kind: Season) -> str:
    """Return what a reader calls a season."""
    if season < 0:
        return "no time"
    if kind == "hour_of_day":
        return f"{season:02}:00"
    if kind == "day_of_week":
        return _DAYS[season]
    return f"{_DAYS[season // 24]} {season % 24:02}:00"


@dataclass(frozen=True, slots=True)
class Pools:
    """The rows of a reference by season, with what a season is compared with instead.

    Attributes:
        kind: which season.
        times: (k,) when the rows were observed.
    """

    kind: Season
    times: Times

    def pool(self, season: int) -> tuple[str, NDArray[np.int64]]:
        """Return the name and the rows of what a season is compared with.

        Its own rows; where they are too few, those of the same hour on any day (for an hour of
        the week), and where these are too few as well, all.
        """
        kind, place = self.kind, season
        while season >= 0:
            rows = np.flatnonzero(seasons_of(self.times, kind) == place)
            if len(rows) >= MINIMUM_ROWS:
                return name_of(place, kind), rows
            if kind not in _COARSER:
                break
            kind, place = _COARSER[kind], place % 24
        return _WHOLE, np.arange(len(self.times))


@dataclass(frozen=True, slots=True)
class Match:
    """A reference as the window would have it.

    Attributes:
        rows: (n,) places of its rows in the proportions of the window's seasons, in order; a row
            comes more than once where its season is much rarer in the reference.
        fell_back: season of the window to what it is compared with, where that is not its own.
    """

    rows: NDArray[np.int64]
    fell_back: Mapping[str, str]

    def document(self, kind: Season) -> dict[str, Any]:
        """Return what a reader wants to know."""
        return {"kind": kind, "n_reference": len(self.rows), "fell_back": dict(self.fell_back)}


def matched(pools: Pools, window: Times) -> Match:
    """Return rows of a reference in the proportions of a window's seasons.

    As many as tell as much as the reference does of such a mixture: n = 1 / sum(p^2 / r), for
    seasons of share p with r rows (Kish, 1965).

    Args:
        pools: the reference.
        window: (m,) times of the window's rows.
    """
    shares: dict[str, float] = {}
    rows_of: dict[str, NDArray[np.int64]] = {}
    fell_back: dict[str, str] = {}
    seasons, counts = np.unique(seasons_of(window, pools.kind), return_counts=True)
    for season, count in zip(seasons.tolist(), counts.tolist(), strict=True):
        name, rows = pools.pool(season)
        rows_of[name] = rows
        shares[name] = shares.get(name, 0.0) + count / len(window)
        own = name_of(season, pools.kind)
        if name != own:
            fell_back[own] = name
    if not shares or not len(pools.times):
        return Match(np.arange(len(pools.times)), fell_back)
    effective = 1 / sum(share**2 / len(rows_of[name]) for name, share in shares.items())
    n_rows = min(int(effective + 1e-9), len(pools.times))
    ends = np.rint(n_rows * np.cumsum(list(shares.values()))).astype(int)
    taken = [
        rows_of[name][np.arange(n) * len(rows_of[name]) // max(n, 1)]
        for name, n in zip(shares, np.diff(ends, prepend=0).tolist(), strict=True)
    ]
    return Match(np.sort(np.concatenate(taken)), fell_back)
