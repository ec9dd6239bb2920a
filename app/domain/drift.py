"""Has what the champion sees moved away from what it was accepted on?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np


class Finding(StrEnum):
    """What a drift report concludes."""

    FAULT = "fault"
    DRIFT = "drift"
    NO_DRIFT = "no_drift"
    INSUFFICIENT_DATA = "insufficient_data"


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one detector measured: a larger statistic means further apart.

    Attributes:
        statistic: the detector's own number.
        p_value: chance of a statistic this large with no drift; None where the method has none.
        effect: size of the shift in [0, 1], comparable over sample sizes; None where undefined.
        detail: what else helps a reader (JSON values only); `kind` says what moved where the
            detector can see more than one thing.
        tolerated: the effect from which this shift matters, where it depends on what moved.
    """

    statistic: float
    p_value: float | None
    effect: float | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    tolerated: float | None = None


@dataclass(frozen=True, slots=True)
class DriftScore:
    """One feature's measurement in a report, corrected together with the others.

    Attributes:
        feature: the signal's name, such as `brightness` or `prediction`.
        kind: what moved, such as `location`, `missing`, `new_category`, `embedding`.
        detector: the detector's registered name.
        threshold: the effect tolerated; with `q_value` at most the report's fdr it makes `drifted`.
    """

    feature: str
    kind: str
    detector: str
    statistic: float
    p_value: float | None
    n_reference: int
    n_current: int
    q_value: float | None = None
    effect: float | None = None
    threshold: float | None = None
    drifted: bool = False
    detail: Mapping[str, Any] = field(default_factory=dict)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Return the q-value of each p-value: the smallest false discovery rate that rejects it.

    The step-up procedure of Benjamini and Hochberg (1995); holds for independent and positively
    dependent scores.

    Args:
        p_values: one for each feature, in [0, 1].
    """
    p = np.asarray(p_values, dtype=float)
    n = len(p)
    if n == 0:
        return []
    order = np.argsort(p)
    scaled = p[order] * n / np.arange(1, n + 1)
    stepped = np.minimum.accumulate(scaled[::-1])[::-1]
    q = np.empty(n)
    q[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in q]


def judge_scores(scores: Sequence[DriftScore], *, fdr: float) -> list[DriftScore]:
    """Return the scores with q-values, each marked drifted or not.

    A feature drifted when its q-value is at most `fdr` and its effect exceeds what is tolerated,
    so that ten times the rows of the same distribution do not flip the verdict. A score without a
    p-value (a distance with a threshold of the user's) is judged by that threshold alone.

    Args:
        scores: one for each feature, uncorrected.
        fdr: false discovery rate to hold over the features, in (0, 1).
    """
    tested = [i for i, score in enumerate(scores) if score.p_value is not None]
    # A tolerated effect enters the correction as no discovery: small but sure shifts must not lend
    # their certainty to the other signals.
    p_values = [scores[i].p_value or 0.0 if _is_material(scores[i]) else 1.0 for i in tested]
    q_values = dict(zip(tested, benjamini_hochberg(p_values), strict=True))
    return [
        replace(score, q_value=q, drifted=_is_material(score) and q <= fdr)
        if (q := q_values.get(i)) is not None
        else replace(score, drifted=score.threshold is not None and _is_material(score))
        for i, score in enumerate(scores)
    ]


def _is_material(score: DriftScore) -> bool:
    return score.threshold is None or (score.effect or 0.0) >= score.threshold


@dataclass(frozen=True, slots=True)
class Watch:
    """Where the watch of one version stands after a report; the next one goes on from here.

    Attributes:
        columns: names of the columns that bets run on.
        values: (c, k) their e-detectors, as `sequential.Wealth` keeps them.
        n_rows: rows that they have seen since the version took over or its reference changed.
        through: arrival number of the newest of them.
        value: the largest model-level e-value that this report's rows reached.
        limit: the value that is an alarm.
        leading: column to e-value, the largest few.
        alarmed_at: arrival number at the last alarm; None before any.
        looked_through: arrival number of the newest row when window tests were last entitled to a
            finding.
        level: false discovery rate of that look.
        stood: whether the last report found drift.
        began_after: arrival number of the last row looked at before the drift that stands was
            found; None while none stands.
        tolerance: distance from the reference that the bets are charged for, calibrated on the
            reference itself.
        season: the bets hold each row against the reference rows of its own.
        n_unlooked: rows that came since window tests were last entitled to a finding.
    """

    columns: Sequence[str] = ()
    values: Sequence[Sequence[float]] = ()
    n_rows: int = 0
    through: int = 0
    value: float = 0.0
    limit: float = 0.0
    leading: Mapping[str, float] = field(default_factory=dict)
    alarmed_at: int | None = None
    looked_through: int = 0
    level: float = 0.0
    stood: bool = False
    began_after: int | None = None
    tolerance: float = 0.0
    season: str = "none"
    n_unlooked: int = 0

    @property
    def leader(self) -> str | None:
        """The column with the most evidence; None before any row."""
        return max(self.leading, key=self.leading.__getitem__, default=None)


def next_look(
    last: Watch, *, n_fresh: int, minimum_rows: int, fdr: float, false_alarm_rows: float
) -> tuple[float, bool]:
    """Return the false discovery rate that a window may be judged at, and whether this is a look.

    Each look may raise a false alarm with a chance of at most its fresh rows over twice
    `false_alarm_rows`: the expected number of false alarms in N rows is then at most half of
    N / `false_alarm_rows`, whatever the rhythm of checks and however windows overlap (the other
    half belongs to the e-detectors). Between looks the same evidence gives the same answer, and a
    finding that stands is not a new one.

    Args:
        last: where the watch stood.
        n_fresh: rows of the window that came after the last look.
        minimum_rows: fewer fresh rows are no look.
        fdr: the most that a look may have.
        false_alarm_rows: at most one false alarm in so many rows.
    """
    if n_fresh >= minimum_rows:
        level = min(fdr, n_fresh / (2 * false_alarm_rows))
        return (max(level, last.level) if last.stood else level), True
    return (last.level if last.stood or not n_fresh else 0.0), False


def after_look(
    last: Watch, watch: Watch, *, level: float, looked_through: int, drifted: bool
) -> Watch:
    """Return the watch with what a report's look was entitled to, and what its finding makes of it.

    Args:
        last: where the watch stood before the report.
        watch: the same with the bets of this report's rows.
        level: false discovery rate that its window was judged at.
        looked_through: arrival number of the newest row of the last look, this one included.
        drifted: whether the report finds drift.
    """
    began = last.began_after if last.stood else last.looked_through
    return replace(
        watch,
        level=level,
        looked_through=looked_through,
        stood=drifted,
        began_after=began if drifted else None,
        n_unlooked=0 if looked_through != last.looked_through else watch.n_unlooked,
    )


def finding_of(
    scores: Sequence[DriftScore], *, n_current: int, minimum_rows: int, is_faulty: bool = False
) -> Finding:
    """Conclude a report from its judged scores; what is broken upstream is not judged for drift."""
    if is_faulty:
        return Finding.FAULT
    if n_current < minimum_rows or not scores:
        return Finding.INSUFFICIENT_DATA
    return Finding.DRIFT if any(score.drifted for score in scores) else Finding.NO_DRIFT
