"""Are values missing more often, or less?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from app.domain.drift import Measurement
from workers.detectors import (
    Kind,
    detectors,
    impossible,
    is_missing,
    options_schema,
    share_option,
)
from workers.statistics.marginals import fisher_exact


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
        return Measurement(gap, fisher_exact(before, n, after, m), gap, shares)


detectors.add("missing", Missing())
