"""Taking in what a model saw and answered, and the labels that come later."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from app.domain.errors import Fault, Invalid, printable
from app.domain.identity import canonical_json
from app.domain.models import MaintainedModel
from app.domain.observations import (
    MAXIMUM_ID_LENGTH,
    Ingested,
    Label,
    Observation,
    Rejected,
)
from app.services.ports import Actor, UnitOfWork

MAXIMUM_BATCH: Final = 50_000
_FIELDS: Final = frozenset(
    {"id", "at", "inputs", "prediction", "scores", "version", "shadow", "label"}
)


def ingest(
    work: UnitOfWork, actor: Actor, name: str, rows: Sequence[Any], *, now: datetime
) -> Ingested:
    """Store a batch; durable when this returns, and the same batch again changes nothing.

    Raises:
        NotFound: no such model.
        Invalid: every row was refused, or the batch is too large.
    """
    _check_size(rows)
    with work:
        model = work.models.get(name, actor.project_id)
        champion = work.versions.champion(model.id)
        serving = champion.number if champion else None
        good, rejected, bodies = [], [], []
        for index, row in enumerate(rows):
            faults = _observation_faults(row, model)
            if faults:
                rejected.append(Rejected(index, _id_of(row), faults))
                bodies.append(_body(row))
            else:
                good.append(_observation(row, now, serving))
        added = work.observations.add(model.id, good)
        labelled = {
            item.id: Label(item.id, item.label, now)
            for item in reversed(good)
            if item.label is not None
        }
        if labelled:  # a batch that is sent again must not undo a correction
            work.observations.add_labels(model.id, list(labelled.values()), corrects=False)
        work.observations.quarantine(model.id, rejected, bodies)
    _refuse_if_nothing_is_left(rejected, len(rows))
    return Ingested(added, len(good) - added, rejected)


def add_labels(
    work: UnitOfWork, actor: Actor, name: str, rows: Sequence[Any], *, now: datetime
) -> Ingested:
    """Store labels by the observations' ids; a second, other label of an id corrects the first.

    Raises:
        NotFound: no such model.
        Invalid: every row was refused, or the batch is too large.
    """
    _check_size(rows)
    with work:
        model = work.models.get(name, actor.project_id)
        good, rejected = [], []
        for index, row in enumerate(rows):
            faults = _label_faults(row, model)
            if faults:
                rejected.append(Rejected(index, _id_of(row), faults))
            else:
                at = _time(row.get("at")) or now
                good.append((index, Label(row["id"], row["label"], at)))
        known, changed = work.observations.add_labels(model.id, [label for _, label in good])
    fault = Fault("/id", "is not known; send the observation first, then its label")
    unknown = [
        Rejected(index, label.observation_id, [fault])
        for index, label in good
        if label.observation_id not in known
    ]
    rejected = sorted([*rejected, *unknown], key=lambda row: row.index)
    _refuse_if_nothing_is_left(rejected, len(rows))
    return Ingested(changed, len(rows) - len(rejected) - changed, rejected)


def _check_size(rows: Sequence[Any]) -> None:
    if not rows:
        raise Invalid("the batch has no rows; send at least one")
    if len(rows) > MAXIMUM_BATCH:
        raise Invalid(f"the batch has {len(rows)} rows; send at most {MAXIMUM_BATCH} at a time")


def _refuse_if_nothing_is_left(rejected: Sequence[Rejected], n: int) -> None:
    if len(rejected) == n:
        faults = [
            replace(fault, pointer=f"/{row.index}{fault.pointer}")
            for row in rejected[:100]
            for fault in row.faults
        ]
        raise Invalid(f"none of the {n} rows could be stored", faults)


def _observation_faults(row: Any, model: MaintainedModel) -> list[Fault]:
    if not isinstance(row, Mapping):
        return [Fault("", "must be an object with id, inputs and prediction")]
    faults = [
        Fault(f"/{key}", f"unknown field; known: {', '.join(sorted(_FIELDS))}")
        for key in row
        if key not in _FIELDS
    ]
    faults += _id_faults(row)
    faults += model.contract.faults(row.get("inputs"))
    faults += _label_value_faults(row, "prediction", model, required=False)
    faults += _label_value_faults(row, "label", model, required=False)
    faults += _time_faults(row)
    faults += _scores_faults(row.get("scores"), model)
    version = row.get("version")
    if version is not None and (
        not isinstance(version, int) or isinstance(version, bool) or not 0 < version < 2**31
    ):
        faults.append(Fault("/version", "must be the number of a model version, such as 1"))
    shadow = row.get("shadow")
    if shadow is not None and not (
        isinstance(shadow, Mapping)
        and all(key.isdecimal() and value in model.labels for key, value in shadow.items())
    ):
        faults.append(Fault("/shadow", "must map version numbers to labels of the model"))
    return faults


def _label_faults(row: Any, model: MaintainedModel) -> list[Fault]:
    if not isinstance(row, Mapping):
        return [Fault("", "must be an object with id and label")]
    return [
        *_id_faults(row),
        *_label_value_faults(row, "label", model, required=True),
        *_time_faults(row),
    ]


def _id_faults(row: Mapping[str, Any]) -> list[Fault]:
    value = row.get("id")
    if isinstance(value, str) and 0 < len(value) <= MAXIMUM_ID_LENGTH and printable(value) == value:
        return []
    return [Fault("/id", f"must be a string of 1 to {MAXIMUM_ID_LENGTH} characters")]


def _label_value_faults(
    row: Mapping[str, Any], key: str, model: MaintainedModel, *, required: bool
) -> list[Fault]:
    value = row.get(key)
    if value is None and not required:
        return []
    if isinstance(value, str) and value in model.labels:
        return []
    shown = ", ".join(model.labels[:20]) + (", ..." if len(model.labels) > 20 else "")
    return [Fault(f"/{key}", f"must be one of the model's labels: {shown}")]


def _scores_faults(scores: Any, model: MaintainedModel) -> list[Fault]:
    if scores is None:
        return []
    if not isinstance(scores, Mapping):
        return [Fault("/scores", "must map labels to probabilities")]
    return [
        Fault(f"/scores/{label}", "must be a label of the model with a probability in [0, 1]")
        for label, value in scores.items()
        if label not in model.labels
        or isinstance(value, bool)
        or not isinstance(value, int | float)
        or not -1e-6 <= value <= 1 + 1e-6
    ]


def _time_faults(row: Mapping[str, Any]) -> list[Fault]:
    value = row.get("at")
    if value is None or _time(value) is not None:
        return []
    return [Fault("/at", "must be an RFC 3339 time with an offset, such as 2026-01-31T12:00:00Z")]


def _time(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        value = value if value.tzinfo else value.replace(tzinfo=UTC)
    elif isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    else:
        return None
    # At the ends of the calendar an offset leads out of it, where nobody can read it back.
    return value if value.tzinfo and 1 < value.year < 9999 else None


def _id_of(row: Any) -> str | None:
    value = row.get("id") if isinstance(row, Mapping) else None
    return printable(value[:MAXIMUM_ID_LENGTH]) if isinstance(value, str) else None


def _body(row: Any) -> str:
    try:
        text = canonical_json(row)
    except (TypeError, ValueError):
        text = repr(row)
    except RecursionError:
        text = "nested too deeply to be shown"
    return printable(text[:10_000])


def _observation(row: Mapping[str, Any], now: datetime, serving: int | None) -> Observation:
    return Observation(
        id=row["id"],
        at=_time(row.get("at")) or now,
        inputs={key: value for key, value in row["inputs"].items() if value is not None},
        prediction=row.get("prediction"),
        scores=row.get("scores"),
        version=row.get("version") or serving,
        shadow=row.get("shadow") or {},
        label=row.get("label"),
    )
