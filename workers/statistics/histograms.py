"""How are a column's values spread, before and now?"""

from collections import Counter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

N_BINS: Final = 16
AT_MOST_CATEGORIES: Final = 12
LONGEST: Final = 60
OTHERS: Final = "(other)"
OUTER: Final = (0.005, 0.995)


def histogram(before: NDArray[Any], after: NDArray[Any]) -> dict[str, Any]:
    """Return counts of two samples by the same bins, as JSON values.

    Numbers (n,): `edges` of equal bins between the outer quantiles of both sides; what lies
    beyond counts in the first or the last. Others: `labels` of the most frequent values, the rest
    under one. `missing` is how many of each side have no value.
    """
    sides = (before, after)
    if before.dtype.kind in "fiub" and after.dtype.kind in "fiub":
        numbers = [side.astype(np.float64) for side in sides]
        known = [side[np.isfinite(side)] for side in numbers]
        edges = _edges(np.concatenate(known))
        counts = [
            np.histogram(np.clip(side, edges[0], edges[-1]), edges)[0].tolist() for side in known
        ]
        named: dict[str, Any] = {"edges": edges.tolist()}
    else:
        known_values = [[v for v in side if v is not None and v == v] for side in sides]  # noqa: PLR0124  # NaN is not itself
        tallies = [Counter(str(value)[:LONGEST] for value in side) for side in known_values]
        common = [name for name, _ in (tallies[0] + tallies[1]).most_common(AT_MOST_CATEGORIES)]
        counts = [[tally[name] for name in common] for tally in tallies]
        rest = [tally.total() - sum(row) for tally, row in zip(tallies, counts, strict=True)]
        if any(rest):
            common.append(OTHERS)
            counts = [[*row, n] for row, n in zip(counts, rest, strict=True)]
        named = {"labels": common}
    missing = [len(side) - sum(row) for side, row in zip(sides, counts, strict=True)]
    return {**named, "reference": counts[0], "current": counts[1], "missing": missing}


def _edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    if not values.size:
        return np.array([0.0, 1.0])
    low, high = np.quantile(values, OUTER)
    if not high - low > 1e-9 * max(abs(low), abs(high)):
        low, high = low - 0.5 * max(abs(low), 1.0), high + 0.5 * max(abs(high), 1.0)
    return np.asarray(np.linspace(low, high, N_BINS + 1))
