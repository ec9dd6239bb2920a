"""What number does the simplest model answer? One linear in features (Hoerl and Kennard, 1970)."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

STRENGTHS: Final = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
"""Of the penalty, as rows that say the weights are 0."""


@dataclass(frozen=True, slots=True)
class Ridge:
    """A linear model of features: weights (d,) of them in scale, and the mean label."""

    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    mean: float

    def values(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return answers, shape (n, d) to (n,)."""
        table = (np.asarray(features, dtype=np.float64) - self.center) / self.scale
        return np.asarray(table @ self.weights + self.mean)


def fit(features: NDArray[np.float32], truth: NDArray[np.float64]) -> Ridge:
    """Fit labels by ridge regression; the penalty is chosen by its exact leave-one-out error.

    Args:
        features: shape (n, d), n at least 1.
        truth: labels, shape (n,).
    """
    table = np.asarray(features, dtype=np.float64)
    center, spread = table.mean(axis=0), table.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    table = (table - center) / scale
    mean = float(truth.mean())
    left, values, right = np.linalg.svd(table, full_matrices=False)  # (n, r), (r,), (r, d)
    told = left.T @ (truth - mean)

    def left_out(strength: float) -> float:
        """Return the mean squared error over rows, each answered by a fit to the others."""
        shrunk = values**2 / (values**2 + strength)
        leverage = (left**2 * shrunk).sum(axis=1) + 1 / len(truth)
        residual = truth - mean - left @ (shrunk * told)
        return float(((residual / np.maximum(1 - leverage, 1e-3)) ** 2).mean())

    best = min(STRENGTHS, key=left_out)
    weights = right.T @ (values / (values**2 + best) * told)
    return Ridge(center, scale, np.asarray(weights), mean)
