"""What does a window's counts say beside those of its reference, column by column?"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import is_not
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from app.domain.drift import benjamini_hochberg
from app.domain.profiles import Counts, Layout
from app.domain.sequential import Bets, Wealth, bets_against, wager
from workers.statistics.dependence import Moments, blame, read_pairs, score_table
from workers.statistics.marginals import (
    DEPENDENCE,
    KINDS,
    WEIGHTS,
    Readings,
    cauchy_combination,
    read_columns,
)

_KEPT: Final = 8
_fitted: OrderedDict[tuple[tuple[str, int], ...], tuple[tuple[Any, ...], "FittedReference"]] = (
    OrderedDict()
)
_MAXIMUM_BLOCKS: Final = 64
_TOLERANCES: Final = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2)


@dataclass(frozen=True)
class FittedReference:
    """A reference, binned, with everything a window is compared with.

    Attributes:
        layout: the columns and their bins.
        counts: (c, width) of the reference.
        scores: (c, 256) what each bin counts as beside the other columns.
        moments: how its columns go together.
        codes: (c, n) the bins of its own rows, in their order.
    """

    layout: Layout
    counts: Counts
    scores: NDArray[np.float32]
    moments: Moments
    codes: NDArray[np.uint8]

    @classmethod
    def of(cls, columns: Mapping[str, NDArray[Any]]) -> Self:
        """Fit a reference: name to (n,) float, or (n,) object for categories."""
        layout = Layout.of(columns)
        codes = layout.codes(columns, _n_rows(columns))
        counts = layout.count(codes)
        scores = score_table(layout, counts)
        return cls(layout, counts, scores, Moments.of(codes, scores), codes)

    def bets(self, *, limit: float) -> tuple[Bets, float]:
        """Return what is wagered against this reference, and the distance it is charged for.

        The charge is the smallest of a few under which neither half of the reference, in its own
        order, raises an alarm against the other: a reference of rows that come in clusters, or
        that wandered, makes the watch as tolerant as it itself is unsteady.

        Args:
            limit: the value that is an alarm.
        """
        if limit not in self._bets:
            tolerance = next(
                (each for each in _TOLERANCES if self._peak(each) < limit), _TOLERANCES[-1]
            )
            self._bets[limit] = self._bets_on(self.counts, tolerance), tolerance
        return self._bets[limit]

    def _bets_on(self, counts: Counts, tolerance: float) -> Bets:
        bins = [column.bins for column in self.layout.columns]
        return bets_against(counts, bins, tolerance=tolerance)

    def _peak(self, tolerance: float) -> float:
        """Return the largest value that one half of the reference reaches against the other."""
        middle = self.codes.shape[1] // 2
        halves = self.codes[:, :middle], self.codes[:, middle:]
        if middle < 1:
            return 0.0
        peaks = []
        for fitted, played in (halves, halves[::-1]):
            bets = self._bets_on(self.layout.count(fitted), tolerance)
            peaks.append(wager(bets, Wealth.of(bets), self._blocks(played))[0].peak)
        return max(peaks)

    def _blocks(self, codes: NDArray[np.uint8]) -> Counts:
        step = -(-codes.shape[1] // _MAXIMUM_BLOCKS)
        return self.layout.blocks(codes, np.arange(0, codes.shape[1], step))

    def coded(self, columns: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
        """Return the bin of every value of a window, (c, n); the last window is remembered."""
        names, arrays = tuple(columns), tuple(columns.values())
        last = self._last.get("window")
        if last is None or last[0] != names or any(map(is_not, last[1], arrays)):
            last = names, arrays, self.layout.codes(columns, _n_rows(columns))
            self._last["window"] = last
        return last[2]

    @cached_property
    def _last(self) -> dict[str, tuple[tuple[str, ...], tuple[Any, ...], NDArray[np.uint8]]]:
        return {}

    @cached_property
    def _bets(self) -> dict[float, tuple[Bets, float]]:
        return {}

    def newest(self, columns: Mapping[str, NDArray[Any]], n_new: int) -> Counts:
        """Return the counts of a window's newest rows, in at most 64 equal steps.

        Args:
            columns: as those of the reference.
            n_new: how many of the window's last rows, at least 1.
        """
        return self._blocks(self.coded(columns)[:, -n_new:])

    def read(self, columns: Mapping[str, NDArray[Any]], *, fdr: float) -> Readings:
        """Compare a window with the reference, each column by itself and beside the others.

        Args:
            columns: as those of the reference; one that is absent counts as wholly missing.
            fdr: from which level on a column is blamed for its pairs.
        """
        codes = self.coded(columns)
        found = read_columns(
            self.counts, self.layout.count(codes), [c.bins for c in self.layout.columns]
        )
        if len(codes) > 1 and codes.shape[1]:
            pairs, gaps = read_pairs(self.moments, Moments.of(codes, self.scores))
            by_itself = cauchy_combination(found.p_values, WEIGHTS)
            q_values = np.array(benjamini_hochberg(by_itself.tolist()))
            at = KINDS.index(DEPENDENCE)
            moved = np.flatnonzero(q_values <= fdr).tolist()
            found.p_values[:, at] = blame(pairs, moved, fdr=fdr)
            found.effects[:, at] = gaps.max(axis=1)
        return found


def _n_rows(columns: Mapping[str, NDArray[Any]]) -> int:
    return max((len(values) for values in columns.values()), default=0)


def fitted_to(columns: Mapping[str, NDArray[Any]]) -> FittedReference:
    """Return the fit of a reference; the last few are remembered, by the arrays themselves."""
    key = tuple((name, id(values)) for name, values in columns.items())
    if key not in _fitted:
        _fitted[key] = tuple(columns.values()), FittedReference.of(columns)
        while len(_fitted) > _KEPT:
            _fitted.popitem(last=False)
    _fitted.move_to_end(key)
    return _fitted[key][1]
