"""How long do labels take to come, and what share of the answers ever gets one?"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.domain.performance import clopper_pearson

_UNITS: Final = (("d", 86_400.0), ("h", 3600.0), ("min", 60.0))


@dataclass(frozen=True, slots=True)
class LabelLag:
    """How long labels take, in seconds from an observation's time to its first label's arrival.

    Attributes:
        n: observations looked at.
        n_labelled: of them, those with a label.
        p50_seconds: half of the labels that come have come by then; None without labels.
        p95_seconds: the same for 95 of 100.
        is_settled: whether rows were followed for long enough to tell that the labels still
            missing will not come; until then either number may be too small.
        n_due: observations old enough to expect a label: at least `p95_seconds` old.
        n_due_labelled: of them, those with a label.
        coverage: the latter as a share of the former; None while nothing is due.
        coverage_lower, coverage_upper: its exact 95 % interval.
        version: whose answers these are; None for the model's, whichever version answered.
    """

    n: int
    n_labelled: int
    p50_seconds: float | None = None
    p95_seconds: float | None = None
    is_settled: bool = False
    n_due: int = 0
    n_due_labelled: int = 0
    coverage: float | None = None
    coverage_lower: float | None = None
    coverage_upper: float | None = None
    version: int | None = None


def kaplan_meier(
    seconds: NDArray[np.float64], came: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return times (k,), ascending, and the share of labels that have come by each, (k,).

    The product-limit estimate (Kaplan and Meier, 1958). A row whose label has not come tells only
    that it takes longer than the row is old; leaving such rows out, or counting them as old as
    they are, makes labels look quicker than they are. Assumes that how old a row is when one looks
    says nothing of how long its label takes.

    Args:
        seconds: (n,) until the label came, or until now where it has not.
        came: (n,) whether it has.
    """
    times, place = np.unique(seconds, return_inverse=True)
    n_leaving = np.bincount(place, minlength=len(times))
    n_came = np.bincount(place, weights=came, minlength=len(times))
    n_at_risk = len(seconds) - np.cumsum(n_leaving) + n_leaving
    return times, 1 - np.cumprod(1 - n_came / np.maximum(n_at_risk, 1))


def measure_lag(
    ages: NDArray[np.float64], lags: NDArray[np.float64], *, version: int | None = None
) -> LabelLag:
    """Measure how long labels take, from rows of which some still wait.

    Not every row gets a label ever. That those still missing will not come is concluded when at
    most one label in 20 came in the later half of the time that rows were followed for. Until then
    every row counts as one whose label will come; a quantile that too few labels have reached for
    that is the quantile of the labels so far, which is at most the true one.

    Args:
        ages: (n,) seconds since each observation's time.
        lags: (n,) seconds from there to its first label's arrival; NaN where none has come.
        version: whose answers they are, to be noted.
    """
    came = ~np.isnan(lags)
    n, n_labelled = len(ages), int(came.sum())
    if not n_labelled:
        return LabelLag(n, 0, version=version)
    seconds = np.maximum(np.where(came, lags, ages), 0.0)
    times, share = kaplan_meier(seconds, came)
    followed = np.partition(ages, n - _n_oldest(n))[n - _n_oldest(n)]
    by_half, by_end = (_share_by(end, times, share) for end in (followed / 2, followed))
    is_settled = bool(came.all() or by_half >= 0.95 * by_end > 0)
    p50, p95 = (
        times[np.argmax(share >= level - 1e-9)]
        for part in (0.5, 0.95)
        for level in [part if part <= share[-1] and not is_settled else part * share[-1]]
    )
    due = ages >= p95
    n_due, n_due_labelled = int(due.sum()), int((due & came).sum())
    lower, upper = clopper_pearson(n_due_labelled, n_due, 0.05) if n_due else (None, None)
    return LabelLag(
        n=n,
        n_labelled=n_labelled,
        p50_seconds=float(p50),
        p95_seconds=float(p95),
        is_settled=is_settled,
        n_due=n_due,
        n_due_labelled=n_due_labelled,
        coverage=n_due_labelled / n_due if n_due else None,
        coverage_lower=lower,
        coverage_upper=upper,
        version=version,
    )


def _n_oldest(n: int) -> int:
    """Return how many rows must have been followed for as long as is relied on."""
    return max(1, min(10, n // 20))


def _share_by(end: float, times: NDArray[np.float64], share: NDArray[np.float64]) -> float:
    index = int(np.searchsorted(times, end, side="right"))
    return float(share[index - 1]) if index else 0.0


def lag_in_words(lag: LabelLag | None) -> str:
    """Return when labels usually come, with the numbers."""
    if lag is None or lag.p50_seconds is None or lag.p95_seconds is None:
        return "how long labels take is not known yet"
    half, most = lasting(lag.p50_seconds), lasting(lag.p95_seconds)
    if lag.is_settled:
        return f"half of the labels come within {half}, 95 % within {most}"
    return f"of the labels so far half came within {half}, 95 % within {most}; others may be slower"


def coverage_in_words(lag: LabelLag | None) -> str:
    """Return what share of the answers the labels speak for, with the numbers."""
    if lag is None or not lag.n_due:
        return "what share of the answers gets a label is not known yet"
    return f"{lag.n_due_labelled} of {lag.n_due} answers old enough have a label"


def lasting(seconds: float) -> str:
    """Return a duration in the one unit that fits."""
    for unit, length in _UNITS:
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"
