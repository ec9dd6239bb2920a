"""What do resampled statistics say of the one observed, and of what quiet stretches differ by?"""

import math
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

SURE: Final = 3.0
MARGIN: Final = 1.5
MOST_STRETCHES: Final = 6


def upper_tail(observed: float, draws: NDArray[np.float64]) -> float:
    """Return the chance of a value at least as large, from the first three moments of draws.

    The Pearson III distribution, by Wilson and Hilferty's (1931) cube root: for a sum over many
    rows, where the p-value wanted is smaller than one over the number of draws.
    """
    spread = float(draws.std())
    if spread <= 1e-12 * max(1.0, abs(observed)):
        return 1.0
    standard = (draws - draws.mean()) / spread
    skewness = max(float((standard**3).mean()), 0.05)
    shape = 4 / skewness**2
    ratio = 1 + (observed - float(draws.mean())) / spread / math.sqrt(shape)
    if ratio <= 0:
        return 1.0
    normal = (ratio ** (1 / 3) - 1 + 1 / (9 * shape)) * 3 * math.sqrt(shape)
    return NormalDist().cdf(-normal)


def stretches(n_reference: int, n_current: int) -> NDArray[np.bool_]:
    """Return stretches of a reference as long as the window, or half of it, as masks (k, n)."""
    length = min(n_current, n_reference // 2)
    n_stretches = min(n_reference // max(length, 1), MOST_STRETCHES)
    starts = np.linspace(0, n_reference - length, n_stretches).astype(np.int64)
    places = np.arange(n_reference)
    return np.asarray((places >= starts[:, None]) & (places < starts[:, None] + length))


def tolerated_by(effects: NDArray[np.float64], error: float, *, at_least: float) -> float:
    """Return the effect to tolerate of a window, given those of the reference's own stretches.

    Rows that arrive together are alike (one writer, one batch, one day), so that any new stretch
    differs from the reference as its own stretches differ from the rest of it. Where one surely
    does (by `SURE` standard errors), a window must differ half as much again.

    Args:
        effects: (k,) of stretches of the reference, each against the rest.
        error: standard error of an effect were the rows in no order.
        at_least: what is tolerated anyway.
    """
    largest = float(effects.max(initial=0.0))
    return max(at_least, min(MARGIN * largest, 1.0)) if largest > SURE * error else at_least


def rank_error(n: int, m: int) -> float:
    """Return the standard error of 2 AUC - 1 of n against m rows alike."""
    return 2 * math.sqrt((n + m + 1) / (12 * n * m))
