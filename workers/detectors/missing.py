"""Are values missing more often, or less?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from app.domain.drift import Measurement
from workers.detectors import (
    Kind,
    detectors,
    impossible,
    is_missing,
    options_schema,
    share_option,
)


def fisher_exact(n_missing: tuple[int, int], n_rows: tuple[int, int]) -> float:
    """Return the two-sided p-value of Fisher's exact test (1922) on two proportions.

    Args:
        n_missing: how many are missing in the reference and in the current window.
        n_rows: how many rows each has.
    """
    n, m = n_rows
    total = sum(n_missing)
    counts = np.arange(max(0, total - n), min(total, m) + 1)  # current's possible missing counts

    def log_choose(of: int, k: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.asarray(gammaln(of + 1) - gammaln(k + 1) - gammaln(of - k + 1))

    log_weights = log_choose(m, counts) + log_choose(n, total - counts)
    log_weights -= log_weights.max()
    weights = np.exp(log_weights)
    observed = log_weights[n_missing[1] - int(counts[0])]
    as_rare = log_weights <= observed + 1e-7
    return float(min(1.0, weights[as_rare].sum() / weights.sum()))


@dataclass(frozen=True, slots=True)
class Missing:
    """Compares the shares of missing values by Fisher's exact test; the effect is their gap."""

    tolerated_effect: float = 0.01

    description: ClassVar[str] = "Fisher's exact test on the share of missing values."
    kinds: ClassVar[tuple[Kind, ...]] = ("numeric", "categorical", "text")
    sees: ClassVar[str] = "missing"
    schema: ClassVar[Mapping[str, Any]] = options_schema(
        tolerated_effect=share_option(0.01, "Tolerated gap between the shares of missing values.")
    )

    def measure(self, reference: NDArray[Any], current: NDArray[Any], *, seed: int) -> Measurement:
        """Compare two samples of any column, shapes (n,) and (m,)."""
        n, m = len(reference), len(current)
        if not n or not m:
            return impossible("one side has no rows")
        before, after = int(is_missing(reference).sum()), int(is_missing(current).sum())
        shares = {"share_missing_reference": before / n, "share_missing_current": after / m}
        if before + after in {0, n + m}:
            return impossible("missingness could not differ", **shares)
        gap = abs(after / m - before / n)
        return Measurement(gap, fisher_exact((before, after), (n, m)), gap, shares)


detectors.add("missing", Missing())
