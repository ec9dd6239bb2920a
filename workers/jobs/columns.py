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
from workers.jobs.answering import Answered
from workers.jobs.champions import loaded
from workers.jobs.class_scores import SIGNAL
from workers.jobs.fields import (
    PERIODS,
    Columns,
    Inputs,
    Times,
    bound_to_the_clock,
    field_columns,
)
from workers.jobs.kinds import kind_of
from workers.task_types import task_types
from workers.training.task_type import HasColumns

OWN: Final = (
    "prediction",
    "n_spans",
    "span_share",
    "main_label",
    "confidence",
    "embedding",
    SIGNAL,
)
"""Signals of the champion's answers."""
_KEPT: Final = 8


@dataclass(frozen=True, slots=True)
class _Reference:
    """What is computed of a reference once: its signals, what they are fitted to, the classes."""

    columns: Columns
    state: Mapping[str, Any]
    labels: Sequence[str]


_references: OrderedDict[tuple[str, str, bool], _Reference] = OrderedDict()
_answers: OrderedDict[str, dict[int, Answered]] = OrderedDict()


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
    """Return the champion's classes, in the order of its scores; none where it has none."""
    return _reference(window).labels


def _reference(window: Window) -> _Reference:
    key = (window.champion.digest, str(window.champion.reference), _asks_of_texts(window))
    if key not in _references:
        inputs = [row.inputs for row in window.reference]
        state = task_types.get(window.model.task_type).fit_signals(_learned(window, inputs))
        times = [row.observed_at for row in window.reference]
        columns = _input_columns(window, inputs, times, state, of_reference=True)
        kind, version = kind_of(window.model), loaded(window.model, window.champion)
        columns = _joined(columns, kind.of_reference(window.model, version, inputs))
        _references[key] = _Reference(columns, state, kind.classes(version))
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
    kind, answered = kind_of(window.model), _answered(window, rows)
    own = kind.of_rows(window.model, rows, answered, labels_of(window))
    return _joined(columns, own)


def _answered(window: Window, rows: Sequence[Observation]) -> list[Answered]:
    """Return what the champion says of rows; it is asked once about each."""
    version = window.champion.digest
    known = _answers.setdefault(version, {})
    _answers.move_to_end(version)
    new = [row for row in rows if row.sequence not in known]
    if new:
        champion = loaded(window.model, window.champion)
        for row, said in zip(new, kind_of(window.model).asked(champion, new), strict=True):
            known[row.sequence] = said
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
    newest = np.array([row.sequence for row in window.current], dtype=np.int64)
    at = np.searchsorted(newest, rows.sequences).clip(max=max(len(newest) - 1, 0))
    sampled = np.where(newest[at] == rows.sequences, at, -1)
    own, unread = kind_of(window.model).of_stored(window.model, rows, sampled, sample)
    return _joined(columns, own), unread


def _joined(columns: Columns, own: Columns) -> Columns:
    """Return the signals of inputs with those of answers."""
    kinds = dict.fromkeys([*columns, *own])
    return {kind: {**columns.get(kind, {}), **own.get(kind, {})} for kind in kinds}


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
