"""Stored observations as arrays, without a Python object a row."""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.adapters.postgres import copying, segments
from app.adapters.postgres.schema import ModelRow, ObservationRow
from app.domain.observations import FieldType, microseconds
from app.services.batches import PREDICTION, Columns, arrays_of, packed, packed_scores
from app.services.times import instants_of

_WHERE: Final = """
COPY (SELECT sequence, coalesce(segment_id, 0), coalesce(place, 0),
             (received_at AT TIME ZONE 'UTC')::date, observed_at
      FROM observations
      WHERE model_id = %s AND version = %s AND sequence > %s
        AND (segment_id IS NOT NULL OR inputs IS NOT NULL)
        AND NOT EXISTS (
          SELECT 1 FROM incidents i WHERE i.model_id = observations.model_id
            AND i.state = 'resolved' AND NOT i.is_genuine
            AND observations.sequence BETWEEN i.first_sequence AND i.last_sequence)
      ORDER BY sequence LIMIT %s) TO STDOUT (FORMAT binary)
"""
_FIELDS: Final = [
    ("sequence", ">i8"),
    ("segment", ">i8"),
    ("place", ">i4"),
    ("day", ">i4"),
    ("at", ">i8"),
]
_POSTGRES_DAY: Final = date(2000, 1, 1)
_POSTGRES_EPOCH: Final = microseconds(datetime(2000, 1, 1, tzinfo=UTC))
_INPUTS: Final = ("input", "whole", "json")


def columns_of(
    session: Session, model_id: UUID, version: int, after_sequence: int, limit: int
) -> Columns:
    """Return the first rows that a version answered after one, in order of arrival."""
    with copying.raw_cursor(session) as cursor:
        parameters = (model_id, version, after_sequence, limit)
        with cursor.copy(_WHERE, parameters) as copy:
            found = copying.read_fixed(b"".join(bytes(block) for block in copy), _FIELDS)
    places, bodies = [], []
    for at, body in _bodies(session, model_id, found):
        places.append(at)
        bodies.append(body)
    order = np.argsort(np.concatenate([*places, np.empty(0, dtype=np.int64)]), kind="stable")
    kept = np.concatenate([*places, np.empty(0, dtype=np.int64)])[order]
    sizes = [len(body) for body in bodies]
    inputs = _joined([arrays_of(body, _INPUTS) for body in bodies], sizes, order)
    scores = _joined([arrays_of(body, ("score",)) for body in bodies], sizes, order)
    answers = [np.asarray(body.column(PREDICTION), dtype=object) for body in bodies]
    return Columns(
        sequences=found["sequence"][kept].astype(np.int64),
        observed_at=found["at"][kept].astype(np.int64) + _POSTGRES_EPOCH,
        through=int(found["sequence"][-1]) if len(found) else after_sequence,
        predictions=np.concatenate([*answers, np.empty(0, dtype=object)])[order],
        inputs=inputs,
        scores=scores,
    )


def _bodies(
    session: Session, model_id: UUID, found: NDArray[Any]
) -> Iterator[tuple[NDArray[np.int64], pa.Table]]:
    """Yield places among the rows found, and the bodies of the rows there."""
    numbers = found["segment"].astype(np.int64)
    inline = np.flatnonzero(numbers == 0)
    if len(inline):
        yield inline, _inline(session, model_id, found["sequence"][inline].tolist())
    kept_in, firsts = np.unique(numbers[numbers != 0], return_index=True)
    days = found["day"][numbers != 0][firsts]
    wanted = {
        int(segment): _POSTGRES_DAY + timedelta(days=int(day))
        for segment, day in zip(kept_in, days, strict=True)
    }
    for segment, body in segments.bodies(session, wanted):
        at = np.flatnonzero(numbers == segment)
        yield at, body.take(pa.array(found["place"][at].astype(np.int64)))


def _inline(session: Session, model_id: UUID, sequences: list[int]) -> pa.Table:
    rows = session.execute(
        select(ObservationRow.prediction, ObservationRow.inputs, ObservationRow.scores)
        .where(ObservationRow.model_id == model_id, ObservationRow.sequence.in_(sequences))
        .order_by(ObservationRow.sequence)
    ).all()
    inputs = [row.inputs or {} for row in rows]
    columns = {PREDICTION: pa.array([row.prediction for row in rows], pa.string())}
    contract = session.scalar(select(ModelRow.contract).where(ModelRow.id == model_id)) or ()
    times = {field["name"] for field in contract if field["type"] == FieldType.DATETIME}
    for name in sorted({name for row in inputs for name in row}):
        values = [row.get(name) for row in inputs]
        if name in times:
            columns[f"input:{name}"] = instants_of(values)
        else:
            columns |= packed(name, values)
    return pa.table(columns | packed_scores([row.scores for row in rows]))


def _joined(
    parts: list[dict[str, NDArray[Any]]], sizes: list[int], order: NDArray[np.int64]
) -> Mapping[str, NDArray[Any]]:
    """Return the arrays of all bodies end to end, missing where a body has none, then ordered."""
    joined: dict[str, NDArray[Any]] = {}
    for name in sorted({name for part in parts for name in part}):
        found = [part[name] for part in parts if name in part]
        like = next((array for array in found if array.dtype == object), found[0])
        arrays = [
            part[name] if name in part else _missing(like, size)
            for part, size in zip(parts, sizes, strict=True)
        ]
        joined[name] = np.concatenate([array.astype(like.dtype) for array in arrays])[order]
    return joined


def _missing(like: NDArray[Any], n_rows: int) -> NDArray[Any]:
    """Return so many missing values of the kind that an array holds."""
    value = {"O": None, "M": np.datetime64("NaT")}.get(like.dtype.kind, np.nan)
    return np.full((n_rows, *like.shape[1:]), value, dtype=like.dtype)
