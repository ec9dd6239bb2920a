"""Has accuracy fallen, or have the inputs moved, for some of the rows alone?"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

import numpy as np

from app.domain.drift import DriftScore, judge_scores
from app.domain.performance import DROPS, clopper_pearson, standard_error

N_VALUES: Final = 20
"""Values of a field that are watched: the most frequent ones of the reference."""
MINIMUM_REFERENCE: Final = 30
"""Reference rows of a slice below which nobody knows what it was accepted with."""


class SliceFinding(StrEnum):
    """What the newest look concluded of the inputs of a slice."""

    DRIFT = "drift"
    NO_DRIFT = "no_drift"
    INSUFFICIENT_DATA = "insufficient_data"
    NOT_LOOKED_AT = "not_looked_at"


@dataclass(frozen=True, slots=True)
class SliceDrift:
    """How a slice's rows compare with the reference's rows of that slice, at the newest look.

    Attributes:
        n_reference, n_current: rows of the slice on either side.
        n_signals: signals tested.
        n_left_out: signals left out to bound the cost of a check.
        drifted: names of those that drifted.
        strongest: score of the signal that surely moved most; None where nothing was tested.
        last_sequence: arrival number of the newest row of that look.
    """

    finding: SliceFinding
    n_reference: int
    n_current: int
    n_signals: int = 0
    n_left_out: int = 0
    drifted: Sequence[str] = ()
    strongest: Mapping[str, Any] | None = None
    last_sequence: int = 0


@dataclass(frozen=True, slots=True)
class Slice:
    """What is known of the rows with one value of one field.

    Attributes:
        name: `field=value`.
        n_reference: labelled reference rows of the slice.
        accepted: accuracy among them; None where they are too few to tell.
        floor: the lowest accuracy of the slice that is no fall.
        n: its labelled answers since the champion took over.
        n_right: right ones among them, or the sum of their scores in [0, 1].
        lower, upper: bounds of its accuracy that hold for all slices together with a chance of
            95 %, as long as it is steady.
        values: its e-detector, a value for each of `DROPS`.
        log_e_value_max: natural logarithm of the largest mean of them; None before any.
        rises: the logarithm that each drop's evidence rose by since it was lowest.
        since: (answers, `n_right` of them) since then, for each drop.
        drift: what the newest look said of its inputs; None before any.
    """

    name: str
    n_reference: int
    accepted: float | None
    floor: float | None
    n: int = 0
    n_right: float = 0
    lower: float = 0.0
    upper: float = 1.0
    values: Sequence[float] = (0.0,) * len(DROPS)
    log_e_value_max: float | None = None
    rises: Sequence[float] = (0.0,) * len(DROPS)
    since: Sequence[Sequence[float]] = field(default=((0, 0),) * len(DROPS))
    drift: SliceDrift | None = None

    def has_fallen(self, run_length: float) -> bool:
        """Whether the alarm was reached that sounds once in so many answers, or less often."""
        return self.log_e_value_max is not None and self.log_e_value_max >= math.log(run_length)

    def in_words(self, measure: str = "accuracy") -> str:
        """Return what its labels say, with the numbers, by the name of the mean score."""
        n, right = max(zip(self.rises, self.since, strict=True))[1]
        recent = f", {right / n:.3f} over the last {n}" if n else ""
        evidence = math.exp(min(self.log_e_value_max or 0.0, 690.0))
        return (
            f"{measure} of {self.name} is {self.n_right / max(self.n, 1):.3f} over {self.n} "
            f"labelled answers{recent} (accepted {self.accepted or 0:.3f} on {self.n_reference}, "
            f"floor {self.floor or 0:.3f}, evidence of a fall at most {evidence:.3g})"
        )


def slices_of(
    fields: Sequence[str],
    inputs: Sequence[Mapping[str, Any]],
    correct: Sequence[float],
    *,
    tolerance: float,
    allowance_errors: float,
) -> list[Slice]:
    """Return the slices that a champion's reference knows, before any label.

    Args:
        fields: declared ones.
        inputs: of the labelled reference rows.
        correct: whether the champion is right about each, or the score of its answer in [0, 1].
        tolerance: fall that is tolerated, as a share.
        allowance_errors: standard errors of the slice's accepted score tolerated beyond.
    """
    found = []
    for name in fields:
        rows = Counter(name_of(name, row) for row in inputs)
        right: dict[str, float] = {}
        for row, hit in zip(inputs, correct, strict=True):
            right[name_of(name, row)] = right.get(name_of(name, row), 0) + hit
        for slice_name, n in rows.most_common(N_VALUES):
            accepted = right[slice_name] / n if n >= MINIMUM_REFERENCE else None
            floor = None
            if accepted is not None:
                floor = accepted - tolerance - allowance_errors * standard_error(accepted, n)
            found.append(Slice(slice_name, n, accepted, floor))
    return found


def name_of(field_name: str, inputs: Mapping[str, Any]) -> str:
    """Return the slice of a field that a row belongs to."""
    value = inputs.get(field_name)
    return f"{field_name}={'(missing)' if value is None else str(value)[:100]}"


def values_of(fields: Sequence[str], inputs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the slices that rows show, the `N_VALUES` most frequent of each field."""
    return [
        value
        for name in fields
        for value, _ in Counter(name_of(name, row) for row in inputs).most_common(N_VALUES)
    ]


def judged_together(
    found: Mapping[str, tuple[SliceDrift, Sequence[DriftScore]]], *, fdr: float
) -> dict[str, SliceDrift]:
    """Return what a look concluded of each slice: all signals of all slices are one family.

    Args:
        found: by name, what was compared and the scores of it.
        fdr: false discovery rate to hold over them all, in (0, 1).
    """
    judged = iter(judge_scores([one for _, scores in found.values() for one in scores], fdr=fdr))
    concluded = {}
    for name, (drift, raw) in found.items():
        scores = [next(judged) for _ in raw]
        tested = [score for score in scores if score.p_value is not None or score.drifted]
        drifted = tuple(score.feature for score in scores if score.drifted)
        finding = drift.finding
        if scores:
            finding = SliceFinding.DRIFT if drifted else SliceFinding.NO_DRIFT
        concluded[name] = replace(
            drift,
            finding=finding,
            n_signals=len(tested),
            drifted=drifted,
            strongest=_shown(min(tested, key=_surest_first)) if tested else None,
        )
    return concluded


def _surest_first(score: DriftScore) -> tuple[bool, float, float]:
    q_value = 1.0 if score.q_value is None else score.q_value
    return not score.drifted, q_value, -(score.effect or 0.0)


def _shown(score: DriftScore) -> dict[str, Any]:
    kept = ("feature", "kind", "detector", "p_value", "q_value", "effect", "threshold", "drifted")
    return {name: getattr(score, name) for name in kept}


def with_drift(slices: Sequence[Slice], found: Mapping[str, SliceDrift]) -> list[Slice]:
    """Return the slices with what a look said of them; those that no label shows come last."""
    known = {one.name for one in slices}
    return [
        *(replace(one, drift=found.get(one.name, one.drift)) for one in slices),
        *(Slice(name, 0, None, None, drift=drift) for name, drift in found.items()
          if name not in known),
    ]  # fmt: skip


def labels_by_slice(
    slices: Sequence[Slice],
    fields: Sequence[str],
    inputs: Sequence[Mapping[str, Any]],
    correct: Sequence[float],
    *,
    interval: Callable[[float, int, float], tuple[float, float]] = clopper_pearson,
) -> list[Slice]:
    """Return the slices after labels that have just come, in that order.

    Each slice has the e-detector of `performance.watch_accuracy` on its own labels. The slices of
    one field share out the labels, so the sum of their e-detectors grows by at most one a label
    while none has fallen: any of them reaches N no sooner than after N labels on average, however
    many there are. Of f fields, each is held to f times N.

    Args:
        slices: as they stood before.
        fields: declared ones.
        inputs: of the rows.
        correct: whether the champion is right about each, or the score of its answer in [0, 1].
        interval: bounds of a mean from a sum, a number of rows and one minus the coverage.
    """
    by_name = {one.name: one for one in slices}
    for name in fields:
        for row, right in zip(inputs, correct, strict=True):
            known = by_name.get(name_of(name, row))
            if known is not None:
                by_name[known.name] = _after(known, right=right)
    alpha = 0.05 / max(len(slices), 1)
    return [
        replace(one, lower=lower, upper=upper)
        for one in by_name.values()
        for lower, upper in [interval(one.n_right, one.n, alpha)]
    ]


def _after(one: Slice, *, right: float) -> Slice:
    counted = replace(one, n=one.n + 1, n_right=one.n_right + right)
    if one.floor is None or not 0 < one.floor < 1:
        return counted
    drops = np.asarray(DROPS)
    alternatives = np.where(drops < one.floor, one.floor - drops, one.floor / 2)
    if_right, if_wrong = alternatives / one.floor, (1 - alternatives) / (1 - one.floor)
    growth = right * if_right + (1 - right) * if_wrong
    values = np.minimum((np.asarray(one.values) + 1) * growth, 1e300)
    evidence, highest = math.log(values.mean()), one.log_e_value_max
    rises = np.asarray(one.rises) + np.log(growth)
    since = [
        [n + 1, hits + right] if rise > 0 else [0, 0]
        for rise, (n, hits) in zip(rises, one.since, strict=True)
    ]
    return replace(
        counted,
        values=values.tolist(),
        log_e_value_max=evidence if highest is None else max(highest, evidence),
        rises=np.maximum(rises, 0.0).tolist(),
        since=since,
    )


def fallen(slices: Sequence[Slice], run_length: float) -> list[Slice]:
    """Return the slices whose fall is proved, the surest first.

    Args:
        slices: of all fields.
        run_length: at most one false alarm of any slice in so many labels.
    """
    fields = {one.name.partition("=")[0] for one in slices}
    found = [one for one in slices if one.has_fallen(run_length * len(fields))]
    return sorted(found, key=lambda one: -(one.log_e_value_max or 0.0))
