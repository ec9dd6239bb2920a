"""Evidence: champion and challenger on the same examples, row by row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import comb, inf, sqrt
from statistics import NormalDist
from typing import Any, Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from app.domain.answers import MAXIMIZE
from app.domain.performance import beta_distribution


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

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return an interval for the gain, as `gain_interval` does."""
        return gain_interval(self, confidence=confidence)

    @property
    def p_value(self) -> float:
        """The one-sided p-value that the challenger is no better."""
        return superiority_p_value(self)

    def is_idle(self, margin: float) -> bool:
        """Return that no challenger is idle: what is right by chance is for the baseline to say."""
        return False

    def in_words(self) -> str:
        """Return both scores."""
        return f"{self.challenger_accuracy:.3f} against the champion's {self.champion_accuracy:.3f}"


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
class PairedLosses:
    """Losses of two versions on the same n examples; the gain is a share, as that of accuracies is.

    The test is that of Diebold and Mariano (1995) for answers that do not overlap: a paired t-test
    of the losses. It takes rows for independent and their mean difference for normal, which a few
    enormous errors among few rows are not.

    Attributes:
        loss: "squared error" or "absolute error".
        constant: mean loss of the best constant answer to these rows (their mean, or median).
        challenger, champion: mean loss of each version.
        gain: champion's minus challenger's mean loss, as a share of `constant`: of squared errors
            it is the difference of what the two explain (R2).
        error: standard error of the gain; NaN of one row.
    """

    n: int
    loss: str
    constant: float
    challenger: float
    champion: float
    gain: float
    error: float

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return an interval for the gain: two-sided, by Student's t; unbounded of one row."""
        if self.n < 2:
            return -inf, inf
        half = student_quantile(0.5 + confidence / 2, self.n - 1) * self.error
        return self.gain - half, self.gain + half

    @property
    def p_value(self) -> float:
        """The one-sided p-value that the challenger is no better."""
        return paired_t_test(self.n, self.gain, self.error)

    def is_idle(self, margin: float) -> bool:
        """Return whether the challenger tells no more of these rows than one number would.

        Where labels are noise, whoever answers their mean beats a champion that knew better.
        """
        return self.challenger > (1 - margin) * self.constant

    def in_words(self) -> str:
        """Return both mean losses, and what the gain is a share of."""
        return (
            f"mean {self.loss} {self.challenger:.4g} against the champion's {self.champion:.4g} "
            f"({self.constant:.4g} of the best constant)"
        )


def pair_losses(
    challenger: NDArray[np.float64],
    champion: NDArray[np.float64],
    truth: NDArray[np.float64],
    *,
    is_squared: bool,
    scale: float,
) -> PairedLosses:
    """Compare numbers answered to the same rows, each of shape (n,), n at least 1.

    Args:
        challenger: what it answers.
        champion: what it answers.
        truth: the labels.
        is_squared: whether the loss is the squared or the absolute error.
        scale: error that stands for that of a constant where all labels are one number.
    """

    def losses(answers: NDArray[np.float64] | float) -> NDArray[np.float64]:
        error = np.abs(answers - truth)
        return np.asarray(error**2 if is_squared else error)

    ours, theirs = losses(challenger), losses(champion)
    constant = float(losses(float(truth.mean() if is_squared else np.median(truth))).mean())
    constant = constant or (scale**2 if is_squared else scale)
    differences = (theirs - ours) / constant
    n = len(truth)
    return PairedLosses(
        n=n,
        loss="squared error" if is_squared else "absolute error",
        constant=constant,
        challenger=float(ours.mean()),
        champion=float(theirs.mean()),
        gain=float(differences.mean()),
        error=float(differences.std(ddof=1)) / sqrt(n) if n > 1 else float("nan"),
    )


def paired_t_test(n: int, gain: float, error: float) -> float:
    """Return the one-sided p-value of a mean difference by Student's t; 1 of a single pair.

    Args:
        n: pairs, at least 1.
        gain: their mean difference.
        error: its standard error.
    """
    if n < 2:
        return 1.0
    if error == 0:
        return 0.0 if gain > 0 else 1.0
    return student_tail(gain / error, n - 1)


def student_tail(t: float, degrees: float) -> float:
    """Return the chance that Student's t of so many degrees of freedom exceeds a value."""
    tail = beta_distribution(degrees / (degrees + t * t), degrees / 2, 0.5) / 2
    return tail if t > 0 else 1 - tail


def student_quantile(probability: float, degrees: float) -> float:
    """Return the value below which Student's t lies with a probability above 1/2."""
    low, high = 0.0, 1.0
    while 1 - student_tail(high, degrees) < probability:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        if 1 - student_tail(middle, degrees) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


@dataclass(frozen=True, slots=True)
class PairedScores:
    """Scores in [0, 1] of two versions on the same n examples; the gain is in such points.

    Of scores that are 0 or 1 the interval is that of `gain_interval`. The test is a paired t-test,
    as of losses.

    Attributes:
        score: its name, such as "f1_samples".
        challenger, champion: mean score of each version.
        nothing: mean score of the answer that says nothing, the same to every row.
        squares: sum of the squared differences.
    """

    n: int
    score: str
    challenger: float
    champion: float
    nothing: float
    squares: float

    @property
    def gain(self) -> float:
        """Challenger's mean score minus the champion's."""
        return self.challenger - self.champion

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return an interval for the gain, two-sided.

        Wald's with what Agresti and Min (2005) add: one difference of 1 among two more rows.
        """
        n = self.n + 2.0
        centre = self.gain * self.n / n
        error = sqrt(max((self.squares + 1) / n - centre**2, 0.0) / n)
        z = NormalDist().inv_cdf(0.5 + confidence / 2)
        return centre - z * error, centre + z * error

    @property
    def p_value(self) -> float:
        """The one-sided p-value that the challenger is no better."""
        variance = (self.squares - self.n * self.gain**2) / max(self.n - 1, 1)
        return paired_t_test(self.n, self.gain, sqrt(max(variance, 0.0) / self.n))

    def is_idle(self, margin: float) -> bool:
        """Return whether the challenger does no better on these rows than saying nothing.

        Where labels are noise, whoever says little beats a champion that knew better.
        """
        return 1 - self.challenger > (1 - margin) * (1 - self.nothing)

    def in_words(self) -> str:
        """Return both mean scores, and that of saying nothing."""
        return (
            f"mean {self.score} {self.challenger:.3f} against the champion's {self.champion:.3f} "
            f"({self.nothing:.3f} of saying nothing)"
        )


def pair_scores(
    challenger: NDArray[np.float64],
    champion: NDArray[np.float64],
    nothing: NDArray[np.float64],
    *,
    score: str,
) -> PairedScores:
    """Compare scores in [0, 1] of the same rows, each of shape (n,), n at least 1.

    Args:
        challenger: of its answers.
        champion: of its answers.
        nothing: of the answer that says nothing.
        score: its name.
    """
    return PairedScores(
        n=len(challenger),
        score=score,
        challenger=float(challenger.mean()),
        champion=float(champion.mean()),
        nothing=float(nothing.mean()),
        squares=float(((challenger - champion) ** 2).sum()),
    )


class Pairs(Protocol):
    """What two versions answered to the same rows, whatever the kind of answer."""

    @property
    def gain(self) -> float:
        """How much better the challenger is: of accuracy, or of the loss as a share."""
        ...

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return a two-sided interval for the gain."""
        ...

    @property
    def p_value(self) -> float:
        """The one-sided p-value that the challenger is no better."""
        ...

    def is_idle(self, margin: float) -> bool:
        """Return whether the challenger tells nothing, so that it is no gain over any champion.

        Args:
            margin: the share of what nothing tells that it must be better by.
        """
        ...

    def in_words(self) -> str:
        """Return the scores of both."""
        ...


@dataclass(frozen=True, slots=True)
class Comparison:
    """Champion and challenger on one set of examples.

    Attributes:
        role: "holdout" (frozen, never trained on), "window" (newest labelled rows) or "golden".
        challenger: metrics of the challenger, e.g. {"accuracy": 0.95, "f1_macro": 0.94}.
        champion: the same of the champion; None before the first champion.
        pairs: row-by-row outcome; None before the first champion.
        by_class: label -> {"n", "challenger", "champion"} recall of each class, or of the spans of
            each label; empty where answers have no labels.
        by_slice: "field=value" -> the mean score of each, for the objective's slices.
    """

    role: str
    n: int
    challenger: Mapping[str, Any]
    champion: Mapping[str, Any] | None = None
    pairs: Pairs | None = None
    by_class: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    by_slice: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that the gates are shown of one challenger.

    Attributes:
        champion_id: the champion it was compared with; a verdict holds against that one alone.
        baseline: the model's fixed yardstick: its score of the primary metric, None if not set.
        metric: primary metric of the objective.
        direction: "maximize" where larger is better, else "minimize".
        leaked_rows: rows judged on that were in the challenger's training snapshot (must be 0).
    """

    challenger_id: UUID
    champion_id: UUID | None
    comparisons: Sequence[Comparison]
    metric: str
    margin: float
    baseline: float | None = None
    leaked_rows: int = 0
    direction: str = MAXIMIZE

    def comparison(self, role: str) -> Comparison | None:
        """Return the comparison on the examples of that role, if there is one."""
        return next((found for found in self.comparisons if found.role == role), None)
