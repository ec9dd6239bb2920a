"""What does a window's counts say beside those of its reference, column by column?"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import is_not
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from app.domain.drift import benjamini_hochberg
from app.domain.profiles import Codes, Counts, Layout
from app.domain.reference import ReferenceProfile
from app.domain.seasons import Match, Season
from app.domain.sequential import Bets, bets_against
from app.domain.windows import WindowCounts
from workers.statistics.dependence import Moments, blame, read_pairs, score_table
from workers.statistics.marginals import (
    DEPENDENCE,
    KINDS,
    WEIGHTS,
    Readings,
    cauchy_combination,
    read_columns,
)
from workers.statistics.seasonal import SeasonalBets, seasonal_bets

_KEPT: Final = 8
_fitted: OrderedDict[tuple[tuple[str, int], ...], tuple[tuple[Any, ...], "FittedReference"]] = (
    OrderedDict()
)


@dataclass(frozen=True)
class Seen:
    """A window as the tests read it.

    Attributes:
        counts: (c, width) of its rows.
        codes: (c, k) the bins of these rows, or of an even sample of them.
    """

    counts: Counts
    codes: Codes

    @classmethod
    def of(cls, window: WindowCounts, layout: Layout) -> Self:
        """Return a window that was added up over many checks."""
        return cls(window.counts(layout), window.codes(layout))

    def part(self, places: Sequence[int]) -> "Seen":
        """Return some of the columns."""
        return Seen(self.counts[places], self.codes[places])


@dataclass(frozen=True)
class FittedReference:
    """A reference profile, with everything a window is compared with."""

    profile: ReferenceProfile

    @classmethod
    def of(
        cls, columns: Mapping[str, NDArray[Any]], *, times: NDArray[np.int64] | None = None
    ) -> Self:
        """Fit a reference, as `ReferenceProfile.of` does."""
        return cls(ReferenceProfile.of(columns, times=times))

    def matched(self, match: Match) -> "FittedReference":
        """Return the reference as a window's seasons would have it."""
        return FittedReference(self.profile.of_rows(match.rows))

    @property
    def layout(self) -> Layout:
        """The columns and their bins."""
        return self.profile.layout

    @property
    def counts(self) -> Counts:
        """(c, width) of the reference."""
        return self.profile.counts

    @cached_property
    def scores(self) -> NDArray[np.float32]:
        """(c, 256) what each bin counts as beside the other columns."""
        return score_table(self.layout, self.counts)

    @cached_property
    def moments(self) -> Moments:
        """How its columns go together."""
        return Moments.of(self.profile.codes, self.scores)

    def bets(self, *, limit: float) -> tuple[Bets, float]:
        """Return what is wagered against this reference, and the distance it is charged for.

        Args:
            limit: the value that is an alarm.
        """
        if limit not in self._bets:
            tolerance = self.profile.tolerance(limit)
            bins = [column.bins for column in self.layout.columns]
            self._bets[limit] = bets_against(self.counts, bins, tolerance=tolerance), tolerance
        return self._bets[limit]

    @cached_property
    def _bets(self) -> dict[float, tuple[Bets, float]]:
        return {}

    def seasonal_bets(self, kind: Season, *, limit: float) -> SeasonalBets:
        """Return what is wagered against the seasons of this reference."""
        if (kind, limit) not in self._seasonal:
            self._seasonal[kind, limit] = seasonal_bets(self.profile, kind, limit=limit)
        return self._seasonal[kind, limit]

    @cached_property
    def _seasonal(self) -> dict[tuple[Season, float], SeasonalBets]:
        return {}

    def part(self, names: Sequence[str]) -> "FittedReference":
        """Return the reference of some of the columns, in that order."""
        if tuple(names) == self.profile.names:
            return self
        if tuple(names) not in self._parts:
            places = self.places(names)
            layout = Layout(tuple(self.layout.columns[place] for place in places))
            counts, codes = self.counts[places], self.profile.codes[places]
            profile = replace(self.profile, layout=layout, counts=counts, codes=codes)
            self._parts[tuple(names)] = FittedReference(profile)
        return self._parts[tuple(names)]

    @cached_property
    def _parts(self) -> "dict[tuple[str, ...], FittedReference]":
        return {}

    def places(self, names: Sequence[str]) -> list[int]:
        """Return where columns are, by name."""
        return [self._places[name] for name in names]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.profile.names)}

    def seen(self, columns: Mapping[str, NDArray[Any]]) -> Seen:
        """Return a window, named and shaped as the reference; the last one is remembered.

        A column that is absent counts as wholly missing.
        """
        names, arrays = tuple(columns), tuple(columns.values())
        last = self._last.get("window")
        if last is None or last[0] != names or any(map(is_not, last[1], arrays)):
            codes = self.layout.codes(columns, max(map(len, arrays), default=0))
            last = names, arrays, Seen(self.layout.count(codes), codes)
            self._last["window"] = last
        return last[2]

    @cached_property
    def _last(self) -> dict[str, tuple[tuple[str, ...], tuple[Any, ...], Seen]]:
        return {}

    def read(self, seen: Seen, *, fdr: float) -> Readings:
        """Compare a window with the reference, each column by itself and beside the others.

        Args:
            seen: the window, its columns as those of the reference.
            fdr: from which level on a column is blamed for its pairs.
        """
        found = read_columns(self.counts, seen.counts, [c.bins for c in self.layout.columns])
        if len(seen.codes) > 1 and seen.codes.shape[1]:
            pairs, gaps = read_pairs(self.moments, Moments.of(seen.codes, self.scores))
            by_itself = cauchy_combination(found.p_values, WEIGHTS)
            q_values = np.array(benjamini_hochberg(by_itself.tolist()))
            at = KINDS.index(DEPENDENCE)
            moved = np.flatnonzero(q_values <= fdr).tolist()
            found.p_values[:, at] = blame(pairs, moved, fdr=fdr)
            found.effects[:, at] = gaps.max(axis=1)
        return found


def fitted_to(columns: Mapping[str, NDArray[Any]]) -> FittedReference:
    """Return the fit of a reference; the last few are remembered, by the arrays themselves."""
    key = tuple((name, id(values)) for name, values in columns.items())
    if key not in _fitted:
        _fitted[key] = tuple(columns.values()), FittedReference.of(columns)
        while len(_fitted) > _KEPT:
            _fitted.popitem(last=False)
    _fitted.move_to_end(key)
    return _fitted[key][1]
