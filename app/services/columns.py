"""Which rows of a batch are good? Judged column by column, with the same answers as row by row.

A column that passes one quick test has only good values. Where it fails, its values are judged one
by one, by the rules of `app.services.rows`, which also say what is wrong with a row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa

from app.domain.models import MaintainedModel
from app.domain.observations import (
    MAXIMUM_ID_LENGTH,
    MAXIMUM_NUMBER,
    ContractField,
    FieldType,
    Rejected,
)
from app.services.batches import PREDICTION, Batch, microseconds, packed, packed_scores
from app.services.documents import document
from app.services.rows import (
    FIELDS,
    OWN,
    body_of,
    id_faults,
    id_of,
    label_faults,
    observation_faults,
    scores_faults,
    shadow_faults,
    time_faults,
    time_of,
    version_faults,
)
from app.services.tables import nested

_NONE: Final = type(None)


@dataclass(frozen=True, slots=True)
class Sorted:
    """A batch sorted out: the good rows, and the refused ones with their bodies as text."""

    batch: Batch
    rejected: Sequence[Rejected]
    bodies: Sequence[str]


def sort_rows(
    rows: Sequence[Any], model: MaintainedModel, *, now: datetime, serving: int | None
) -> Sorted:
    """Sort out rows as JSON has them, flat or with `inputs`.

    Args:
        rows: at least one.
        model: whose contract and labels they must keep.
        now: the time of a row that states none.
        serving: the champion's number, for a row that names no version.
    """
    known = {field.name for field in model.contract.fields}
    has_pictures = any(field.type is FieldType.IMAGE for field in model.contract.fields)
    shaped = [
        row if not has_pictures and _is_shaped(row) else nested(row, model.contract, OWN)
        for row in rows
    ]
    whole = [
        place
        for place, row in enumerate(shaped)
        if _is_shaped(row) and row["inputs"].keys() <= known
    ]
    kept = [shaped[index] for index in whole]
    bad = _bad_places(kept, model)
    good = [row for place, row in enumerate(kept) if place not in bad] if bad else kept
    taken = {place for n, place in enumerate(whole) if n not in bad}
    refused = {
        place: nested(row, model.contract, OWN)
        for place, row in enumerate(shaped)
        if place not in taken
    }
    return Sorted(_batch(good, model, now, serving), *refusals(refused, model))


def _is_shaped(row: Any) -> bool:
    return type(row) is dict and type(row.get("inputs")) is dict and row.keys() <= FIELDS


def refusals(rows: Mapping[int, Any], model: MaintainedModel) -> tuple[list[Rejected], list[str]]:
    """Say what is wrong with refused rows, by their place in the batch; return their bodies too."""
    rejected = [
        Rejected(place, id_of(row), observation_faults(row, model)) for place, row in rows.items()
    ]
    return rejected, [body_of(row) for row in rows.values()]


def _bad_places(rows: Sequence[Mapping[str, Any]], model: MaintainedModel) -> set[int]:
    """Return the places of the rows with a bad value."""

    def each(key: str, faults: Callable[[Any], Any]) -> set[int]:
        return {place for place, row in enumerate(rows) if faults(row.get(key))}

    bad: set[int] = set()
    labels = frozenset(model.labels)
    ids = [row.get("id") for row in rows]
    if not _are_ids(ids):
        bad |= each("id", id_faults)
    for key in ("prediction", "label"):
        if not _are_labels([row.get(key) for row in rows], labels):
            bad |= each(key, partial(label_faults, key, model=model))
    bad |= each("at", time_faults)
    bad |= each("scores", lambda value: value is not None and scores_faults(value, model))
    bad |= each("version", version_faults)
    bad |= each("shadow", lambda value: shadow_faults(value, model))
    inputs = [row["inputs"] for row in rows]
    for field in model.contract.fields:
        values = [row.get(field.name) for row in inputs]
        if not _QUICK[field.type](values, field):
            bad |= {place for place, value in enumerate(values) if field.problem(value)}
    return bad


def _batch(
    rows: Sequence[Mapping[str, Any]], model: MaintainedModel, now: datetime, serving: int | None
) -> Batch:
    """Return good rows as columns."""
    inputs = [row["inputs"] for row in rows]
    times = [row.get("at") for row in rows]
    shadows = [row.get("shadow") or None for row in rows]
    columns = {PREDICTION: pa.array([row.get("prediction") for row in rows], pa.string())}
    for field in model.contract.fields:
        columns |= packed(field.name, [row.get(field.name) for row in inputs])
    stated = [now if at is None else time_of(at) or now for at in times]
    return Batch(
        ids=pa.array([row["id"] for row in rows], pa.string()),
        observed_at=np.array([microseconds(at) for at in stated], dtype=np.int64),
        versions=pa.array([row.get("version") or serving for row in rows], pa.int32()),
        shadow=pa.array(
            [None if value is None else body_of(document(value)) for value in shadows], pa.string()
        ),
        labels=pa.array([row.get("label") for row in rows], pa.string()),
        body=pa.table(columns | packed_scores([row.get("scores") or None for row in rows])),
    )


def _are_ids(values: Sequence[Any]) -> bool:
    if set(map(type, values)) != {str}:
        return False
    lengths = set(map(len, values))
    return min(lengths) > 0 and max(lengths) <= MAXIMUM_ID_LENGTH and _are_printable(values)


def _are_labels(values: Sequence[Any], labels: frozenset[str]) -> bool:
    return set(map(type, values)) <= {str, _NONE} and set(values) - {None} <= labels


def _are_printable(values: Sequence[str | None]) -> bool:
    text = "".join(value for value in values if value is not None)
    return "\x00" not in text and (text.isascii() or _is_utf8(text))


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _none_missing(values: Sequence[Any], field: ContractField) -> bool:
    return not field.is_required or None not in values


def _are_numbers(values: Sequence[Any], field: ContractField) -> bool:
    kinds = set(map(type, values))
    if not kinds <= {float, int, _NONE} or (_NONE in kinds and field.is_required):
        return False
    try:
        numbers = np.array([value for value in values if value is not None], dtype=np.float64)
    except OverflowError:
        return False
    if int in kinds and numbers.size and np.abs(numbers).max() > 2**53:
        return False  # beyond it, a rounded integer may cross a bound
    lowest = -MAXIMUM_NUMBER if field.minimum is None else field.minimum
    highest = MAXIMUM_NUMBER if field.maximum is None else field.maximum
    return bool(((numbers >= lowest) & (numbers <= highest) & np.isfinite(numbers)).all())


def _are_texts(values: Sequence[Any], field: ContractField) -> bool:
    if not set(map(type, values)) <= {str, _NONE} or not _none_missing(values, field):
        return False
    longest = max((len(value) for value in values if value is not None), default=0)
    return longest <= field.maximum_length and _are_printable(values)


def _are_categories(values: Sequence[Any], field: ContractField) -> bool:
    if not set(map(type, values)) <= {str, _NONE} or not _none_missing(values, field):
        return False
    if field.categories is not None and not set(values) - {None} <= set(field.categories):
        return False
    return _are_printable(values)


def _are_booleans(values: Sequence[Any], field: ContractField) -> bool:
    return set(map(type, values)) <= {bool, _NONE} and _none_missing(values, field)


def _never(_: Sequence[Any], __: ContractField) -> bool:
    return False


_QUICK: Final[Mapping[FieldType, Callable[[Sequence[Any], ContractField], bool]]] = {
    FieldType.TEXT: _are_texts,
    FieldType.IMAGE: _never,
    FieldType.NUMBER: _are_numbers,
    FieldType.CATEGORY: _are_categories,
    FieldType.BOOLEAN: _are_booleans,
}
"""One test that only good columns pass; others are judged value by value."""
