"""The signals of rows, as the columns that detectors read."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.domain.observations import ContractField, FieldType, Observation
from app.services.batches import Columns as StoredRows
from app.services.windows import Window
from workers.jobs.champions import loaded
from workers.jobs.class_scores import SIGNAL, are_joint, is_unsaid, logged
from workers.jobs.fields import (
    PERIODS,
    Columns,
    Inputs,
    Times,
    bound_to_the_clock,
    field_columns,
)
from workers.task_types import task_types
from workers.training.task_type import HasColumns

OWN: Final = ("prediction", "confidence", "embedding", SIGNAL)
"""Signals of the champion's answers."""
_KEPT: Final = 8


@dataclass(frozen=True, slots=True)
class _Reference:
    """What is computed of a reference once: its signals, what they are fitted to, the classes."""

    columns: Columns
    state: Mapping[str, Any]
    labels: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Answer:
    """What is known of the champion's answer to a row: features (d,), scores (K,)."""

    features: NDArray[np.float32]
    confidence: float
    scores: NDArray[np.float64]


_references: OrderedDict[tuple[str, str, bool], _Reference] = OrderedDict()
_answers: OrderedDict[str, dict[int, _Answer]] = OrderedDict()


def reference_columns(window: Window) -> Columns:
    """Return the signals of the reference, by kind and name; they are computed once a process.

    A field that is called like another signal is `input.NAME`.
    """
    if not window.n_reference:
        return {}
    bound = _bound(window)
    return {
        kind: {name: values for name, values in found.items() if name not in bound}
        for kind, found in _reference(window).columns.items()
    }


def _bound(window: Window) -> frozenset[str]:
    """Return the signals that only tell the time; those a kept profile left out, where it is."""
    fields = window.model.contract.fields
    moments = [field.name for field in fields if field.type is FieldType.DATETIME]
    if not moments:
        return frozenset()
    if window.profile is not None:
        kept = {name.partition("/")[2] for name in window.profile.names}
        return frozenset(f"{name}.{part}" for name in moments for part in PERIODS) - kept
    rows, times = window.reference, [row.observed_at for row in window.reference]
    if any(times):
        return bound_to_the_clock(fields, [row.inputs for row in rows], times)
    return bound_to_the_clock(
        fields, [row.inputs for row in window.current], [row.at for row in window.current]
    )


def labels_of(window: Window) -> Sequence[str]:
    """Return the champion's classes, in the order of its scores."""
    return _reference(window).labels


def _reference(window: Window) -> _Reference:
    key = (window.champion.digest, str(window.champion.reference), _asks_of_texts(window))
    if key not in _references:
        inputs = [row.inputs for row in window.reference]
        state = task_types.get(window.model.task_type).fit_signals(_learned(window, inputs))
        times = [row.observed_at for row in window.reference]
        columns = _input_columns(window, inputs, times, state, of_reference=True)
        classifier = loaded(window.model, window.champion)
        scores, labels = classifier.scores(inputs), classifier.labels
        answers = [labels[index] for index in scores.argmax(axis=1)]
        columns["categorical"]["prediction"] = np.asarray(answers, dtype=object)
        columns["numeric"]["confidence"] = scores.max(axis=1).astype(np.float64)
        columns["embedding"]["embedding"] = _as_embedding(classifier.features(inputs))
        if are_joint(labels):
            columns["embedding"][SIGNAL] = _as_embedding(scores)
        _references[key] = _Reference(columns, state, labels)
        while len(_references) > _KEPT:
            _references.popitem(last=False)
    _references.move_to_end(key)
    return _references[key]


def sample_columns(window: Window) -> Columns:
    """Return all signals of the newest rows, in order of arrival, by kind and name."""
    rows = window.current
    if not window.n_reference or not rows:
        return {}
    inputs, times = [row.inputs for row in rows], [row.at for row in rows]
    columns = _input_columns(window, inputs, times, _reference(window).state)
    answers = _answered(window, rows)
    columns["categorical"]["prediction"] = np.asarray([r.prediction for r in rows], dtype=object)
    columns["numeric"]["confidence"] = np.array([answer.confidence for answer in answers])
    columns["embedding"]["embedding"] = _as_embedding(np.stack([a.features for a in answers]))
    if are_joint(labels_of(window)):
        columns["embedding"][SIGNAL] = np.stack([answer.scores for answer in answers])
    return columns


def _answered(window: Window, rows: Sequence[Observation]) -> list[_Answer]:
    """Return the champion's answers to rows; it is asked once about each.

    How sure it is is asked only where that was not logged, or not of every class.
    """
    version = window.champion.digest
    known = _answers.setdefault(version, {})
    _answers.move_to_end(version)
    new = [row for row in rows if row.sequence not in known]
    if new:
        classifier = loaded(window.model, window.champion)
        features = classifier.features([row.inputs for row in new])
        scores = np.stack([logged(row, classifier.labels) for row in new])
        asked = [place for place, row in enumerate(new) if is_unsaid(row, scores[place])]
        if asked:
            scores[asked] = classifier.scores([new[place].inputs for place in asked])
        for row, vector, own in zip(new, features, scores, strict=True):
            confidence = max(row.scores.values()) if row.scores else own.max()
            known[row.sequence] = _Answer(vector, float(confidence), own)
    found = [known[row.sequence] for row in rows]
    _answers[version] = {row.sequence: answer for row, answer in zip(rows, found, strict=True)}
    while len(_answers) > _KEPT:
        _answers.popitem(last=False)
    return found


def stored_columns(
    window: Window, rows: StoredRows, sample: Columns
) -> tuple[Columns, NDArray[np.bool_]]:
    """Return the signals of stored rows without the champion's features, in order of arrival.

    Args:
        window: whose rows they are.
        rows: some of its rows.
        sample: all signals of the newest rows, as `sample_columns` returns them.

    Returns:
        The columns by kind and name, and which rows' confidence nobody looked at, (n,): where no
        scores were logged, only the newest rows are shown to the champion.
    """
    times = [at.replace(tzinfo=UTC) for at in rows.observed_at.astype("datetime64[us]").tolist()]
    columns = _input_columns(window, _inputs_of(rows), times, _reference(window).state)
    columns["categorical"]["prediction"] = rows.predictions
    confidence = np.full(len(rows), np.nan)
    if rows.scores:
        confidence = np.fmax.reduce(list(rows.scores.values()))
    newest = np.array([row.sequence for row in window.current], dtype=np.int64)
    at = np.searchsorted(newest, rows.sequences).clip(max=max(len(newest) - 1, 0))
    is_sampled = newest[at] == rows.sequences
    confidence[is_sampled] = sample["numeric"]["confidence"][at[is_sampled]]
    columns["numeric"]["confidence"] = confidence
    return columns, np.isnan(confidence) & ~is_sampled


def _inputs_of(rows: StoredRows) -> list[dict[str, Any]]:
    """Return the inputs of each row by field, without those that are missing."""
    fields = {name: _values_of(values) for name, values in rows.inputs.items()}
    return [
        {name: values[place] for name, values in fields.items() if values[place] is not None}
        for place in range(len(rows))
    ]


def _values_of(values: NDArray[Any]) -> list[Any]:
    """Return the values of one field, None where missing."""
    if values.dtype.kind == "M":
        return [None if at is None else at.replace(tzinfo=UTC) for at in values.tolist()]
    if values.dtype == object:
        return list(values.tolist())
    gone = np.isnan(values).any(axis=1) if values.ndim == 2 else np.isnan(values)
    return [None if is_gone else v for v, is_gone in zip(values.tolist(), gone, strict=True)]


def _learned(window: Window, inputs: Inputs) -> list[dict[str, Any]]:
    """Return of each input the fields that the task type reads."""
    names = [field.name for field in read_fields(window)]
    return [{name: row[name] for name in names if name in row} for row in inputs]


def _asks_of_texts(window: Window) -> bool:
    """Return whether the policy has the text that the task type reads measured as it is, too."""
    return not window.policy.check.detectors.get("text", {}).keys() <= {"missing"}


def read_fields(window: Window) -> list[ContractField]:
    """Return the fields that the task type learns from."""
    task_type = task_types.get(window.model.task_type)
    kinds = {field["type"] for field in task_type.default_contract}
    if isinstance(task_type, HasColumns):
        kinds |= set(task_type.column_types)
    return [
        field
        for field in window.model.contract.fields
        if field.type in kinds and field.privacy is None
    ]


def _input_columns(
    window: Window,
    inputs: Inputs,
    times: Times,
    state: Mapping[str, Any],
    *,
    of_reference: bool = False,
) -> Columns:
    task_type = task_types.get(window.model.task_type)
    signals = task_type.signals(_learned(window, inputs), state, of_reference=of_reference)
    read = [] if _asks_of_texts(window) else read_fields(window)
    read = [field for field in read if field.type is FieldType.TEXT]
    others = [field for field in window.model.contract.fields if field not in read]
    columns = {
        kind: {
            f"input.{name}" if name in signals or name in OWN else name: values
            for name, values in found.items()
        }
        for kind, found in field_columns(others, inputs, times).items()
    }
    columns["numeric"] = {**signals, **columns["numeric"]}
    return columns


def _as_embedding(features: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(features, dtype=np.float64)
