"""How often is the champion right when it is this confident?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """A step function from confidence to the chance of being right.

    Attributes:
        starts: (k,) lowest confidence of each step, ascending.
        chances: (k,) share right among the step's rows, ascending.
        n_rows: (k,) how many rows that share was counted on.
    """

    starts: Sequence[float]
    chances: Sequence[float]
    n_rows: Sequence[int]

    @property
    def n(self) -> int:
        """Return how many labelled rows it was fitted on."""
        return sum(self.n_rows)

    @property
    def accuracy(self) -> float:
        """Return the accuracy on those rows."""
        return float(np.average(self.chances, weights=self.n_rows))

    def chance(self, confidence: Numbers) -> Numbers:
        """Return the chance (n,) that each answer is right; of an unknown confidence the mean."""
        found = np.asarray(self.chances)[self._steps(confidence)]
        return np.where(np.isnan(confidence), self.accuracy, found)

    def variance(self, confidence: Numbers) -> float:
        """Return the variance of the mean chance that comes from the rows it was fitted on."""
        share = np.bincount(self._steps(confidence), minlength=len(self.starts)) / len(confidence)
        n = np.asarray(self.n_rows, dtype=np.float64)
        smooth = (np.asarray(self.chances) * n + 1) / (n + 2)
        return float((share**2 * smooth * (1 - smooth) / n).sum())

    def _steps(self, confidence: Numbers) -> NDArray[np.int64]:
        places = np.searchsorted(np.asarray(self.starts), confidence, side="right") - 1
        return np.clip(places, 0, len(self.starts) - 1)


def calibrated(confidence: Numbers, correct: NDArray[np.bool_]) -> Calibration:
    """Fit the best non-decreasing step function by least squares.

    Pool adjacent violators (Ayer et al., 1955). Its mean over a window is the estimate of accuracy
    that is known as CBPE; right as long as equal confidence means an equal chance of being right.

    Args:
        confidence: (n,) probability of the answer, n at least 1.
        correct: (n,) whether the answer was right; rows that the champion has not learned from.
    """
    values, place = np.unique(confidence, return_inverse=True)
    n_rows = np.bincount(place)
    n_right = np.bincount(place, weights=np.asarray(correct, dtype=np.float64))
    starts: list[float] = []
    right: list[float] = []
    rows: list[int] = []
    for index, start in enumerate(values.tolist()):
        starts.append(start)
        right.append(float(n_right[index]))
        rows.append(int(n_rows[index]))
        while len(rows) > 1 and right[-2] * rows[-1] >= right[-1] * rows[-2]:
            starts.pop()
            right[-2:] = [right[-2] + right[-1]]
            rows[-2:] = [rows[-2] + rows[-1]]
    return Calibration(starts, [r / n for r, n in zip(right, rows, strict=True)], rows)
