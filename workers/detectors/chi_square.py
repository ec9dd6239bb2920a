"""Have the frequencies of categories moved?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

from app.domain.drift import Measurement
from workers.detectors import (
    Kind,
    category_counts,
    detectors,
    impossible,
    options_schema,
    resampled_p_value,
    share_option,
)

RARE_COUNT: Final = 5
N_RESAMPLES: Final = 1999


def _chi_square(
    current: NDArray[np.int64], pooled: NDArray[np.int64], m: int
) -> NDArray[np.float64]:
    """Return Pearson's two-sample statistic of each row of current counts (b, k), as (b,)."""
    total = int(pooled.sum())
    expected = pooled * (m / total)  # (k,)
    scale = total / (total - m)  # both windows' terms, as they differ by the same counts
    return np.asarray((((current - expected) ** 2) / expected).sum(axis=1) * scale)


@dataclass(frozen=True, slots=True)
class ChiSquare:
    """Compares two windows' category counts; the effect is their total variation distance.

    Pearson's test on both samples, not on one with the other taken for truth. Categories with
    fewer than five rows in both windows together are pooled; where a cell still expects fewer than
    five, the p-value is resampled with the margins held.
    """

    tolerated_effect: float = 0.05

    description: ClassVar[str] = "Two-sample chi-square test on category counts, rare cells pooled."
    kinds: ClassVar[tuple[Kind, ...]] = ("categorical",)
    sees: ClassVar[str] = "frequency"
    schema: ClassVar[Mapping[str, Any]] = options_schema(
        tolerated_effect=share_option(0.05, "Share of rows that changed category.")
    )

    def measure(self, reference: NDArray[Any], current: NDArray[Any], *, seed: int) -> Measurement:
        """Compare two categorical samples, shapes (n,) and (m,)."""
        categories, before, after = category_counts(reference, current)
        n, m = int(before.sum()), int(after.sum())
        if not n or not m:
            return impossible("one side has no values")
        changes = after / m - before / n
        moved = np.argsort(-np.abs(changes), kind="stable")[:5]
        detail = {
            "n_categories": len(categories),
            "most_changed": {categories[i]: round(float(changes[i]), 4) for i in moved},
        }
        pooled = before + after
        rare = pooled < RARE_COUNT
        if rare.any():
            before, after = (
                np.append(counts[~rare], counts[rare].sum()) for counts in (before, after)
            )
            pooled = before + after
        if len(pooled) < 2:
            return impossible("one category only", **detail)
        effect = 0.5 * float(np.abs(after / m - before / n).sum())
        statistic = float(_chi_square(after[None], pooled, m)[0])
        p_value = float(chdtrc(len(pooled) - 1, statistic))
        sparse = pooled.min() * min(n, m) / (n + m) < RARE_COUNT
        if sparse:
            generator = np.random.default_rng(seed)
            p_value = resampled_p_value(
                statistic,
                lambda b: _chi_square(
                    generator.multivariate_hypergeometric(pooled, m, size=b, method="marginals"),
                    pooled,
                    m,
                ),
                at_most=N_RESAMPLES,
            )
        return Measurement(statistic, p_value, effect, detail)


detectors.add("chi-square", ChiSquare())
