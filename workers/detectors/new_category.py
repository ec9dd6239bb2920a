"""Have categories appeared that the reference never had?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, ndtr

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

N_RESAMPLES: Final = 1999
MANY_CATEGORIES: Final = 1000
UNLIKELY: Final = 1e-3


@dataclass(frozen=True, slots=True)
class NewCategory:
    """Counts current rows in categories unseen in the reference, against what chance brings.

    A long tail always brings some: the null hands out the pooled rows at random. With more than
    `MANY_CATEGORIES` categories it is approximated by a normal distribution.
    """

    tolerated_effect: float = 0.01

    description: ClassVar[str] = "Share of rows in categories that the reference never had."
    kinds: ClassVar[tuple[Kind, ...]] = ("categorical",)
    sees: ClassVar[str] = "new_category"
    schema: ClassVar[Mapping[str, Any]] = options_schema(
        tolerated_effect=share_option(0.01, "Tolerated share of rows in new categories.")
    )

    def measure(self, reference: NDArray[Any], current: NDArray[Any], *, seed: int) -> Measurement:
        """Compare two categorical samples, shapes (n,) and (m,)."""
        categories, before, after = category_counts(reference, current)
        n, m = int(before.sum()), int(after.sum())
        if not n or not m:
            return impossible("one side has no values")
        is_new = before == 0
        n_new = int(after[is_new].sum())
        pooled = before + after
        log_all_new = _log_chance_all_current(pooled, n, m)  # (k,)
        chance_of_any = float(np.exp(log_all_new).sum())
        if not n_new:
            if chance_of_any < UNLIKELY:
                return impossible("no category is new, nor would chance bring one")
            return Measurement(0.0, 1.0, 0.0, {"n_new_categories": 0})
        commonest = np.argsort(-np.where(is_new, after, 0), kind="stable")[:5]
        detail = {
            "n_new_categories": int(is_new.sum()),
            "new_categories": {categories[i]: int(after[i]) for i in commonest if is_new[i]},
        }
        if len(pooled) > MANY_CATEGORIES:
            chance = np.exp(log_all_new)
            mean = float((pooled * chance).sum())
            deviation = float(np.sqrt((pooled**2 * chance * (1 - chance)).sum()))
            p_value = float(ndtr(-(n_new - 0.5 - mean) / max(deviation, 1e-12)))
        else:
            generator = np.random.default_rng(seed)

            def resampled(b: int) -> NDArray[np.float64]:
                counts = generator.multivariate_hypergeometric(
                    pooled, m, size=b, method="marginals"
                )
                all_new = np.where(counts == pooled, counts, 0)  # (b, k)
                return np.asarray(all_new.sum(axis=1), dtype=np.float64)

            p_value = resampled_p_value(float(n_new), resampled, at_most=N_RESAMPLES)
        share = n_new / m
        return Measurement(share, min(p_value, chance_of_any, 1.0), share, detail)


def _log_chance_all_current(pooled: NDArray[np.int64], n: int, m: int) -> NDArray[np.float64]:
    """Return, for each category, the log chance that all its rows fall into the current window."""
    possible = pooled <= m
    log_chance = (
        gammaln(m + 1)
        - gammaln(np.where(possible, m - pooled, 0) + 1)
        - gammaln(n + m + 1)
        + gammaln(n + m - pooled + 1)
    )
    return np.asarray(np.where(possible, log_chance, -np.inf))


detectors.add("new-category", NewCategory())
