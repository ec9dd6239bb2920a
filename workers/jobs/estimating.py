"""The champion's accuracy estimated from its confidence, and tested by the labels that came."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.calibration import Numbers
from app.domain.estimation import Estimate, EstimateState, after_labels, calibrated_on, over_window
from app.domain.observations import Observation
from app.domain.performance import mean_interval
from app.domain.slices import Slice, labels_by_slice, slices_of
from app.services.windows import Window
from workers.jobs.champions import loaded
from workers.jobs.fields import Columns
from workers.jobs.kinds import KINDS


def estimated(
    window: Window, reference: Columns, current: Columns, *, now: datetime
) -> Estimate | None:
    """Return what can be said of the champion's accuracy; None without rows to compare.

    Args:
        window: what the check compares.
        reference: the signals of its reference, by kind and name.
        current: the same of its current rows.
        now: the clock.
    """
    if not window.current:
        return window.estimate
    if not reference:
        return Estimate(EstimateState.INSUFFICIENT, "the champion has no reference rows")
    if window.model.answers_with is not None:
        return Estimate(
            EstimateState.NOT_ESTIMATED,
            f"{window.model.answer.plural} are not right or wrong as a whole: what they are worth "
            "is known from labels alone",
            reference=str(window.champion.reference),
            n_labels=(window.estimate.n_labels if window.estimate else 0) + len(window.labelled),
            through=window.labelled_through,
        )
    rules = window.policy.performance
    confidence = current["numeric"]["confidence"]
    estimate = window.estimate or calibrated_on(
        *_answers_to_reference(window, reference),
        reference=str(window.champion.reference),
        tolerance=rules.tolerance,
    )
    correct = np.asarray([row.prediction == row.label for row in window.labelled], dtype=bool)
    estimate = after_labels(
        estimate,
        _confidence_of(window, confidence),
        correct,
        through=window.labelled_through,
        run_length=rules.average_run_length,
        now=now,
    )
    known = [
        np.nan if row.label is None or row.prediction is None else row.prediction == row.label
        for row in window.current
    ]
    return over_window(
        estimate, confidence, np.asarray(known, dtype=np.float64), floor=window.floor
    )


def sliced(window: Window, reference: Columns) -> Sequence[Slice]:
    """Return where the declared slices stand after the labels that have just come."""
    fields = window.model.objective.slices
    answers_with = window.model.answers_with
    if not (fields and reference and window.current):
        return window.slices
    if answers_with is not None and not answers_with.is_scored:
        return window.slices
    slices = list(window.slices)
    if not slices:
        is_labelled, correct = _correct_of_reference(window, reference)
        rules = window.policy.performance
        slices = slices_of(
            fields,
            [window.reference[index].inputs for index in np.flatnonzero(is_labelled).tolist()],
            correct[is_labelled].tolist(),
            tolerance=rules.tolerance,
            allowance_errors=rules.allowance_errors,
        )
    inputs = [row.inputs for row in window.labelled]
    if answers_with is None:
        right = [row.prediction == row.label for row in window.labelled]
        return labels_by_slice(slices, fields, inputs, right)
    pairs = [(row.prediction or "", row.label or "") for row in window.labelled]
    scores = answers_with.scores([said for said, _ in pairs], [label for _, label in pairs])
    return labels_by_slice(slices, fields, inputs, scores.tolist(), interval=mean_interval)


def _answers_to_reference(window: Window, reference: Columns) -> tuple[Numbers, NDArray[np.bool_]]:
    """Return confidence and correctness of the champion's answers to its labelled reference."""
    is_labelled, correct = _correct_of_reference(window, reference)
    return reference["numeric"]["confidence"][is_labelled], correct[is_labelled]


def _correct_of_reference(
    window: Window, reference: Columns
) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """Return which reference rows (n,) have a label, and how right the champion is about each."""
    is_labelled = np.asarray([row.label != "" for row in window.reference], dtype=bool)
    model, kind = window.model, KINDS[window.model.answer.kind]
    scores = kind.scores_of_reference(model, window.champion, reference, window.reference)
    return is_labelled, scores


def _confidence_of(window: Window, confidence: Numbers) -> Numbers:
    """Return the confidence of each newly labelled row: measured, logged, else answered anew."""
    sequences = (row.sequence for row in window.current)
    known = dict(zip(sequences, confidence.tolist(), strict=True))
    found = np.asarray(
        [known.get(row.sequence, _logged(row)) for row in window.labelled], dtype=np.float64
    )
    missing = np.flatnonzero(np.isnan(found)).tolist()
    if len(missing):
        found[missing] = _answered(window, [window.labelled[index] for index in missing])
    return found


def _logged(row: Observation) -> float:
    return max(row.scores.values()) if row.scores else np.nan


def _answered(window: Window, rows: Sequence[Observation]) -> Numbers:
    classifier = loaded(window.model, window.champion)
    scores = classifier.scores([row.inputs for row in rows])
    return np.asarray(scores.max(axis=1), dtype=np.float64)
