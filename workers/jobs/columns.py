"""The signals of a window, as the columns that detectors read."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.domain.observations import FieldType
from app.services.drift import Window
from workers.jobs.champions import loaded
from workers.task_types import task_types

Columns = dict[str, dict[str, NDArray[Any]]]

_KEPT: Final = 8
_references: OrderedDict[tuple[str, str], tuple[Columns, Mapping[str, Any]]] = OrderedDict()


def columns_of(window: Window) -> tuple[Columns, Columns]:
    """Return the signals of the reference and of the current window, by kind and name."""
    if not window.reference:
        return {}, {}
    key = (window.champion.digest, str(window.champion.reference))
    if key not in _references:
        inputs = [row.inputs for row in window.reference]
        state = task_types.get(window.model.task_type).fit_signals(inputs)
        _references[key] = _input_columns(window, inputs, state), state
        _add_answers_of_champion(window, inputs, _references[key][0])
        while len(_references) > _KEPT:
            _references.popitem(last=False)
    reference, fitted = _references[key]
    inputs = [row.inputs for row in window.current]
    seen = _input_columns(window, inputs, fitted) if inputs else {}
    if inputs:
        _add_answers_logged(window, seen)
    return reference, seen


def _input_columns(
    window: Window, inputs: Sequence[Mapping[str, Any]], state: Mapping[str, Any]
) -> Columns:
    task_type = task_types.get(window.model.task_type)
    numeric: dict[str, NDArray[Any]] = dict(task_type.signals(inputs, state))
    categorical: dict[str, NDArray[Any]] = {}
    for field in window.model.contract.fields:
        values = [row.get(field.name) for row in inputs]
        if field.type is FieldType.NUMBER:
            numbers = [np.nan if value is None else float(value) for value in values]
            numeric[field.name] = np.asarray(numbers)
        elif field.type in {FieldType.CATEGORY, FieldType.BOOLEAN}:
            texts = [None if value is None else str(value) for value in values]
            categorical[field.name] = np.asarray(texts, dtype=object)
    classifier = loaded(window.model, window.champion)
    features = classifier.features(inputs)
    return {
        "numeric": numeric,
        "categorical": categorical,
        "embedding": {"embedding": np.asarray(features, dtype=np.float64)},
    }


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
