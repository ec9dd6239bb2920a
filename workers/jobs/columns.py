"""The signals of a window, as the columns that detectors read."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from app.domain.observations import ContractField, FieldType
from app.services.drift import Window
from workers.jobs.champions import loaded
from workers.jobs.fields import Columns, Inputs, Times, bound_to_the_clock, field_columns
from workers.task_types import task_types

OWN: Final = ("prediction", "confidence", "embedding")
"""Signals of the champion's answers."""
_KEPT: Final = 8
_references: OrderedDict[tuple[str, str, bool], tuple[Columns, Mapping[str, Any]]] = OrderedDict()


def columns_of(window: Window) -> tuple[Columns, Columns]:
    """Return the signals of the reference and of the current window, by kind and name.

    A field that is called like another signal is `input.NAME`.
    """
    if not window.reference:
        return {}, {}
    fields = window.model.contract.fields
    then = [row.observed_at for row in window.reference]
    key = (window.champion.digest, str(window.champion.reference), _asks_of_texts(window))
    if key not in _references:
        inputs = [row.inputs for row in window.reference]
        learned = _learned(window, inputs)
        state = task_types.get(window.model.task_type).fit_signals(learned)
        columns = _input_columns(window, inputs, then, state, of_reference=True)
        _references[key] = columns, state
        _add_answers_of_champion(window, inputs, _references[key][0])
        while len(_references) > _KEPT:
            _references.popitem(last=False)
    reference, fitted = _references[key]
    inputs, now = [row.inputs for row in window.current], [row.at for row in window.current]
    seen = _input_columns(window, inputs, now, fitted) if inputs else {}
    if inputs:
        _add_answers_logged(window, seen)
    if any(then):
        bound = bound_to_the_clock(fields, [row.inputs for row in window.reference], then)
    else:
        bound = bound_to_the_clock(fields, inputs, now)
    return _without(bound, reference), _without(bound, seen)


def _without(names: frozenset[str], columns: Columns) -> Columns:
    return {
        kind: {name: values for name, values in found.items() if name not in names}
        for kind, found in columns.items()
    }


def _learned(window: Window, inputs: Inputs) -> list[dict[str, Any]]:
    """Return of each input the fields that the task type reads."""
    names = [field.name for field in _read_fields(window)]
    return [{name: row[name] for name in names if name in row} for row in inputs]


def _asks_of_texts(window: Window) -> bool:
    """Return whether the policy has the text that the task type reads measured as it is, too."""
    return not window.policy.check.detectors.get("text", {}).keys() <= {"missing"}


def _read_fields(window: Window) -> list[ContractField]:
    contract = task_types.get(window.model.task_type).default_contract
    kinds = {field["type"] for field in contract}
    return [field for field in window.model.contract.fields if field.type in kinds]


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
    read = [] if _asks_of_texts(window) else _read_fields(window)
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
    features = loaded(window.model, window.champion).features(inputs)
    columns["embedding"]["embedding"] = np.asarray(features, dtype=np.float64)
    return columns


def _add_answers_of_champion(
    window: Window, inputs: Sequence[Mapping[str, Any]], columns: Columns
) -> None:
    classifier = loaded(window.model, window.champion)
    scores = classifier.scores(inputs)
    answers = [classifier.labels[index] for index in scores.argmax(axis=1)]
    columns["categorical"]["prediction"] = np.asarray(answers, dtype=object)
    columns["numeric"]["confidence"] = scores.max(axis=1).astype(np.float64)


def _add_answers_logged(window: Window, columns: Columns) -> None:
    answers = [row.prediction for row in window.current]
    columns["categorical"]["prediction"] = np.asarray(answers, dtype=object)
    if any(row.scores for row in window.current):
        confidence = [max(row.scores.values()) if row.scores else np.nan for row in window.current]
        columns["numeric"]["confidence"] = np.asarray(confidence, dtype=np.float64)
    else:
        classifier = loaded(window.model, window.champion)
        scores = classifier.scores([row.inputs for row in window.current])
        columns["numeric"]["confidence"] = scores.max(axis=1).astype(np.float64)
