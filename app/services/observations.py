"""Taking in what a model saw and answered, and the labels that come later."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import pyarrow as pa

from app.domain.errors import Fault, Invalid
from app.domain.label_lag import LabelLag, measure_lag
from app.domain.models import MaintainedModel
from app.domain.observations import Ingested, Intake, Label, Rejected, time_of
from app.services import tables
from app.services.arrow_columns import sort_table
from app.services.columns import Sorted, sort_rows
from app.services.ports import Actor, Json, UnitOfWork
from app.services.rows import id_faults, id_of, late_label_faults

MAXIMUM_BATCH: Final = 50_000
_DAYS_AHEAD: Final = 7


def ingest_body(
    work: UnitOfWork, actor: Actor, name: str, body: bytes, media_type: str, *, now: datetime
) -> Ingested:
    """Store the batch that a request's body holds, as `ingest` does.

    Raises:
        NotFound: no such model.
        Invalid: as `ingest`, or the body cannot be read.
    """
    with work:
        intake = work.models.intake(name, actor.project_id)
        rows = tables.read(body, media_type, key="observations")
        found, added = _store(work, intake, rows, now)
    return _receipt(found, added, len(rows))


def ingest(
    work: UnitOfWork, actor: Actor, name: str, rows: Sequence[Any], *, now: datetime
) -> Ingested:
    """Store a batch; durable when this returns, and the same batch again changes nothing.

    Raises:
        NotFound: no such model.
        Invalid: every row was refused, or the batch is too large.
    """
    with work:
        found, added = _store(work, work.models.intake(name, actor.project_id), rows, now)
    return _receipt(found, added, len(rows))


def _store(
    work: UnitOfWork, intake: Intake, rows: "Sequence[Any] | pa.Table", now: datetime
) -> tuple[Sorted, int]:
    _check_size(rows)
    found = _sorted(rows, intake, now)
    added = work.observations.add(intake.model_id, found.batch) if len(found.batch) else 0
    if found.rejected:
        work.observations.quarantine(intake.model_id, found.rejected, found.bodies, found.broken)
    return found, added


def _receipt(found: Sorted, added: int, n: int) -> Ingested:
    _refuse_if_nothing_is_left(found.rejected, n)
    return Ingested(added, len(found.batch) - added, found.rejected)


def _sorted(rows: "Sequence[Any] | pa.Table", intake: Intake, now: datetime) -> Sorted:
    if not isinstance(rows, pa.Table):
        return sort_rows(rows, intake, now=now)
    found = sort_table(rows, intake, now=now)
    return found or sort_rows(tables.rows_of_table(rows), intake, now=now)


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
        intake = work.models.intake(name, actor.project_id)
        texts, good, rejected = _texts(work, intake, rows), [], []
        for index, row in enumerate(rows):
            faults = late_label_faults(row, intake, texts)
            if faults:
                rejected.append(Rejected(index, id_of(row), faults))
            else:
                at = time_of(row.get("at")) or now
                good.append((index, Label(row["id"], intake.answer.stored(row["label"]), at)))
        known, changed = work.observations.add_labels(intake.model_id, [label for _, label in good])
    fault = Fault("/id", "is not known; send the observation first, then its label")
    unknown = [
        Rejected(index, label.observation_id, [fault])
        for index, label in good
        if label.observation_id not in known
    ]
    rejected = sorted([*rejected, *unknown], key=lambda row: row.index)
    _refuse_if_nothing_is_left(rejected, len(rows))
    return Ingested(changed, len(rows) - len(rejected) - changed, rejected)


def _texts(work: UnitOfWork, intake: Intake, rows: Sequence[Any]) -> Mapping[str, str]:
    """Return the texts that late labels point into, by id; none where labels do not."""
    if intake.answer.about is None:
        return {}
    ids = [row["id"] for row in rows if isinstance(row, Mapping) and not id_faults(row.get("id"))]
    return work.observations.texts(intake.model_id, ids, field=intake.answer.about)


def shown(work: UnitOfWork, model: MaintainedModel, observation_id: str) -> Json:
    """Return one observation with the history of its labels, in an open transaction.

    Raises:
        NotFound: no such observation.
    """
    found, read = work.observations.get(model.id, observation_id), model.answer.shown
    return {
        **found,
        "prediction": read(found["prediction"]),
        "label": read(found["label"]),
        "shadow": {version: read(said) for version, said in found["shadow"].items()},
        "labels": [{**label, "label": read(label["label"])} for label in found["labels"]],
    }


def label_lags(work: UnitOfWork, model_id: UUID, *, now: datetime) -> Sequence[LabelLag]:
    """Return how long labels take: over all versions, then by version, the newest first.

    In an open transaction; of a bounded sample, so that it costs the same however many rows.
    """
    waits = work.observations.waits(model_id, now=now)
    numbers = sorted({int(number) for number in waits.versions if number}, reverse=True)
    return [
        measure_lag(waits.ages, waits.lags),
        *(
            measure_lag(waits.ages[its], waits.lags[its], version=number)
            for number in numbers
            for its in [waits.versions == number]
        ),
    ]


def expected_lag(work: UnitOfWork, model_id: UUID, version: int | None, now: datetime) -> LabelLag:
    """Return how long a version's labels take; the model's, where its own do not tell yet."""
    overall, *others = label_lags(work, model_id, now=now)
    own = next((lag for lag in others if lag.version == version), overall)
    return own if own.is_settled and own.n_due else overall


def prepare_days(work: UnitOfWork, *, now: datetime) -> None:
    """Make room for the observations of the coming week, a partition a day."""
    with work:
        work.observations.prepare_days(now.astimezone(UTC).date(), ahead=_DAYS_AHEAD)


def _check_size(rows: "Sequence[Any] | pa.Table") -> None:
    if not len(rows):
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
