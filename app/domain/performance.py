"""Has the champion's accuracy fallen below what it was accepted with, as far as labels tell?

Accuracy is the mean score of its answers, each in [0, 1]: of classes the share that is right, of
other answers what `app.domain.answers` names as their measure. All that holds of the share of right
answers here holds of the mean of any scores in [0, 1].
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

DROPS: Final = (0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.35)


@dataclass(frozen=True, slots=True)
class PerformanceEvidence:
    """What the labelled answers of one version say of its accuracy, in the order they came.

    Of so many answers that only the newest are read, every figure speaks of these alone; a fall
    among answers before them is over or shows in them.

    Attributes:
        n: labelled answers seen.
        accuracy: mean score of all of them, of classes the share correct; None without any.
        floor: the lowest accuracy not called decay: accepted minus tolerated.
        log_e_value: natural logarithm of the e-detector's value now (-inf without evidence).
        log_e_value_max: its largest value since the watch began.
        changed_at: index of the answer from which accuracy is estimated to have been lower; None
            where no answer speaks for a fall.
        n_since: answers since then (0 without a change).
        accuracy_since: share correct since then.
        lower_since: lower bound of the accuracy since then.
        upper_since: upper bound; both hold together with probability 1 - alpha at this n,
            whichever answer the change was placed at.
        lower: lower bound of the accuracy of all of them; None without any.
        upper: upper bound; both hold however often one looks, if accuracy is steady.
        measure: what the mean score is called.
        errors: what else is known of the answers, by name, such as the root mean squared error.
    """

    n: int
    accuracy: float | None
    floor: float
    log_e_value: float
    log_e_value_max: float
    changed_at: int | None
    n_since: int
    accuracy_since: float | None
    lower_since: float | None
    upper_since: float | None
    lower: float | None = None
    upper: float | None = None
    measure: str = "accuracy"
    errors: Mapping[str, float] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether the labels prove that accuracy is not under the floor, by the interval."""
        return self.lower is not None and self.lower >= self.floor

    @property
    def e_value(self) -> float:
        """The e-detector's value now, at most 1e300."""
        return math.exp(min(self.log_e_value, 690.0))

    def is_decayed(self, average_run_length: float) -> bool:
        """Whether the alarm was reached that sounds once in so many answers, or less often.

        Args:
            average_run_length: answers until the first false alarm, on average, at the least.
        """
        return self.log_e_value_max >= math.log(average_run_length)

    def is_doubtful(self, average_run_length: float) -> bool:
        """Whether the evidence stands there now, after all answers seen.

        A burst of errors that the answers after it made good is no reason to doubt any more.

        Args:
            average_run_length: as for `is_decayed`.
        """
        return self.log_e_value >= math.log(average_run_length)


def watch_accuracy(
    correct: NDArray[np.bool_] | NDArray[np.float64],
    accepted: float,
    tolerance: float,
    *,
    alpha: float = 0.05,
    drops: tuple[float, ...] = DROPS,
) -> PerformanceEvidence:
    """Watch for a fall of accuracy below `accepted - tolerance`, however often one looks.

    A Shiryaev-Roberts e-detector (Shin, Ramdas and Rinaldo, 2022, "E-detectors"): for each
    possible start of a fall the likelihood ratio of a lower accuracy against the floor, summed
    over all starts, averaged over the drops. As the ratio falls with each correct answer, it is an
    e-process for every accuracy at or above the floor, also one that varies, so that the value
    reaches N no earlier than after N answers on average. Nothing is lost by looking after each.
    Between right and wrong the ratio is the line between the two: a bet on the mean of bounded
    values (Waudby-Smith and Ramdas, 2023), which is an e-process for the same reason.

    Assumes that each answer's chance of being correct, given all before, is at least the floor
    while there is no decay: true of a steady stream in any order, not of labels that arrive wrong
    ones first.

    Args:
        correct: (n,) whether each labelled answer was right, or its score in [0, 1], in the order
            of the answers.
        accepted: accuracy with which the version was accepted, in [0, 1].
        tolerance: fall that is tolerated, in accuracy points as a share.
        alpha: one minus the coverage of the interval since the change.
        drops: how far below the floor the alternatives lie.
    """
    answers: NDArray[Any] = np.asarray(correct).reshape(-1)
    is_binary = answers.dtype == bool
    n = len(answers)
    floor = min(accepted - tolerance, 1 - 1e-9)
    alternatives = np.array([floor - drop for drop in drops if floor - drop > 0])
    if not len(alternatives) and floor > 0:
        alternatives = np.array([floor / 2])
    accuracy = float(answers.mean()) if n else None
    bounds = anytime_interval(float(answers.sum()), n, alpha) if n else (None, None)
    if not n or not len(alternatives):
        return PerformanceEvidence(
            n, accuracy, floor, -math.inf, -math.inf, None, 0, None, None, None, *bounds
        )
    if_right = (alternatives / floor)[:, None]
    if_wrong = ((1 - alternatives) / (1 - floor))[:, None]
    if is_binary:
        growth = np.where(answers, np.log(if_right), np.log(if_wrong))
    else:
        growth = np.log(answers * if_right + (1 - answers) * if_wrong)
    sums = np.zeros((len(alternatives), n + 1))
    np.cumsum(growth, axis=1, out=sums[:, 1:])  # (k, n + 1)
    detector = sums[:, 1:] + np.logaddexp.accumulate(-sums[:, :-1], axis=1)  # (k, n)
    mixture = np.logaddexp.reduce(detector, axis=0) - math.log(len(alternatives))  # (n,)
    starts = np.argmin(sums[:, :-1], axis=1)  # where each alternative's CUSUM would begin
    rises = sums[:, -1] - sums[np.arange(len(alternatives)), starts]
    best = int(np.argmax(rises))
    found = float(rises[best]) > 0
    start = int(starts[best]) if found else n
    since = answers[start:]
    right = float(since.sum())
    # Any of n answers might have been the start: each such interval gets its part of alpha.
    interval = clopper_pearson if is_binary else mean_interval
    lower, upper = interval(right, len(since), alpha / n) if found else (None, None)
    return PerformanceEvidence(
        n=n,
        accuracy=accuracy,
        floor=floor,
        log_e_value=float(mixture[-1]),
        log_e_value_max=float(mixture.max()),
        changed_at=start if found else None,
        n_since=len(since),
        accuracy_since=right / len(since) if found else None,
        lower_since=lower,
        upper_since=upper,
        lower=bounds[0],
        upper=bounds[1],
    )


def confidence_sequence(
    correct: NDArray[np.bool_], alpha: float = 0.05
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return bounds (n,), (n,) of an accuracy that hold after every answer at once.

    Robbins' (1970) mixture of the Bernoulli likelihood over a uniform prior: by Ville's inequality
    the true accuracy ever leaves the bounds with probability at most `alpha`, whoever stops
    looking when. Assumes a steady accuracy; `watch_accuracy` asks whether it is.

    Args:
        correct: (n,) whether each labelled answer was right, in order.
        alpha: one minus the coverage, in (0, 1).
    """
    answers = np.asarray(correct, dtype=bool).reshape(-1)
    n = np.arange(1, len(answers) + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, len(answers) + 2)))])
    right = np.cumsum(answers)
    mixture = log_factorial[right] + log_factorial[n - right] - log_factorial[n + 1]  # (n,)
    return _bounds(right, n, mixture + math.log(alpha))


def anytime_interval(n_correct: float, n: int, alpha: float = 0.05) -> tuple[float, float]:
    """Return the newest bounds of a `confidence_sequence`, from counts alone.

    They hold of the mean of any scores in [0, 1]: the mixture of their geometric likelihoods lies
    below that of linear ones, by the inequality of means, and those are fair bets.

    Args:
        n_correct: right answers, or the sum of the scores.
        n: answers, at least one.
        alpha: one minus the coverage, in (0, 1).
    """
    log_mixture = math.lgamma(n_correct + 1) + math.lgamma(n - n_correct + 1) - math.lgamma(n + 2)
    limit = np.array([log_mixture + math.log(alpha)])
    lower, upper = _bounds(np.array([n_correct]), np.array([n]), limit)
    return float(lower[0]), float(upper[0])


def mean_interval(total: float, n: int, alpha: float) -> tuple[float, float]:
    """Return an interval of a mean from the sum of n independent scores in [0, 1].

    The means whose relative entropy to the observed one is at most log(2 / alpha) / n (Hoeffding,
    1963, theorem 1): it holds for any n, and is wider than that of a share.

    Args:
        total: sum of the scores.
        n: how many; with none the interval is (0, 1).
        alpha: one minus the coverage, in (0, 1).
    """
    if not n:
        return 0.0, 1.0
    mean = min(max(total / n, 0.0), 1.0)
    parts = [part * math.log(part) for part in (mean, 1 - mean) if part > 0]
    limit = np.array([n * math.fsum(parts) - math.log(2 / alpha)])
    lower, upper = _bounds(np.array([mean * n]), np.array([n]), limit)
    return float(lower[0]), float(upper[0])


def _bounds(
    right: NDArray[Any], n: NDArray[np.int64], limit: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the accuracies, (n,) and (n,), between which the log likelihood exceeds a limit."""
    wrong, mean = np.maximum(n - right, 0), right / n

    def likelihood(accuracy: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(divide="ignore", invalid="ignore"):
            if_right = np.where(right > 0, right * np.log(accuracy), 0.0)
            if_wrong = np.where(wrong > 0, wrong * np.log1p(-accuracy), 0.0)
        return np.asarray(if_right + if_wrong)

    def bound(outside: NDArray[np.float64]) -> NDArray[np.float64]:
        inside, far = mean.copy(), outside.copy()
        for _ in range(45):
            middle = (inside + far) / 2
            within = likelihood(middle) > limit
            inside, far = np.where(within, middle, inside), np.where(within, far, middle)
        return far

    lower = np.where(right == 0, 0.0, bound(np.zeros(len(n))))
    upper = np.where(wrong == 0, 1.0, bound(np.ones(len(n))))
    return lower, upper


def standard_error(accuracy: float, n: int) -> float:
    """Return the standard error of an accuracy measured on n rows, never quite 0.

    That of a share; of other scores in [0, 1] it is at most this.

    The rows count as two more, one of them wrong (Laplace), so that a perfect score on a handful
    is not taken for certainty.
    """
    share = (accuracy * n + 1) / (n + 2)
    return math.sqrt(share * (1 - share) / (n + 2))


def clopper_pearson(n_correct: float, n: int, alpha: float) -> tuple[float, float]:
    """Return the exact two-sided interval of a share (Clopper and Pearson, 1934).

    Args:
        n_correct: successes.
        n: trials; with none the interval is (0, 1).
        alpha: one minus the coverage, in (0, 1).
    """
    if not n:
        return 0.0, 1.0
    lower = _beta_quantile(alpha / 2, n_correct, n - n_correct + 1) if n_correct else 0.0
    upper = _beta_quantile(1 - alpha / 2, n_correct + 1, n - n_correct) if n_correct < n else 1.0
    return lower, upper


def _beta_quantile(probability: float, a: float, b: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if beta_distribution(middle, a, b) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def beta_distribution(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function by its continued fraction (Lentz)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_distribution(1 - x, b, a)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    tiny = 1e-300
    c, d = 1.0, 1 / max(abs(1 - (a + b) * x / (a + 1)), tiny)
    if 1 - (a + b) * x / (a + 1) < 0:
        d = -d
    fraction = d
    for i in range(1, 2000):
        for numerator in (
            i * (b - i) * x / ((a + 2 * i - 1) * (a + 2 * i)),
            -(a + i) * (a + b + i) * x / ((a + 2 * i) * (a + 2 * i + 1)),
        ):
            d = 1 + numerator * d
            c = 1 + numerator / c
            d = 1 / (d if abs(d) > tiny else tiny)
            c = c if abs(c) > tiny else tiny
            fraction *= c * d
        if abs(c * d - 1) < 1e-13:
            break
    return front * fraction / a
