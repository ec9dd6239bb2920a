"""Has what the champion sees moved away from what it was accepted on?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np


class Finding(StrEnum):
    """What a drift report concludes."""

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
        detail: what else helps a reader (JSON values only).
    """

    statistic: float
    p_value: float | None
    effect: float | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


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
    tested = [score for score in scores if score.p_value is not None]
    q_values = dict(
        zip(
            (score.feature for score in tested),
            benjamini_hochberg([score.p_value or 0.0 for score in tested]),
            strict=True,
        )
    )
    judged = []
    for score in scores:
        q = q_values.get(score.feature)
        large = score.threshold is None or (score.effect or 0.0) >= score.threshold
        judged.append(replace(score, q_value=q, drifted=large and (q is None or q <= fdr)))
    return judged


def finding_of(scores: Sequence[DriftScore], *, n_current: int, minimum_rows: int) -> Finding:
    """Conclude a report from its judged scores."""
    if n_current < minimum_rows or not scores:
        return Finding.INSUFFICIENT_DATA
    return Finding.DRIFT if any(score.drifted for score in scores) else Finding.NO_DRIFT
