"""Has the cloud of embeddings moved, by its mean in a kernel's feature space?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from app.domain.drift import Measurement
from workers.detectors import (
    Kind,
    comparable_rows,
    detectors,
    impossible,
    options_schema,
    resampled_p_value,
    share_option,
)

FEWEST_ROWS: Final = 10


def rbf_kernel(rows: NDArray[np.float64]) -> NDArray[np.float32] | None:
    """Return the Gaussian kernel (n, n) of rows (n, d), its diagonal 0; None if all are the same.

    The bandwidth is the median distance of the pooled rows, which no relabelling changes.
    """
    centred = rows - rows.mean(axis=0)
    squares = (centred**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * centred @ centred.T, 0.0)
    apart = distances[np.triu_indices(len(rows), 1)]
    width = float(np.median(apart))
    if width <= 1e-12 * max(float(apart.max()), 1e-300):
        width = float(apart.mean())  # more than half of all pairs coincide
    if width <= 1e-12 * max(1.0, float(squares.mean())):
        return None
    kernel = np.asarray(np.exp(-distances / width), dtype=np.float32)
    np.fill_diagonal(kernel, 0.0)
    return kernel


def squared_mmd(kernel: NDArray[np.float32], is_current: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the unbiased squared MMD of each labelling (b, n) of a diagonal-free kernel, (b,)."""
    ones = is_current.astype(np.float32)  # (b, n)
    m = float(ones[0].sum())
    n = ones.shape[1] - m
    products = ones @ kernel  # (b, n)
    within_current = (products * ones).sum(axis=1, dtype=np.float64)
    of_current = products.sum(axis=1, dtype=np.float64)
    across = of_current - within_current
    within_reference = float(kernel.sum(dtype=np.float64)) - within_current - 2 * across
    return np.asarray(
        within_current / (m * (m - 1)) + within_reference / (n * (n - 1)) - 2 * across / (n * m)
    )


@dataclass(frozen=True, slots=True)
class MaximumMeanDiscrepancy:
    """Kernel two-sample test (Gretton et al., 2012) with a permutation null.

    The effect is the MMD itself (not squared), 0 where its unbiased square is negative. No
    threshold on it alone means anything, as it depends on the embedding's dimension: the
    permutations judge, the tolerated effect only leaves out trifles.
    """

    tolerated_effect: float = 0.03
    max_rows: int = 500
    n_permutations: int = 999

    description: ClassVar[str] = "Maximum mean discrepancy of embeddings, judged by permutations."
    kinds: ClassVar[tuple[Kind, ...]] = ("embedding",)
    sees: ClassVar[str] = "embedding"
    schema: ClassVar[Mapping[str, Any]] = options_schema(
        tolerated_effect=share_option(0.03, "Tolerated maximum mean discrepancy."),
        max_rows={"type": "integer", "minimum": 50, "maximum": 2000, "default": 500},
        n_permutations={"type": "integer", "minimum": 99, "maximum": 9999, "default": 999},
    )

    def measure(self, reference: NDArray[Any], current: NDArray[Any], *, seed: int) -> Measurement:
        """Compare two embeddings, shapes (n, d) and (m, d)."""
        generator = np.random.default_rng(seed)
        sides = comparable_rows(
            reference, current, generator, fewest=FEWEST_ROWS, at_most=self.max_rows
        )
        if isinstance(sides, Measurement):
            return sides
        before, after = sides
        kernel = rbf_kernel(np.concatenate([before, after]))
        if kernel is None:
            return impossible("all rows are the same")
        is_current = np.arange(len(kernel)) >= len(before)
        observed = float(squared_mmd(kernel, is_current[None])[0])
        p_value = resampled_p_value(
            observed,
            lambda b: squared_mmd(kernel, generator.permuted(np.tile(is_current, (b, 1)), axis=1)),
            at_most=self.n_permutations,
        )
        return Measurement(
            observed,
            p_value,
            float(np.sqrt(max(observed, 0.0))),
            {"n_reference": len(before), "n_current": len(after)},
        )


detectors.add("mmd", MaximumMeanDiscrepancy())
