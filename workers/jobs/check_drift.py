"""The job that measures one window against its reference."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import numpy as np
import structlog
from celery import shared_task
from numpy.typing import NDArray

from app.domain.errors import StaleVerdict, UpkeepError
from app.domain.observations import FieldType
from app.services import drift
from app.services.drift import Window
from app.services.training import problem
from workers.detectors import Kind, Selection
from workers.detectors.evidently_report import build_report
from workers.detectors.measure import measure_window
from workers.jobs.champions import loaded
from workers.jobs.context import current, kept_alive, now
from workers.statistics.watching import watch_window
from workers.task_types import task_types

log = structlog.get_logger()

Columns = dict[str, dict[str, NDArray[Any]]]

NEVER: Final = 1e-300  # a level at which nothing is found
_KEPT: Final = 8
_references: OrderedDict[tuple[str, str], tuple[Columns, Mapping[str, Any]]] = OrderedDict()


@shared_task(name="upkeep.check_drift")
def check_drift(check_id: str) -> None:
    """Measure, report, decide."""
    context = current()
    work = context.open_work()
    begun = drift.begin(
        work,
        context.artifacts,
        UUID(check_id),
        owner=context.owner,
        seconds=context.lease_seconds,
    )
    if begun is None:
        return
    lease, window = begun
    with kept_alive(lambda other: other.checks.renew(lease, seconds=context.lease_seconds)):
        try:
            reference, current_columns = columns_of(window)
            scores = measure_window(
                reference,
                current_columns,
                selected(window.policy.check.detectors),
                fdr=max(window.look()[0], NEVER),
                seed=window.through[0] % 2**31,
                minimum_rows=window.policy.check.minimum_rows,
            )
            watch = watch_window(
                reference,
                current_columns,
                window.watch,
                sequences=[row.sequence for row in window.current],
                false_alarm_rows=window.policy.check.false_alarm_rows,
            )
            html, body = build_report(reference, current_columns, scores)
        except UpkeepError as error:
            log.warning("drift_check.failed", check_id=check_id, detail=str(error))
            drift.fail(work, lease, window, problem("check-failed", str(error)))
            return
        except Exception as error:  # a check must end, and the worker must outlive it
            log.exception("drift_check.failed", check_id=check_id)
            drift.fail(work, lease, window, problem("check-failed", repr(error)))
            return
        try:
            report_id, decision_id = drift.finish(
                work, lease, window, scores, watch, html=html, evidently=body, now=now()
            )
        except StaleVerdict as error:  # its rows stay unchecked, so that they are looked at again
            drift.fail(work, lease, None, problem("stale-verdict", str(error)))
            return
    log.info("drift_check.completed", report_id=str(report_id), decision_id=str(decision_id))


def selected(
    detectors: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> dict[Kind, Selection]:
    """Return a policy's detectors in the form that measuring takes."""
    return {kind: list(chosen.items()) for kind, chosen in detectors.items()}  # type: ignore[misc]  # kinds come from JSON


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
