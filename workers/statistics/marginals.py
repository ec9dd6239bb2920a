"""How surely has each column of a window moved, and in what way, judged from counts alone?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

from app.domain.profiles import Bins, CategoryBins, Counts, NumericBins

Floats = NDArray[np.float64]

LOCATION: Final = "location"
SPREAD: Final = "spread"
SHAPE: Final = "shape"
FREQUENCY: Final = "frequency"
MISSING: Final = "missing"
NEW_CATEGORY: Final = "new_category"
RANGE: Final = "range"
DEPENDENCE: Final = "dependence"

KINDS: Final = (LOCATION, SPREAD, SHAPE, FREQUENCY, MISSING, NEW_CATEGORY, RANGE, DEPENDENCE)
"""What can move, in the order of the columns of p-values and effects."""
WEIGHTS: Final = np.array((1.0, 1.0, 1.0, 1.0, 1.0, 0.25, 0.25, 1.0))
_AT: Final = {kind: place for place, kind in enumerate(KINDS)}
_MINIMUM_EXPECTED: Final = 5.0
_REFINED: Final = 0.05
_N_SPLITS: Final = 500
CAP: Final = 0.99


@dataclass(frozen=True, slots=True)
class Readings:
    """What the tests of each column found, a column of the arrays for each of `KINDS`.

    Attributes:
        p_values: (c, kinds); NaN where a test does not apply.
        effects: (c, kinds) in [0, 1]: the largest difference of the distribution functions
            (location, spread, shape), the total variation (frequency), a gap of shares (missing,
            new category, range) or of correlations, halved (dependence).
    """

    p_values: Floats
    effects: Floats


def read_columns(reference: Counts, current: Counts, bins: Sequence[Bins]) -> Readings:
    """Compare two samples of every column by their counts.

    Numeric columns: rank tests with the exact permutation variance under ties, of location
    (Wilcoxon, 1945) and spread (Mood, 1954), and of shape (Kolmogorov and Smirnov, conservative
    under ties); values beyond the reference by the chance that the extremes are all new.
    Categorical ones: the two-sample chi-square, and unseen categories against the Good-Turing
    chance of one. Both: Fisher's exact test on what is missing.

    Args:
        reference: (c, width) counts as `Layout.count` has them.
        current: the same of the window.
        bins: how each column is binned.
    """
    found = Readings(np.full((len(bins), len(KINDS)), np.nan), np.zeros((len(bins), len(KINDS))))
    numeric = [i for i, how in enumerate(bins) if isinstance(how, NumericBins)]
    if numeric:
        p, distance = _ordered(reference[numeric, :-2], current[numeric, :-2])
        found.p_values[numeric, :3] = p
        found.effects[numeric, :3] = distance[:, None]
    rows = np.stack([reference.sum(axis=1), current.sum(axis=1)], axis=1).tolist()
    missing = np.stack([reference[:, -1], current[:, -1]], axis=1).tolist()
    for index, how in enumerate(bins):
        before, after = reference[index], current[index]
        (n, m), (gone, gone_now) = rows[index], missing[index]
        if isinstance(how, NumericBins):
            most = int(max(after[0], after[how.n_bins - 1]))
            _note(found, index, RANGE, *_beyond(most, n - gone, m - gone_now))
        else:
            _note(found, index, FREQUENCY, *_frequencies(how, before, after))
            _note(found, index, NEW_CATEGORY, *_unseen(how, before, after))
        if n and m and 0 < gone + gone_now < n + m:
            p_value = fisher_exact(gone, n, gone_now, m)
            _note(found, index, MISSING, p_value, abs(gone_now / m - gone / n))
    return found


def _note(found: Readings, column: int, kind: str, p_value: float, effect: float) -> None:
    found.p_values[column, _AT[kind]] = p_value
    found.effects[column, _AT[kind]] = effect


def _ordered(before: Counts, after: Counts) -> tuple[Floats, Floats]:
    """Return p-values (c, 3) of location, spread and shape, and the distances (c,)."""
    pooled = before + after  # (c, b)
    r, k = before.sum(axis=1), after.sum(axis=1)  # (c,)
    n = r + k
    usable = (r > 1) & (k > 1) & ((pooled > 0).sum(axis=1) > 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ranks = (np.cumsum(pooled, axis=1) - pooled / 2) / n[:, None]  # in (0, 1)
        scores = (ranks, (ranks - 0.5) ** 2)
        tested = [_linear_rank(score, pooled, after, r, k) for score in scores]
        below = np.cumsum(before, axis=1) / r[:, None], np.cumsum(after, axis=1) / k[:, None]
        distance = np.abs(below[0] - below[1]).max(axis=1)
        shape = special.kolmogorov(np.sqrt(r * k / n) * distance)
    p = np.stack([*tested, shape], axis=1)
    p[~usable] = np.nan
    return p, np.where(usable, distance, 0.0)


def _linear_rank(scores: Floats, pooled: Counts, after: Counts, r: Counts, k: Counts) -> Floats:
    """Return two-sided p-values (c,) of sums of scores, by their permutation mean and variance."""
    n = r + k
    mean = (pooled * scores).sum(axis=1) / n
    centred = scores - mean[:, None]
    variance = (pooled * centred**2).sum(axis=1) / (n - 1) * r * k / n
    gap = (after * centred).sum(axis=1)
    z = np.abs(gap) / np.sqrt(np.where(variance > 0, variance, np.inf))
    return np.asarray(2 * special.ndtr(-z))


def _beyond(most: int, n_before: int, n_now: int) -> tuple[float, float]:
    """Return the chance that so many of the largest (or smallest) values are all new ones."""
    if not n_before or not n_now:
        return math.nan, 0.0
    chance = 1.0
    for place in range(min(most, 100)):
        chance *= (n_now - place) / (n_before + n_now - place)
    return min(1.0, 2 * chance), most / n_now


def _frequencies(how: CategoryBins, before: Counts, after: Counts) -> tuple[float, float]:
    """Return the chi-square p-value of two rows of counts, and their total variation."""
    r, k = before[:-1].sum(), after[:-1].sum()
    if not r or not k:
        return math.nan, 0.0
    distance = float(np.abs(before[:-1] / r - after[:-1] / k).sum() / 2)
    n_own = len(how.categories)
    pooled = before[:n_own] + after[:n_own]
    share = min(r, k) / (r + k)
    cells = np.stack([before[:n_own], after[:n_own]])[:, pooled * share >= _MINIMUM_EXPECTED]
    # What the reference showed seldom and what it never showed belong together: apart, each would
    # be a choice made by looking at one of the two samples.
    rest = np.array([[r], [k]]) - cells.sum(axis=1, keepdims=True)
    if cells.shape[1] and rest.sum() * share < _MINIMUM_EXPECTED:
        least = int(cells.sum(axis=0).argmin())
        rest = rest + cells[:, least : least + 1]
        cells = np.delete(cells, least, axis=1)
    cells = np.concatenate([cells, rest], axis=1)
    if cells.shape[1] < 2:
        return math.nan, distance
    fitted = np.outer([r, k], cells.sum(axis=0)) / (r + k)
    statistic = float(((cells - fitted) ** 2 / fitted).sum())
    p_value = float(special.chdtrc(cells.shape[1] - 1, statistic))
    if p_value < _REFINED:
        p_value = _matched_p_value(cells, fitted, statistic)
    return p_value, distance


def _matched_p_value(cells: Counts, fitted: Floats, statistic: float) -> float:
    """Return the p-value of a chi-square statistic by its own permutation distribution.

    A gamma distribution with the mean and variance of the statistic over random splits of the
    pooled rows (moments as Box and Andersen, 1955, matched them): rare cells make its tail heavier
    than that of chi-square.
    """
    generator = np.random.default_rng(0)
    side = int(cells.sum(axis=1).argmin())
    drawn = generator.multivariate_hypergeometric(
        cells.sum(axis=0), int(cells[side].sum()), size=_N_SPLITS, method="marginals"
    )
    values = ((drawn - fitted[side]) ** 2 * (1 / fitted).sum(axis=0)).sum(axis=1)
    mean, variance = float(values.mean()), float(values.var(ddof=1))
    if variance <= 0:
        return 1.0
    return float(special.gammaincc(mean**2 / variance, statistic * mean / variance))


def _unseen(how: CategoryBins, before: Counts, after: Counts) -> tuple[float, float]:
    """Return the chance of so many unseen categories among the values now, and their share."""
    n_before, n_now = int(before[:-1].sum()), int(after[:-1].sum())
    if not n_before or not n_now:
        return math.nan, 0.0
    count = int(after[-2])
    if not count:
        return 1.0, 0.0
    chance = min(1.0, (how.n_singletons + 1) / (n_before + 1))
    return float(special.bdtrc(count - 1, n_now, chance)), count / n_now


def fisher_exact(hits: int, n: int, other_hits: int, m: int) -> float:
    """Return the two-sided p-value of two shares, hits of n against other_hits of m.

    Twice the smaller tail of the hypergeometric distribution (Fisher, 1935), at most 1; sums only
    the terms that matter.
    """
    total = hits + other_hits
    chance = math.exp(_log_choose(m, other_hits) + _log_choose(n, hits) - _log_choose(n + m, total))

    def tail(count: int, step: int) -> float:
        term, found = chance, chance
        while term > 1e-18 * found:
            if step > 0:
                term *= (m - count) * (total - count) / ((count + 1) * (n - total + count + 1))
            else:
                term *= count * (n - total + count) / ((m - count + 1) * (total - count + 1))
            count += step
            found += term
        return found

    return min(1.0, 2 * min(tail(other_hits, 1), tail(other_hits, -1)))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def cauchy_combination(p_values: Floats, weights: Floats | None = None) -> Floats:
    """Return one p-value of several that need not be independent (Liu and Xie, 2020).

    Accurate for small p-values under any usual dependence. P-values are capped at `CAP`, as a
    discrete test's p-value of one would otherwise silence all the others.

    Args:
        p_values: (..., k) in [0, 1]; NaN takes no part, and a row of nothing else gives 1.
        weights: (k,) of the tests; all the same if absent.
    """
    applies = ~np.isnan(p_values)
    p = np.clip(np.where(applies, p_values, 0.5), 1e-300, CAP)
    odds = np.where(p < 1e-15, 1 / (p * np.pi), np.tan((0.5 - p) * np.pi))
    share = np.where(applies, 1.0 if weights is None else weights, 0.0)
    total = share.sum(axis=-1)
    mean = (share * odds).sum(axis=-1) / np.where(total > 0, total, 1.0)
    tail = np.where(mean > 1e15, 1 / (np.maximum(mean, 1.0) * np.pi), 0.5 - np.arctan(mean) / np.pi)
    return np.where(total > 0, np.clip(tail, 0.0, 1.0), 1.0)
