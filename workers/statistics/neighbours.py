"""Which rows lie closest to each row, and how far?"""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

N_NEIGHBOURS: Final = 8


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The nearest other rows of each of n rows, closest first.

    Attributes:
        rows: (n, k) their places.
        distances: (n, k) squared.
    """

    rows: NDArray[np.int64]
    distances: NDArray[np.float32]

    @classmethod
    def of(cls, squared: NDArray[np.float32], *, k: int = N_NEIGHBOURS) -> Self:
        """Return the k nearest rows by squared distances (n, n), n > k, infinite to themselves.

        The distances are as they were afterwards. For few neighbours, k minima of whole rows cost a
        quarter of a partition.
        """
        every = np.arange(len(squared))
        nearest = np.empty((len(squared), k), dtype=np.int64)
        distances = np.empty(nearest.shape, dtype=squared.dtype)
        for place in range(k):
            nearest[:, place] = at = squared.argmin(axis=1)
            distances[:, place] = squared[every, at]
            squared[every, at] = np.inf
        squared[every[:, None], nearest] = distances
        return cls(nearest, distances)

    def first_outside(self, inside: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the place in the list of each row's first neighbour outside a set, else the last.

        Args:
            inside: (n,) true for the rows of the set.
        """
        outside = ~inside[self.rows]
        outside[:, -1] = True
        return np.asarray(outside.argmax(axis=1))


def squared_distances(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the squared distances of rows (n, d) from each other, infinite from themselves.

    In single precision, on rows centred and scaled so that neither a large mean nor large values
    cost digits; what rounding leaves between equal rows is 0.
    """
    centred = rows - rows.mean(axis=0)
    scale = float(np.abs(centred).max(initial=0.0)) or 1.0
    small = (centred / scale).astype(np.float32)
    lengths = np.einsum("ij,ij->i", small, small)
    squared = small @ small.T
    squared *= -2
    squared += lengths[:, None]
    squared += lengths
    squared[squared < 4e-6 * float(lengths.mean())] = 0.0
    np.fill_diagonal(squared, np.inf)
    return np.asarray(squared)


def strangeness(
    reference: NDArray[np.float64], current: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return how unlike the reference each current row is, and its nearest reference row, (m,).

    The first is a conformal p-value turned round: the share of reference rows that lie nearer to
    another one than the row does to its nearest; ties between 1s are broken by distance.
    """
    n = len(reference)
    squared = squared_distances(np.concatenate([reference, current]))
    own = np.sort(squared[:n, :n].min(axis=1))
    across = squared[n:, :n]
    nearest = across.argmin(axis=1)
    distances = across[np.arange(len(current)), nearest].astype(np.float64)
    below = np.searchsorted(own, distances, side="left") / (n + 1)
    furthest = float(distances.max(initial=0.0)) or 1.0
    return below + distances / furthest / (n + 1), nearest
