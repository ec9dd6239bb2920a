"""Bets on each row against the reference rows of its own season."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from app.domain.profiles import MAXIMUM_STEPS, Codes, Layout
from app.domain.reference import TOLERANCES, ReferenceProfile
from app.domain.seasons import Pools, Season, seasons_of
from app.domain.sequential import Bets, Wealth, bets_against, wager_by_season


@dataclass(frozen=True)
class SeasonalBets:
    """Bets against the seasons of a reference, each made when the first row of it comes.

    Attributes:
        layout: what the codes mean.
        codes: (c, k) the bins of the reference's rows.
        pools: the seasons of these rows.
        tolerance: distance from the reference that the bets are charged for.
    """

    layout: Layout
    codes: Codes
    pools: Pools
    tolerance: float
    _by_name: dict[str, Bets] = field(default_factory=dict)
    _by_season: dict[int, Bets] = field(default_factory=dict)

    @property
    def weights(self) -> NDArray[np.float64]:
        """(c, k) prior weights, the same in all seasons."""
        return self.of(-1).weights

    def of(self, season: int) -> Bets:
        """Return the bets on the rows of one season."""
        if season not in self._by_season:
            name, rows = self.pools.pool(season)
            if name not in self._by_name:
                counts = self.layout.count(self.codes[:, rows])
                bins = [column.bins for column in self.layout.columns]
                self._by_name[name] = bets_against(counts, bins, tolerance=self.tolerance)
            self._by_season[season] = self._by_name[name]
        return self._by_season[season]

    def play(
        self, wealth: Wealth, codes: Codes, times: NDArray[np.int64]
    ) -> tuple[Wealth, NDArray[np.float64]]:
        """Return what `wager` does of rows: (c, n) bins and (n,) times, in order of arrival."""
        n = codes.shape[1]
        seasons = seasons_of(times, self.pools.kind)
        step = max(1, -(-n // MAXIMUM_STEPS))
        starts = np.arange(0, n, step)
        played = []
        for season in np.unique(seasons).tolist():
            own = np.flatnonzero(seasons == season)
            blocks = self.layout.blocks(codes[:, own], own.searchsorted(starts))
            played.append((self.of(season), blocks))
        return wager_by_season(played, wealth)


def seasonal_bets(profile: ReferenceProfile, kind: Season, *, limit: float) -> SeasonalBets:
    """Return bets that are charged for as much as the reference itself is unsteady.

    That is the smallest of a few distances under which neither half of the reference, in its own
    order, raises an alarm against the other half's seasons.

    Args:
        profile: the reference, its rows with their times.
        kind: which season.
        limit: the value that is an alarm.
    """
    middle = len(profile.times) // 2
    halves = np.arange(middle), np.arange(middle, len(profile.times))

    def made(rows: NDArray[np.int64], tolerance: float) -> SeasonalBets:
        pools = Pools(kind, profile.times[rows])
        return SeasonalBets(profile.layout, profile.codes[:, rows], pools, tolerance)

    def peak(tolerance: float) -> float:
        peaks = []
        for fitted, played in (halves, halves[::-1]):
            bets = made(fitted, tolerance)
            start = Wealth(np.zeros(bets.weights.shape))
            wealth, _ = bets.play(start, profile.codes[:, played], profile.times[played])
            peaks.append(wealth.peak)
        return max(peaks)

    tolerance = TOLERANCES[-1]
    if middle:
        tolerance = next((each for each in TOLERANCES if peak(each) < limit), tolerance)
    return made(np.arange(len(profile.times)), tolerance)
