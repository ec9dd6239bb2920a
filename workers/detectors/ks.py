"""Has a number's distribution shifted, or widened?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import kolmogorov

from app.domain.drift import Measurement
from workers.detectors import (
    Kind,
    as_numbers,
    detectors,
    impossible,
    options_schema,
    resampled_p_value,
    share_option,
)

AT_MOST_POINTS: Final = 256
FEW_ROWS: Final = 400
FEW_TIES_SHARE: Final = 0.98
SURE: Final = 1e-3
N_RESAMPLES: Final = 1999


def _distances(
    current_counts: NDArray[np.int64], pooled: NDArray[np.int64], n: int, m: int
) -> NDArray[np.float64]:
    """Return the Kolmogorov-Smirnov distance of each row of counts (b, k), as (b,)."""
    below_current = np.cumsum(current_counts, axis=1)
    below_reference = np.cumsum(pooled) - below_current
    return np.asarray(np.abs(below_current / m - below_reference / n).max(axis=1))


def two_sample_ks(
    reference: NDArray[np.float64], current: NDArray[np.float64], *, seed: int
) -> tuple[float, float, int]:
    """Return the Kolmogorov-Smirnov distance, its p-value and the number of distinct values.

    Without ties the p-value is the asymptotic one. With ties that one only bounds it from above
    (continuity is assumed), so it is resampled given the pooled values, as it is below
    `FEW_ROWS` rows; the distance is then taken on at most `AT_MOST_POINTS` pooled quantiles.

    Args:
        reference: (n,) without NaN, n > 0.
        current: (m,) without NaN, m > 0.
        seed: of the resampling.
    """
    n, m = len(reference), len(current)
    values, codes = np.unique(np.concatenate([reference, current]), return_inverse=True)
    k = len(values)
    tied = k < FEW_TIES_SHARE * (n + m)
    if k > AT_MOST_POINTS and (tied or n + m < FEW_ROWS):
        below = np.cumsum(np.bincount(codes, minlength=k)) / (n + m)  # (k,)
        cells = np.minimum((below * AT_MOST_POINTS).astype(np.int64), AT_MOST_POINTS - 1)
        codes = np.unique(cells, return_inverse=True)[1][codes]
    pooled = np.bincount(codes)
    counts = np.bincount(codes[n:], minlength=len(pooled))
    distance = float(_distances(counts[None], pooled, n, m)[0])
    effective = np.sqrt(n * m / (n + m))
    bound = float(kolmogorov(effective * distance))
    if bound < SURE or not (tied or n + m < FEW_ROWS):
        return distance, bound, k
    generator = np.random.default_rng(seed)
    p_value = resampled_p_value(
        distance,
        lambda b: _distances(
            generator.multivariate_hypergeometric(pooled, m, size=b, method="marginals"),
            pooled,
            n,
            m,
        ),
        at_most=N_RESAMPLES,
    )
    return distance, min(p_value, bound), k


@dataclass(frozen=True, slots=True)
class KolmogorovSmirnov:
    """Compares two distribution functions at their widest gap; the effect is that gap."""

    tolerated_effect: float = 0.05

    description: ClassVar[str] = "Two-sample Kolmogorov-Smirnov test: any shift of a number."
    kinds: ClassVar[tuple[Kind, ...]] = ("numeric",)
    sees: ClassVar[str] = "location"
    schema: ClassVar[Mapping[str, Any]] = options_schema(
        tolerated_effect=share_option(0.05, "Largest gap between the distribution functions.")
    )

    def measure(self, reference: NDArray[Any], current: NDArray[Any], *, seed: int) -> Measurement:
        """Compare two numeric samples, shapes (n,) and (m,)."""
        before, after = as_numbers(reference), as_numbers(current)
        before, after = before[~np.isnan(before)], after[~np.isnan(after)]
        if not len(before) or not len(after):
            return impossible("one side has no values")
        medians = {
            "median_reference": float(np.median(before)),
            "median_current": float(np.median(after)),
        }
        distance, p_value, n_distinct = two_sample_ks(before, after, seed=seed)
        if n_distinct == 1:
            return impossible("both sides hold one and the same value", **medians)
        return Measurement(distance, p_value, distance, medians)


@dataclass(frozen=True, slots=True)
class Spread:
    """Compares distances from the pooled median, which a change of width moves most."""

    tolerated_effect: float = 0.05

    description: ClassVar[str] = (
        "Kolmogorov-Smirnov test of |x - median|: a wider or narrower number."
    )
    kinds: ClassVar[tuple[Kind, ...]] = ("numeric",)
    sees: ClassVar[str] = "spread"
    schema: ClassVar[Mapping[str, Any]] = options_schema(
        tolerated_effect=share_option(0.05, "Largest gap between the distribution functions.")
    )

    def measure(self, reference: NDArray[Any], current: NDArray[Any], *, seed: int) -> Measurement:
        """Compare the spread of two numeric samples, shapes (n,) and (m,)."""
        before, after = as_numbers(reference), as_numbers(current)
        before, after = before[~np.isnan(before)], after[~np.isnan(after)]
        if not len(before) or not len(after):
            return impossible("one side has no values")
        centre = np.median(np.concatenate([before, after]))
        before, after = np.abs(before - centre), np.abs(after - centre)
        deviations = {
            "deviation_reference": float(np.median(before)),
            "deviation_current": float(np.median(after)),
        }
        distance, p_value, n_distinct = two_sample_ks(before, after, seed=seed)
        if n_distinct == 1:
            return impossible("both sides spread alike", **deviations)
        return Measurement(distance, p_value, distance, deviations)


detectors.add("ks", KolmogorovSmirnov())
detectors.add("spread", Spread())
