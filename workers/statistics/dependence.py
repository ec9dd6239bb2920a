"""Do the columns still go together as they did in the reference?"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy import special

from app.domain.profiles import MISSING, UNREAD, UNSEEN, Counts, Layout, NumericBins
from workers.statistics.marginals import cauchy_combination

Floats = NDArray[np.float64]

MAXIMUM_ROWS: Final = 5000
MINIMUM_ROWS: Final = 50
_MINIMUM_VARIED: Final = 15.0
_NEARLY_ONE: Final = 0.999


def score_table(layout: Layout, counts: Counts) -> NDArray[np.float32]:
    """Return what each code counts as, (c, 256): standardised, 0 where nothing is known.

    A numeric value counts as the normal score of its rank in the reference (van der Waerden,
    1952), a category by whether it is the most frequent one.
    """
    table = np.zeros((len(layout.columns), 256))
    for row, column, seen in zip(table, layout.columns, counts, strict=True):
        n_bins = column.bins.n_bins
        known = seen[:n_bins].astype(np.float64)
        total = known.sum()
        if total < 2:
            continue
        if isinstance(column.bins, NumericBins):
            ranks = (np.cumsum(known) - known / 2 + 0.25) / (total + 0.5)
            scores = special.ndtri(np.clip(ranks, 1e-4, 1 - 1e-4))
        else:
            scores = (np.arange(n_bins) == 0).astype(np.float64)
        mean = (known * scores).sum() / total
        spread = np.sqrt((known * (scores - mean) ** 2).sum() / total)
        if spread > 0:
            row[:n_bins] = (scores - mean) / spread
            row[UNSEEN] = 0.0 if column.is_numeric else -mean / spread
    return table.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Moments:
    """How the scores of all pairs of columns go together in one sample.

    Attributes:
        n: (c, c) rows in which both columns are known.
        correlation: (c, c) Pearson's r of the scores.
        variance: (c, c) of sqrt(n) times r, by the delta method, for any joint distribution.
        varied: (c,) rows in which a column is not at its most frequent value.
    """

    n: Floats
    correlation: Floats
    variance: Floats
    varied: Floats

    @classmethod
    def of(cls, codes: NDArray[np.uint8], table: NDArray[np.float32]) -> Self:
        """Measure the codes (c, n) of a sample, of at most `MAXIMUM_ROWS` rows spread over it."""
        codes = codes[:, :: max(1, -(-codes.shape[1] // MAXIMUM_ROWS))]
        scores = np.stack([row[code] for row, code in zip(table, codes, strict=True)])  # (c, n)
        known = (codes != MISSING) & (codes != UNREAD)
        is_whole = bool(known.all())
        if is_whole:
            shape = (len(codes), len(codes))
            n = np.full(shape, float(codes.shape[1]))
            first = np.broadcast_to(scores.sum(axis=1, keepdims=True), shape)
            second = np.broadcast_to((scores**2).sum(axis=1, keepdims=True), shape)
        else:  # (i, j): sums of i over the rows that know j
            known = known.astype(np.float32)
            n = np.maximum((known @ known.T).astype(np.float64), 1.0)
            first, second = scores @ known.T, scores**2 @ known.T
        mean = first / n
        spread = np.sqrt(np.maximum(second / n - mean**2, 1e-12))
        covariance = scores @ scores.T / n - mean * mean.T
        r = np.clip(covariance / (spread * spread.T), -1.0, 1.0)
        centre, scale = mean.diagonal().astype(np.float32), spread.diagonal().astype(np.float32)
        unit = (scores - centre[:, None]) / scale[:, None]
        if not is_whole:
            unit *= known
        square = unit**2
        both = square @ square.T / n  # E x^2 y^2
        cubed = (square * unit) @ unit.T / n  # E x^3 y
        fourth = (square**2).sum(axis=1) / np.maximum(known.sum(axis=1), 1.0)
        spread_of_r = (
            both - r * (cubed + cubed.T) + r**2 / 4 * (fourth[:, None] + fourth + 2 * both)
        )
        modal = np.array([np.bincount(row, minlength=256).max() for row in codes])
        varied = codes.shape[1] - modal.astype(np.float64)
        return cls(n, r, np.maximum(spread_of_r, 0.05), varied)


def read_pairs(reference: Moments, current: Moments) -> tuple[Floats, Floats]:
    """Return for each pair of columns the p-value that its correlation is as it was, and the gap.

    Fisher's (1921) z of both, with the larger of the two samples' own variances and Student's tail
    for pairs that seldom vary together; NaN for a column with itself and where rows are too few.

    Returns:
        p-values (c, c), and half the absolute difference of the correlations, (c, c).
    """
    rows = np.minimum(reference.n, current.n)
    least = np.minimum(reference.varied, current.varied)
    together = np.outer(least, least) / np.maximum(rows, 1.0)
    scaled = [
        side.variance / np.maximum(1 - side.correlation**2, 0.02) ** 2
        for side in (reference, current)
    ]
    before, after = (
        np.arctanh(np.clip(side.correlation, -_NEARLY_ONE, _NEARLY_ONE))
        for side in (reference, current)
    )
    error = np.sqrt(np.maximum(*scaled) * (1 / reference.n + 1 / current.n))
    p = 2 * special.stdtr(np.maximum(together, 1.0), -np.abs(after - before) / error)
    p[(together < _MINIMUM_VARIED) | (rows < MINIMUM_ROWS)] = np.nan
    np.fill_diagonal(p, np.nan)
    return p, np.abs(current.correlation - reference.correlation) / 2


def blame(pairs: Floats, moved: Iterable[int], *, fdr: float) -> Floats:
    """Return the p-value (c,) that a column still goes with the others, each pair blamed on one.

    A column that broke away takes all its pairs with it. So pairs with a column that moved by
    itself, or whose own evidence is the strongest, are not held against their other column.

    Args:
        pairs: (c, c) p-values, NaN on the diagonal and where not tested.
        moved: columns whose own distribution moved.
        fdr: a column is blamed from this level on, corrected for the number of columns.
    """
    n = len(pairs)
    alive = pairs.copy()
    blamed = set(moved)
    own = {i: pairs[i].copy() for i in blamed}
    alive[:, list(blamed)] = np.nan
    equal = np.ones(n)
    while len(blamed) < n:
        p = cauchy_combination(alive, equal)
        p[list(blamed)] = 1.0
        worst = int(np.argmin(p))
        if p[worst] > fdr / n:
            break
        own[worst] = alive[worst].copy()
        alive[:, worst] = np.nan
        blamed.add(worst)
    for i, row in own.items():
        alive[i] = row
    p = cauchy_combination(alive, equal)
    p[np.isnan(alive).all(axis=1)] = np.nan
    return p
