"""Evidence: champion and challenger on the same examples, row by row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import comb, sqrt
from statistics import NormalDist
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PairedCount:
    """Correctness of two versions on the same n examples.

    Attributes:
        both: both right.
        challenger_only: only the challenger right.
        champion_only: only the champion right.
        neither: both wrong.
    """

    both: int
    challenger_only: int
    champion_only: int
    neither: int

    @property
    def n(self) -> int:
        """How many examples."""
        return self.both + self.challenger_only + self.champion_only + self.neither

    @property
    def challenger_accuracy(self) -> float:
        """Share that the challenger answers rightly."""
        return (self.both + self.challenger_only) / self.n if self.n else float("nan")

    @property
    def champion_accuracy(self) -> float:
        """Share that the champion answers rightly."""
        return (self.both + self.champion_only) / self.n if self.n else float("nan")

    @property
    def gain(self) -> float:
        """Challenger's accuracy minus the champion's."""
        return (self.challenger_only - self.champion_only) / self.n if self.n else float("nan")


def count_pairs(challenger: NDArray[np.bool_], champion: NDArray[np.bool_]) -> PairedCount:
    """Count the four outcomes of two correctness vectors, each of shape (n,)."""
    return PairedCount(
        both=int(np.sum(challenger & champion)),
        challenger_only=int(np.sum(challenger & ~champion)),
        champion_only=int(np.sum(~challenger & champion)),
        neither=int(np.sum(~challenger & ~champion)),
    )


def gain_interval(pairs: PairedCount, *, confidence: float) -> tuple[float, float]:
    """Return an interval for the difference of two paired accuracies.

    The Wald interval with the adjustment of Agresti and Min (2005), who add half an example to
    each cell: its coverage stays near the nominal one down to a few dozen examples.

    Args:
        pairs: the paired counts, n at least 1.
        confidence: two-sided level in (0, 1).
    """
    b, c, n = pairs.challenger_only + 0.5, pairs.champion_only + 0.5, pairs.n + 2.0
    centre = (b - c) / n
    error = sqrt(max(b + c - (b - c) ** 2 / n, 0.0)) / n
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    return centre - z * error, centre + z * error


def superiority_p_value(pairs: PairedCount) -> float:
    """Return the one-sided exact McNemar p-value that the challenger is no better (1947)."""
    n, k = pairs.challenger_only + pairs.champion_only, pairs.challenger_only
    return float(sum(comb(n, i) for i in range(k, n + 1)) / 2**n) if n else 1.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Champion and challenger on one set of examples.

    Attributes:
        role: "holdout" (frozen, never trained on), "window" (newest labelled rows) or "golden".
        challenger: metrics of the challenger, e.g. {"accuracy": 0.95, "f1_macro": 0.94}.
        champion: the same of the champion; None before the first champion.
        pairs: row-by-row outcome; None before the first champion.
        by_class: label -> {"n", "challenger", "champion"} recall of each.
        by_slice: "field=value" -> the same, for the objective's slices.
    """

    role: str
    n: int
    challenger: Mapping[str, Any]
    champion: Mapping[str, Any] | None = None
    pairs: PairedCount | None = None
    by_class: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    by_slice: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that the gates are shown of one challenger.

    Attributes:
        champion_id: the champion it was compared with; a verdict holds against that one alone.
        baseline: the model's fixed yardstick: its score of the primary metric, None if not set.
        metric: primary metric of the objective, larger is better.
        leaked_rows: rows judged on that were in the challenger's training snapshot (must be 0).
    """

    challenger_id: UUID
    champion_id: UUID | None
    comparisons: Sequence[Comparison]
    metric: str
    margin: float
    baseline: float | None = None
    leaked_rows: int = 0

    def comparison(self, role: str) -> Comparison | None:
        """Return the comparison on the examples of that role, if there is one."""
        return next((found for found in self.comparisons if found.role == role), None)
