"""How accurate is the champion where labels are few or none, and how sure is that?"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.domain.calibration import Calibration, Numbers, calibrated

MINIMUM_CALIBRATION: Final = 50
"""Labelled reference rows below which nothing is estimated."""
STAKES: Final = (0.15, 0.35, 0.6, 0.85)
BLOCK: Final = 50
"""Labels in which the bias moves as `MOVES` says."""
SPREADS: Final = np.array([0.0, 0.01, 0.04, 0.15])
MOVES: Final = np.array(
    [
        [0.98, 0.005, 0.005, 0.01],
        [0.01, 0.96, 0.01, 0.02],
        [0.005, 0.015, 0.96, 0.02],
        [0.4, 0.1, 0.45, 0.05],
    ]
)
_AT_FIRST: Final = (0.9, 0.05, 0.03, 0.02)
_STANDARD: Final = NormalDist()


class EstimateState(StrEnum):
    """What an estimate without labels is worth."""

    STANDS = "stands"
    WITHDRAWN = "withdrawn"
    INSUFFICIENT = "insufficient_data"
    NOT_ESTIMATED = "not_estimated"


@dataclass(frozen=True, slots=True)
class Bounded:
    """A share with its interval and what it rests on.

    Attributes:
        lower, upper: hold the accuracy of rows like the window's with a chance of 95 %.
        n_rows: rows of the window.
        n_labels: labels that it uses, of this window and before.
    """

    value: float
    lower: float
    upper: float
    n_rows: int
    n_labels: int = 0


@dataclass(frozen=True, slots=True)
class Bias:
    """How far labels lie above what was estimated, by how that may move: a mixture of normals.

    Attributes:
        weights, means, variances: one for each of still, slow, fast and jumping.
    """

    weights: tuple[float, ...] = _AT_FIRST
    means: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    variances: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)

    def seen(self, residuals: Numbers, noise: float) -> "Bias":
        """Return what is known after a block of labels.

        Interacting multiple models (Blom and Bar-Shalom, 1988): the bias stays, wanders or jumps;
        which of them, the labels say.

        Args:
            residuals: (n,) label minus chance, 1 to `BLOCK` of them.
            noise: least variance of one residual.
        """
        pace = len(residuals) / BLOCK
        moves = (1 - pace) * np.eye(len(SPREADS)) + pace * MOVES
        joint = moves * np.asarray(self.weights)[:, None]
        weights = joint.sum(axis=0)
        mixing = joint / weights
        before, spread = np.asarray(self.means)[:, None], np.asarray(self.variances)[:, None]
        means = (mixing * before).sum(axis=0)
        variances = (mixing * (spread + (before - means) ** 2)).sum(axis=0) + pace * SPREADS**2
        error = max(noise, float(residuals.var())) / len(residuals)
        surprise = float(residuals.mean()) - means
        evidence = -0.5 * (surprise**2 / (variances + error) + np.log(variances + error))
        weights = weights * np.exp(evidence - evidence.max())
        gain = variances / (variances + error)
        return Bias(
            tuple((weights / weights.sum()).tolist()),
            tuple((means + gain * surprise).tolist()),
            tuple(((1 - gain) * variances).tolist()),
        )

    def chance_below(self, limit: float, *, scale: float, variance: float) -> float:
        """Return the chance that `scale` times the bias, plus noise, is below a limit."""
        return math.fsum(
            weight * _STANDARD.cdf((limit - scale * mean) / math.sqrt(scale**2 * own + variance))
            for weight, mean, own in zip(self.weights, self.means, self.variances, strict=True)
        )

    @property
    def mean(self) -> float:
        """Return the bias to be expected."""
        return float(np.dot(self.weights, self.means))


@dataclass(frozen=True, slots=True)
class Estimate:
    """What can be said of a version's accuracy with few or no labels, after a check.

    Attributes:
        state: whether the estimate without labels may be read.
        reason: why it may not, with numbers; empty while it stands.
        since: when it was withdrawn.
        without_labels: mean calibrated confidence of the window; None where it may not be read.
        accuracy: the same, corrected by the labels that have come; None without a calibration.
        harm: chance that the window's accuracy is below the floor, from `accuracy`.
        calibration: how confidence becomes a chance; None where there was nothing to fit it on.
        reference: id of the rows that it was fitted on.
        n_labels: labels that have tested it.
        through: label number of the newest of them.
        tolerance: difference of labels and estimate that is no contradiction.
        wealth: the two-sided e-detector of label minus estimate, a value for each stake.
        peak: the largest mean value that it reached.
        bias: what the labels correct the estimate by.
    """

    state: EstimateState
    reason: str = ""
    since: datetime | None = None
    without_labels: Bounded | None = None
    accuracy: Bounded | None = None
    harm: float | None = None
    calibration: Calibration | None = None
    reference: str | None = None
    n_labels: int = 0
    through: int = 0
    tolerance: float = 0.0
    wealth: tuple[float, ...] = (0.0,) * (2 * len(STAKES))
    peak: float = 0.0
    bias: Bias = field(default_factory=Bias)

    @property
    def stands(self) -> bool:
        """Whether no label has contradicted it beyond doubt."""
        return self.state is EstimateState.STANDS


def calibrated_on(
    confidence: Numbers, correct: NDArray[np.bool_], *, reference: str, tolerance: float
) -> Estimate:
    """Return the estimate of a version that no label has tested yet.

    Args:
        confidence: (n,) of the version's answers to labelled rows it has not learned from.
        correct: (n,) whether these were right.
        reference: id of those rows.
        tolerance: difference of labels and estimate that is no contradiction, as a share; what the
            rows leave open is added.
    """
    known = ~np.isnan(confidence)
    n = int(known.sum())
    if n < MINIMUM_CALIBRATION:
        reason = f"{n} labelled reference rows of the {MINIMUM_CALIBRATION} that calibration needs"
        return Estimate(EstimateState.INSUFFICIENT, reason, reference=reference)
    fitted = calibrated(confidence[known], correct[known])
    share = (fitted.accuracy * n + 1) / (n + 2)
    variance = share * (1 - share) / n
    return Estimate(
        EstimateState.STANDS,
        calibration=fitted,
        reference=reference,
        tolerance=tolerance + math.sqrt(variance),
        bias=Bias(variances=(variance,) * len(SPREADS)),
    )


def after_labels(
    estimate: Estimate,
    confidence: Numbers,
    correct: NDArray[np.bool_],
    *,
    through: int,
    run_length: float,
    now: datetime,
) -> Estimate:
    """Hold the estimate against labels that have just come; withdraw it when they contradict it.

    Two-sided Shiryaev-Roberts e-detector (Shin, Ramdas and Rinaldo, 2022) betting on label minus
    chance with fixed stakes. While the mean of that difference, given all before, is within the
    tolerance, it reaches `run_length` no sooner than after so many labels on average, however
    often one looks. A withdrawn estimate stays withdrawn: only another calibration is another
    claim.

    Args:
        estimate: what stood before.
        confidence: (n,) of the answers, in the order in which their labels came.
        correct: (n,) whether they were right.
        through: label number of the newest.
        run_length: at most one wrong withdrawal in so many labels.
        now: the clock.
    """
    if estimate.calibration is None or not len(confidence):
        return replace(estimate, through=through)
    chances = estimate.calibration.chance(confidence)
    residuals = np.asarray(correct, dtype=np.float64) - chances
    bias = estimate.bias
    noise = float((chances * (1 - chances)).mean())
    for block in np.array_split(residuals, math.ceil(len(residuals) / BLOCK)):
        bias = bias.seen(block, max(noise, 1e-3))
    wealth, peak = _bet(estimate, residuals)
    found = replace(
        estimate,
        n_labels=estimate.n_labels + len(residuals),
        through=through,
        wealth=tuple(wealth.tolist()),
        peak=max(estimate.peak, peak),
        bias=bias,
    )
    if not estimate.stands or found.peak < run_length:
        return found
    side = "less" if wealth[: len(STAKES)].sum() > wealth[len(STAKES) :].sum() else "more"
    reason = (
        f"labels contradict it: answers are right {side} often than their confidence promised, by "
        f"about {abs(bias.mean):.3f} (tolerated {estimate.tolerance:.3f}, {found.n_labels} labels, "
        f"evidence {found.peak:.3g} of {run_length:.3g})"
    )
    return replace(found, state=EstimateState.WITHDRAWN, reason=reason, since=now)


def _bet(estimate: Estimate, residuals: Numbers) -> tuple[Numbers, float]:
    """Return the e-detector's values after these labels, and its largest mean on the way."""
    slack, stakes = estimate.tolerance, np.asarray(STAKES) / (1 + estimate.tolerance)
    fewer = 1 - stakes * (residuals[:, None] + slack)
    more = 1 + stakes * (residuals[:, None] - slack)
    wealth, peak = np.asarray(estimate.wealth), 0.0
    for growth in np.concatenate([fewer, more], axis=1):  # (2k,) a label
        wealth = np.minimum((wealth + 1) * growth, 1e15)
        peak = max(peak, float(wealth.mean()))
    return wealth, peak


def over_window(
    estimate: Estimate, confidence: Numbers, correct: Numbers, *, floor: float | None
) -> Estimate:
    """Say what a window's accuracy is: labels where there are any, the estimate elsewhere.

    Prediction-powered (Angelopoulos et al., 2023): rows without label count with their calibrated
    chance plus the bias that labels show, whichever window those belong to; labelled rows count as
    they are, and are a sample all the same: that all rows of a window are labelled proves little
    where they are few. The interval takes the bias as normal given how it moves: an approximation,
    while the test of the estimate is exact.

    Args:
        estimate: after all labels so far.
        confidence: (n,) of the window's answers; NaN where unknown.
        correct: (n,) 1 for right, 0 for wrong, NaN without label.
        floor: the lowest accuracy not called harm; None where none is known.
    """
    if estimate.calibration is None or not len(confidence):
        return replace(estimate, without_labels=None, accuracy=None, harm=None)
    n, chances = len(confidence), estimate.calibration.chance(confidence)
    is_open = np.isnan(correct)
    alone = float(chances.mean())
    error = (
        estimate.calibration.variance(confidence) + float((chances * (1 - chances)).sum()) / n**2
    )
    spread = _STANDARD.inv_cdf(0.975) * math.sqrt(error)
    scale = float(is_open.mean())
    base = float(np.where(is_open, chances, correct).sum()) / n
    likely = np.clip(chances[is_open] + estimate.bias.mean, 0.02, 0.98)
    labelled = correct[~is_open]
    share = (float(labelled.sum()) + 1) / (len(labelled) + 2)
    spread_of_labelled = len(labelled) * share * (1 - share)
    noise = (float((likely * (1 - likely)).sum()) + spread_of_labelled) / n**2

    def chance_below(accuracy: float) -> float:
        return estimate.bias.chance_below(accuracy - base, scale=scale, variance=noise)

    return replace(
        estimate,
        without_labels=Bounded(alone, max(alone - spread, 0.0), min(alone + spread, 1.0), n)
        if estimate.stands
        else None,
        accuracy=Bounded(
            min(max(base + scale * estimate.bias.mean, 0.0), 1.0),
            _quantile(chance_below, 0.025),
            _quantile(chance_below, 0.975),
            n,
            estimate.n_labels,
        ),
        harm=None if floor is None else chance_below(floor),
    )


def _quantile(chance_below: Callable[[float], float], probability: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if chance_below(middle) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2
