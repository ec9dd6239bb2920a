"""Has a column left its reference since the watch of a version began, over all its reports?"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from app.domain.drift import Watch
from app.domain.profiles import MAXIMUM_STEPS, Codes
from app.domain.seasons import UNKNOWN, Season
from app.domain.sequential import Bets, Wealth, wager
from workers.statistics.profile import FittedReference, fitted_to
from workers.statistics.seasonal import SeasonalBets

Columns = Mapping[str, Mapping[str, NDArray[Any]]]
KINDS: Final = ("numeric", "categorical")
N_LEADING: Final = 5


def table_of(columns: Columns, kinds: Sequence[str] = KINDS) -> dict[str, NDArray[Any]]:
    """Return the columns of some kinds as one table, `kind/name` to values."""
    return {
        f"{kind}/{name}": values for kind in kinds for name, values in columns.get(kind, {}).items()
    }


@dataclass(frozen=True, slots=True)
class Bettor:
    """The bets of one version while a report's rows run past them, some at a time.

    Attributes:
        last: where the watch stood after the report before.
        through: arrival number of the newest row it has seen.
        n_new: rows seen since then.
    """

    fitted: FittedReference
    bets: Bets | SeasonalBets
    wealth: Wealth
    last: Watch
    limit: float
    tolerance: float
    through: int
    season: Season
    n_new: int = 0

    @classmethod
    def of(
        cls,
        fitted: FittedReference,
        last: Watch,
        *,
        false_alarm_rows: float,
        season: Season = "none",
    ) -> Self:
        """Go on from where the watch stood; anew after an alarm, or if the columns changed.

        Args:
            fitted: the reference.
            last: where the watch stood.
            false_alarm_rows: at most one false alarm in so many rows, half of which the tests of
                windows have: the limit is twice as high.
            season: each row is held against the reference rows of its own.
        """
        limit = 2 * false_alarm_rows
        bets: Bets | SeasonalBets
        if season == "none":
            bets, tolerance = fitted.bets(limit=limit)
        else:
            bets = fitted.seasonal_bets(season, limit=limit)
            tolerance = bets.tolerance
        is_fresh = last.alarmed_at is not None and last.alarmed_at == last.through
        goes_on = (
            list(last.columns) == _shown_names(fitted)
            and last.limit == limit
            and last.season == season
        )
        wealth = (
            Wealth(np.array(last.values), last.n_rows)
            if goes_on and not is_fresh
            else Wealth(np.zeros(bets.weights.shape))
        )
        return cls(fitted, bets, wealth, last, limit, tolerance, last.through, season)

    def seen(self, codes: Codes, times: NDArray[np.int64], *, through: int) -> "Bettor":
        """Return the bettor after more rows.

        Args:
            codes: (c, n) the bins of the rows, in order of arrival.
            times: (n,) when they were observed, microseconds since 1970.
            through: arrival number of the last.
        """
        if not codes.shape[1]:
            return self
        wealth, _ = self._played(codes, times)
        n_new = self.n_new + codes.shape[1]
        return replace(self, wealth=wealth, through=through, n_new=n_new)

    def rows_until_alarm(self, codes: Codes, times: NDArray[np.int64]) -> int | None:
        """Return after how many of these rows the watch alarms; None if it does not.

        Rounded up to the step in which it reads so many rows at once, at most a 64th of them.
        """
        _, levels = self._played(codes, times)
        reached = np.flatnonzero(levels >= self.limit)
        n = codes.shape[1]
        return min(n, (int(reached[0]) + 1) * -(-n // MAXIMUM_STEPS)) if len(reached) else None

    def _played(self, codes: Codes, times: NDArray[np.int64]) -> tuple[Wealth, NDArray[np.float64]]:
        if isinstance(self.bets, SeasonalBets):
            return self.bets.play(self.wealth, codes, times)
        return wager(self.bets, self.wealth, self.fitted.layout.steps(codes))

    def watch(self) -> Watch:
        """Return where the watch stands now."""
        n_unlooked = self.last.n_unlooked + self.n_new
        if not self.n_new:
            return replace(self.last, value=0.0, n_unlooked=n_unlooked)
        names = _shown_names(self.fitted)
        by_column = (self.bets.weights * self.wealth.values).sum(axis=1)
        by_column = by_column / self.bets.weights.sum(axis=1)
        first = np.argsort(-by_column, kind="stable")[:N_LEADING]
        is_alarm = self.wealth.peak >= self.limit
        return replace(
            self.last,
            columns=names,
            values=self.wealth.values.tolist(),
            n_rows=self.wealth.n_rows,
            through=self.through,
            value=float(self.wealth.peak),
            limit=self.limit,
            leading={names[index]: float(by_column[index]) for index in first},
            alarmed_at=self.through if is_alarm else self.last.alarmed_at,
            tolerance=self.tolerance,
            season=self.season,
            n_unlooked=n_unlooked,
        )


def _shown_names(fitted: FittedReference) -> list[str]:
    return [name.partition("/")[2] for name in fitted.profile.names]


def watch_window(
    reference: Columns,
    current: Columns,
    last: Watch,
    *,
    sequences: Sequence[int],
    false_alarm_rows: float,
) -> Watch:
    """Let the bets of a version run over the rows of a window that they have not seen.

    Args:
        reference: kind to name to values, as `measure_window` takes them.
        current: the same for the current window, in order of arrival.
        last: where the watch stood.
        sequences: arrival numbers of the window's rows, ascending.
        false_alarm_rows: as `Bettor.of` takes it.
    """
    table = table_of(reference)
    n_new = len(sequences) - bisect_right(sequences, last.through)
    if not table or not n_new or not any(map(len, table.values())):
        return replace(last, value=0.0)
    fitted = fitted_to(table)
    shown = {key: values for key, values in table_of(current).items() if key in table}
    bettor = Bettor.of(fitted, last, false_alarm_rows=false_alarm_rows)
    codes = fitted.seen(shown).codes[:, -n_new:]
    return bettor.seen(codes, np.full(n_new, UNKNOWN), through=sequences[-1]).watch()
