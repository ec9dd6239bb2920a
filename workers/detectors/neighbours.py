"""Are there rows unlike any in the reference, or more of one sort than there were?"""

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
    share_option,
)
from workers.statistics.neighbours import N_NEIGHBOURS, Neighbours, squared_distances
from workers.statistics.resampling import rank_error, stretches, tolerated_by, upper_tail

FEWEST_ROWS: Final = 2 * N_NEIGHBOURS
N_CLOSE: Final = 5
BATCH: Final = 50
KINDS: Final = ("novelty", "mixture")


@dataclass(frozen=True, slots=True)
class NearestNeighbours:
    """Two readings of the nearest neighbours of each row, judged by permutations.

    Novelty: how much further current rows lie from their nearest reference row than reference
    rows do from theirs (a row out of scope is odd by itself). Mixture: how much more often the
    neighbours of current rows are current ones than those of reference rows are (Schilling,
    1986): a new or more frequent class keeps to itself. The statistic is the largest of the two
    and their sum, each in its standard deviations under permutation of the labels; the p-value
    goes below one over the number of permutations (`upper_tail`).

    The effect of novelty is how much likelier a current row lies further from the reference than
    a reference row does, than nearer; that of mixture the gap of the shares of neighbours. Both
    must pass what stretches of the reference in its own order show (`tolerated_by`).
    """

    tolerated_effect: float = 0.05
    max_rows: int = 1000
    n_permutations: int = 200

    description: ClassVar[str] = (
        "Rows unlike any of the reference, or crowding where it had few: nearest neighbours."
    )
    kinds: ClassVar[tuple[Kind, ...]] = ("embedding",)
    sees: ClassVar[str] = "embedding"
    schema: ClassVar[Mapping[str, Any]] = options_schema(
        tolerated_effect=share_option(0.05, "Tolerated surplus of far rows or of own neighbours."),
        max_rows={"type": "integer", "minimum": 50, "maximum": 5000, "default": 1000},
        n_permutations={"type": "integer", "minimum": 99, "maximum": 9999, "default": 200},
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
        n = len(before)
        order = generator.permutation(n + len(after))  # or the first of equal rows were nearest
        squared = squared_distances(np.concatenate([before, after])[order])
        if not squared[np.isfinite(squared)].any():
            return impossible("all rows are the same")
        near = Neighbours.of(squared)
        is_current = order >= n
        shuffled = np.tile(is_current, (self.n_permutations, 1))
        labellings = np.concatenate([is_current[None], generator.permuted(shuffled, axis=1)])
        found = readings(near, labellings)  # (b + 1, 2)
        spread = found[1:].std(axis=0)
        scores = (found - found[1:].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
        together = scores.sum(axis=1)
        largest = np.maximum(scores.max(axis=1), together / (together[1:].std() or 1.0))

        parts = stretches(n, len(after))[:, order[~is_current]]
        own = Neighbours.of(squared[np.ix_(~is_current, ~is_current)])
        quiet = np.array([effects_of(own, part) for part in parts])
        errors = rank_error(n, len(after)), float(spread[1])
        effects = effects_of(near, is_current)
        tolerated = [
            tolerated_by(quiet[:, i], errors[i], at_least=self.tolerated_effect) for i in range(2)
        ]
        at = int(np.argmax([effects[i] / max(tolerated[i], 1e-9) for i in range(2)]))
        return Measurement(
            float(largest[0]),
            upper_tail(float(largest[0]), largest[1:]),
            max(effects[at], 0.0),
            {
                "kind": KINDS[at],
                **dict(zip(KINDS, effects, strict=True)),
                "n_reference": n,
                "n_current": len(after),
            },
            tolerated[at],
        )


def readings(near: Neighbours, labellings: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return novelty and mixture of each labelling (b, n), true where current, as (b, 2)."""
    return np.concatenate(
        [
            _readings(near, oddities(near), labellings[start : start + BATCH])
            for start in range(0, len(labellings), BATCH)
        ]
    )


def oddities(near: Neighbours) -> NDArray[np.float32]:
    """Return how odd it is to have a nearest row as far as each neighbour is, (n, k).

    -log of the share of rows whose nearest lies at least as far; no label is used.
    """
    nearest = np.sort(near.distances[:, 0])
    below = np.searchsorted(nearest, near.distances, side="left")
    return np.asarray(-np.log1p(-below / (len(nearest) + 1)), dtype=np.float32)


def _readings(
    near: Neighbours, oddity: NDArray[np.float32], labellings: NDArray[np.bool_]
) -> NDArray[np.float64]:
    m = labellings.sum(axis=1)
    crowd = np.zeros(labellings.shape, dtype=np.float32)  # neighbours that are current
    odd = np.tile(oddity[:, -1], (len(labellings), 1))  # of the first that is not
    for k in range(near.rows.shape[1] - 1, -1, -1):
        is_current = labellings[:, near.rows[:, k]]
        odd = np.where(is_current, odd, oddity[:, k])
        if k < N_CLOSE:
            crowd += is_current
    gaps = []
    for values in (odd, crowd / N_CLOSE):
        of_current = np.einsum("bi,bi->b", values, labellings.astype(np.float32))
        others = values.sum(axis=1) - of_current
        gaps.append(of_current / m - others / (labellings.shape[1] - m))
    return np.stack(gaps, axis=1).astype(np.float64)


def effects_of(near: Neighbours, is_current: NDArray[np.bool_]) -> tuple[float, float]:
    """Return how much likelier a current row lies further than nearer; the gap of the shares."""
    distances = near.distances[np.arange(len(near.rows)), near.first_outside(is_current)]
    known, seen = np.sort(distances[~is_current]), distances[is_current]
    below, upto = (np.searchsorted(known, seen, side=side) for side in ("left", "right"))
    shares = is_current[near.rows[:, :N_CLOSE]].mean(axis=1)
    return (
        float((below + upto).mean() / len(known) - 1),
        float(shares[is_current].mean() - shares[~is_current].mean()),
    )


detectors.add("neighbours", NearestNeighbours())
