"""Has any signal left its reference, however often one looks?"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from app.domain.profiles import Bins, BlockCounts, CategoryBins, Counts

SHIFTS: Final = (-1.0, -0.5, -0.25, 0.25, 0.5, 1.0)
SCALES: Final = (0.45, 0.7, 1.3, 1.5, 2.2)
CONTAMINATION: Final = (-2.5, 2.5)
CONTAMINATED_SHARE: Final = 0.2
MISSING_SHARES: Final = (0.03, 0.3)
UNSEEN_SHARE: Final = 0.05
MOST_UNSEEN: Final = 0.95
N_FAVOURITES: Final = 4
N_BETS: Final = 16
LARGEST_RATIO: Final = 15.0
"""A bin pays no more: what the rarest ones add to the growth of a bet, its charge costs more."""
RESERVE: Final = 0.02
FEW_ROWS: Final = 60
"""A reference of so many rows is charged for twice, as its standard errors are rough themselves."""
NUMERIC_PRIOR: Final = np.array(
    (0.4, 0.4, 0.6, 2.5, 1.0, 1.0, 2.5, 0.6, 0.3, 0.4, 0.5, 3.0, 0.4, 0.4, 0.4)
)
CEILING: Final = 1e15
_STANDARD: Final = NormalDist()


def _density_ratios(probabilities: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return how much likelier each bin would be, were the column's normal score moved.

    The bins are cut from a standard normal by their probabilities; each alternative moves it,
    widens it, or mixes in some values from far out.

    Args:
        probabilities: (b,) of the bins in order, positive, summing to 1.
    """
    cuts = np.cumsum(probabilities)[:-1]
    inner = np.array([_STANDARD.inv_cdf(float(u)) for u in np.clip(cuts, 1e-12, 1 - 1e-12)])
    cdf = np.vectorize(_STANDARD.cdf, otypes=[np.float64])

    def mass(lower_to_upper: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.diff(np.r_[0.0, cdf(lower_to_upper), 1.0]) / probabilities)

    moved = [mass(inner - shift) for shift in SHIFTS]
    scaled = [mass(inner / scale) for scale in SCALES]
    mixed = [
        1 - CONTAMINATED_SHARE + CONTAMINATED_SHARE * mass(inner - place) for place in CONTAMINATION
    ]
    return [*moved, *scaled, *mixed]


def _favourites(probabilities: NDArray[np.float64], n_categories: int) -> list[NDArray[np.float64]]:
    """Return density ratios of category frequencies that changed.

    Args:
        probabilities: (b,) of the categories, then of the unseen.
        n_categories: b - 1, frequent ones first.
    """
    ratios = []
    for index in range(min(N_FAVOURITES, n_categories)):
        p = probabilities[index]
        for q in (p + 0.3 * (1 - p), 0.5 * p):
            ratio = np.full(len(probabilities), (1 - q) / max(1 - p, 1e-12))
            ratio[index] = q / p
            ratios.append(ratio)
    for power in (0.5, 2.0):
        flattened = probabilities**power
        ratios.append(flattened / flattened.sum() / probabilities)
    return ratios


def _mixed_in(probability: float, share: float, width: int, place: int) -> NDArray[np.float64]:
    """Return the density ratio (width,) of an outcome that became more frequent by a share."""
    q = probability + share * (1 - probability)
    ratio = np.full(width, (1 - q) / (1 - probability))
    ratio[place] = q / probability
    return ratio


@dataclass(frozen=True)
class Bets:
    """What is wagered against each column's reference: e-values by bin.

    Attributes:
        log_factors: (c, width, k) natural logarithms of the factor by which a bet's wealth grows
            with a value in each bin; its mean over the reference is at most 1.
        weights: (c, k) prior weights, summing to 1.
    """

    log_factors: NDArray[np.float64]
    weights: NDArray[np.float64]


def bets_against(
    counts: Counts, bins: Sequence[Bins], *, tolerance: float = 0.0, charge_errors: float = 1.0
) -> Bets:
    """Return bets on departures from a reference that was itself seen in finitely many rows.

    Every factor is divided by an upper limit of its mean while there is no drift worth an alarm:
    `charge_errors` standard errors above its mean over the reference, so that a reference that
    happens to sit off its source is not taken for drift, and what it can gain from a distribution
    function that lies within `tolerance` of the reference's.

    Args:
        counts: (c, width) of the reference, unseen and missing last.
        bins: how each column is binned.
        tolerance: gap of the distribution functions (numeric columns) or total variation
            (categorical ones) that is no drift, in [0, 1].
        charge_errors: standard errors to charge for the finite reference; more for one of few rows.
    """
    n_columns, width = counts.shape
    log_factors = np.zeros((n_columns, width, N_BETS))
    weights = np.zeros((n_columns, N_BETS))
    for index, (row, how) in enumerate(zip(counts, bins, strict=True)):
        ratios = _column_ratios(row, how)
        n = float(row.sum())
        prior = _prior_counts(how, width)
        p = (row + prior) / (n + prior.sum())
        for k, uncapped in enumerate(ratios):
            ratio = np.minimum(uncapped, LARGEST_RATIO)
            mean = float((p * ratio).sum())
            spread = float(np.sqrt(max((p * ratio**2).sum() - mean**2, 0.0) / max(n, 1.0)))
            gain = tolerance * _variation(ratio, how)
            charge = charge_errors * (1 + FEW_ROWS / max(n, 1.0))
            factor = ratio / (mean + charge * spread + gain)
            log_factors[index, :, k] = np.log((1 - RESERVE) * factor + RESERVE)
        prior = np.ones(len(ratios)) if isinstance(how, CategoryBins) else NUMERIC_PRIOR
        weights[index, : len(ratios)] = prior / prior.sum() / n_columns
    return Bets(log_factors, weights)


def _prior_counts(how: Bins, width: int) -> NDArray[np.float64]:
    """Return what to add to a reference's counts so that nothing it did not show is impossible.

    Half a row over all bins, and for a numeric column one below and one above all values seen:
    the next value lies beyond n others with a chance of 1 / (n + 1) a side, whatever the
    distribution.
    """
    prior = np.full(width, 0.5 / width)
    if not isinstance(how, CategoryBins) and how.n_bins > 1:
        prior[[0, how.n_bins - 1]] += 1.0
    return prior


def _variation(ratio: NDArray[np.float64], how: Bins) -> float:
    """Return how much a factor's mean can gain for each unit of distance from the reference."""
    if isinstance(how, CategoryBins):
        return float(ratio.max() - ratio.min())
    present = float(np.abs(np.diff(ratio[: how.n_bins])).sum())
    return max(present, float(abs(ratio[-1] - ratio[0])))


def _column_ratios(row: NDArray[np.int64], how: Bins) -> list[NDArray[np.float64]]:
    width = len(row)
    n = float(row.sum())
    p_missing = (row[-1] + 0.5) / (n + 1)
    ratios = [_mixed_in(p_missing, share, width, -1) for share in MISSING_SHARES]
    n_bins = how.n_bins
    if n_bins == 0:  # the reference showed no value at all
        return ratios
    if isinstance(how, CategoryBins):
        known = np.r_[row[:n_bins], 0].astype(float)
        singles = min((how.n_singletons + 0.5) / (n + 1), MOST_UNSEEN)
        known = np.r_[(known[:-1] + 0.5) * (1 - singles), singles * (known.sum() + 0.5 * n_bins)]
        p = known / known.sum()
        values = [*_favourites(p, n_bins), _mixed_in(float(p[-1]), UNSEEN_SHARE, len(p), -1)]
        for ratio in values:
            full = np.ones(width)
            full[:n_bins], full[-2] = ratio[:-1], ratio[-1]
            ratios.append(full)
    else:
        p = row[:n_bins] + 0.5
        for ratio in _density_ratios(p / p.sum()):
            full = np.ones(width)
            full[:n_bins] = ratio
            ratios.append(full)
    return ratios[:N_BETS]


@dataclass(frozen=True)
class Wealth:
    """Where the e-detectors of all columns stand.

    Attributes:
        values: (c, k) Shiryaev-Roberts statistics of the bets.
        n_rows: rows seen since the watch began.
        peak: the largest model-level value since then.
    """

    values: NDArray[np.float64]
    n_rows: int = 0
    peak: float = 0.0

    @classmethod
    def of(cls, bets: Bets) -> Self:
        """Return the wealth before the first row."""
        return cls(np.zeros(bets.weights.shape))


def wager(bets: Bets, wealth: Wealth, blocks: BlockCounts) -> tuple[Wealth, NDArray[np.float64]]:
    """Let the bets run over consecutive blocks of rows.

    The Shiryaev-Roberts e-detector (Shin, Ramdas and Rinaldo, 2022): each block may be where the
    drift began, weighed by its rows, so the weighted mean over bets and columns exceeds N no
    sooner than after N rows on average, under any dependence between columns and whatever the
    sizes of blocks, as long as these do not depend on the values.

    Args:
        bets: what is wagered.
        wealth: where the bets stood before these rows.
        blocks: (c, blocks, width) counts.

    Returns:
        The wealth afterwards, and the model-level value after each block (blocks,).
    """
    return wager_by_season([(bets, blocks)], wealth)


def wager_by_season(
    played: Sequence[tuple[Bets, BlockCounts]], wealth: Wealth
) -> tuple[Wealth, NDArray[np.float64]]:
    """Let bets run over blocks whose rows are each held against their own season's reference.

    Args:
        played: for each season its bets, of equal weights in all, and its rows in the blocks.
        wealth: where the bets stood before these rows.

    Returns:
        As `wager`.
    """
    weights = played[0][0].weights
    logs = sum(blocks @ bets.log_factors for bets, blocks in played)
    growth = np.exp(np.clip(logs, -230.0, 230.0).swapaxes(0, 1), order="C")  # (blocks, c, k)
    n_blocks = played[0][1].shape[1]
    n_rows = np.zeros(n_blocks, dtype=np.int64)
    for _, blocks in played:
        n_rows += blocks[0].sum(axis=1).astype(np.int64)
    values = wealth.values
    levels = np.empty(n_blocks)
    for index, n in enumerate(n_rows):
        values = np.minimum((values + n) * growth[index], CEILING)
        levels[index] = np.vdot(weights, values)
    peak = max(wealth.peak, float(levels.max())) if n_blocks else wealth.peak
    return Wealth(values, wealth.n_rows + int(n_rows.sum()), peak), levels
