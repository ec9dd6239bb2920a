"""Which rows of an Arrow table are good? Judged without a Python object a row.

Only tables of common shapes are judged here: a column a field, of strings, numbers, booleans, times
or lists of numbers, in `inputs` or beside the others. For every other table the answer is None: its
rows are then judged as JSON's are, with the same result.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.domain.answers import LARGEST, Answer, Number
from app.domain.observations import (
    MAXIMUM_COORDINATE,
    MAXIMUM_ID_LENGTH,
    MAXIMUM_NUMBER,
    ContractField,
    FieldType,
    Intake,
    microseconds,
    time_of,
)
from app.domain.privacy import Privacy
from app.services.batches import PREDICTION, Batch, embeddings
from app.services.columns import Sorted, are_between, refusals
from app.services.privacy import pseudonyms
from app.services.rows import FIELDS, OWN
from app.services.tables import nested
from app.services.times import instants
from app.services.violations import violations

Mask = NDArray[np.bool_]
_BEYOND: Final = 2**31 - 1  # longer than any string


class _OddShape(Exception):
    """This table must be judged row by row."""


def sort_table(table: pa.Table, intake: Intake, *, now: datetime) -> Sorted | None:
    """Sort out the rows of a table; None when its shape is not a common one.

    Args:
        table: at least one row, valid (`validate(full=True)`).
        intake: what the rows are held to.
        now: the time of a row that states none.
    """
    try:
        batch, good = _judged(table.combine_chunks(), intake, now)
    except _OddShape:
        return None
    if good.all():
        return Sorted(batch, [], [], {})
    places = np.flatnonzero(~good)
    rows = table.take(pa.array(places)).to_pylist()
    raw = {int(n): nested(row, intake.contract, OWN) for n, row in zip(places, rows, strict=True)}
    return Sorted(
        batch.take(np.flatnonzero(good)),
        *refusals(raw, intake),
        violations(raw.values(), intake),
    )


def _judged(table: pa.Table, intake: Intake, now: datetime) -> tuple[Batch, Mask]:
    """Return all rows as columns, and which of them are good, shape (n,)."""
    own, inputs, good = _parted(table)
    n, labels = len(table), pa.array(intake.labels, pa.string())
    known = {field.name for field in intake.contract.fields}
    if not inputs.keys() <= known or "shadow" in own:
        raise _OddShape
    empty = pa.nulls(n, pa.string())
    ids = _strings(own.get("id", empty))
    good &= _is_text(ids, MAXIMUM_ID_LENGTH) & _mask(pc.greater(pc.utf8_length(ids), 0))
    answers = {}
    for key in (PREDICTION, "label"):
        given = own.get(key, empty)
        if intake.answers_with is not None:
            answers[key], is_good = _kept(given, intake.answers_with, is_label=key == "label")
            good &= is_good
        else:
            answers[key] = values = _strings(given)
            good &= _mask(pc.or_(pc.is_null(values), pc.is_in(values, value_set=labels)))
    columns = {PREDICTION: answers[PREDICTION]}
    for field in intake.contract.fields:
        name = field.name
        values, is_good = _field(inputs.get(name, pa.nulls(n)), field)
        good &= is_good
        if field.privacy is Privacy.HASH:
            values = pseudonyms(values, field, intake)
        if field.privacy is not Privacy.DROP:
            columns[f"input:{name}"] = values
    if intake.answers_with is not None and "scores" in own:
        raise _OddShape
    scores, is_good = _scores(own.get("scores", pa.nulls(n)), intake.labels)
    versions, has_version = _versions(own.get("version", pa.nulls(n)), intake.serving)
    times, has_time = _times(own.get("at", pa.nulls(n)), now)
    batch = Batch(ids, times, versions, empty, answers["label"], pa.table(columns | scores))
    return batch, good & is_good & has_version & has_time


def _parted(table: pa.Table) -> tuple[dict[str, pa.Array], dict[str, pa.Array], Mask]:
    """Return the observation's own columns, those of its inputs, and which rows have inputs."""
    columns = _columns(table.column_names, [_single(column) for column in table.columns])
    good = np.ones(len(table), dtype=bool)
    if "inputs" in columns:
        inputs = columns.pop("inputs")
        if not pa.types.is_struct(inputs.type) or not columns.keys() <= FIELDS:
            raise _OddShape
        names = [inputs.type.field(place).name for place in range(inputs.type.num_fields)]
        return columns, _columns(names, inputs.flatten()), good & _mask(pc.is_valid(inputs))
    own = {name: column for name, column in columns.items() if name in OWN}
    return own, {name: column for name, column in columns.items() if name not in OWN}, good


def _single(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _columns(names: Sequence[str], arrays: Sequence[pa.Array]) -> dict[str, pa.Array]:
    if len(set(names)) < len(names):
        raise _OddShape
    return dict(zip(names, arrays, strict=True))


def _mask(values: Any) -> Mask:
    """Return booleans as an array; missing is False."""
    return np.asarray(pc.fill_null(values, False).to_numpy(zero_copy_only=False), dtype=bool)


def _strings(values: pa.Array) -> pa.Array:
    kind = values.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise _OddShape
    return values.cast(pa.string())


def _is_text(values: pa.Array, longest: int) -> Mask:
    """Return where strings are there, no longer than allowed and without NUL characters."""
    short = pc.less_equal(pc.utf8_length(values), longest)
    return _mask(pc.and_(short, pc.invert(pc.match_substring(values, "\x00"))))


def _field(values: pa.Array, field: ContractField) -> tuple[pa.Array, Mask | bool]:
    """Return one field of the input in the type that is stored, and where it is good."""
    if field.type is FieldType.NUMBER and not pa.types.is_null(values.type):
        stored, good = _numbers(values, field)
    elif field.type is FieldType.BOOLEAN and pa.types.is_boolean(values.type):
        stored, good = values, True
    elif field.type is FieldType.DATETIME and not pa.types.is_null(values.type):
        stored = _instants(values)
        good = are_between(stored, field)
    elif field.type is FieldType.EMBEDDING and not pa.types.is_null(values.type):
        stored, good = _embeddings(values, field)
    elif field.type is FieldType.TEXT or pa.types.is_null(values.type):
        stored = _strings(values)
        good = _is_text(stored, field.maximum_length)
    elif field.type is FieldType.CATEGORY:
        stored = _strings(values)
        good = _is_text(stored, _BEYOND)
        if field.categories is not None:
            good &= _mask(pc.is_in(stored, value_set=pa.array(field.categories, pa.string())))
    else:
        raise _OddShape
    if stored.null_count == 0:
        return stored, good
    missing = _mask(pc.is_null(stored))
    return stored, (good & ~missing) | (missing & (not field.is_required))


def _numbers(values: pa.Array, field: ContractField) -> tuple[pa.Array, Mask | bool]:
    """Return numbers as float64 or int64, and where they are good; missing ones may be either."""
    kind = values.type
    is_whole = pa.types.is_integer(kind) and kind != pa.uint64()
    if not (is_whole or pa.types.is_float32(kind) or pa.types.is_float64(kind)):
        raise _OddShape
    stored = values.cast(pa.int64() if is_whole else pa.float64())
    if not len(stored):
        return stored, True
    present = stored if stored.null_count == 0 else pc.fill_null(stored, 0)
    array = present.to_numpy()
    if is_whole and max(-int(array.min()), int(array.max())) > 2**53:
        raise _OddShape  # beyond it, a rounded integer may cross a bound
    lowest = -MAXIMUM_NUMBER if field.minimum is None else field.minimum
    highest = MAXIMUM_NUMBER if field.maximum is None else field.maximum
    if array.min() >= lowest and array.max() <= highest:  # both are NaN if one number is
        return stored, True
    return stored, (array >= lowest) & (array <= highest)


def _kept(values: pa.Array, answer: Answer, *, is_label: bool) -> tuple[pa.Array, Mask | bool]:
    """Return labels or predictions that are no labels of a set as they are kept, and where good."""
    if pa.types.is_null(values.type) or values.null_count == len(values):
        return pa.nulls(len(values), pa.string()), True
    if not isinstance(answer, Number):
        raise _OddShape
    low = answer.minimum if is_label and answer.minimum is not None else -LARGEST
    high = answer.maximum if is_label and answer.maximum is not None else LARGEST
    bounds = ContractField(
        "", FieldType.NUMBER, minimum=max(low, -LARGEST), maximum=min(high, LARGEST)
    )
    stored, good = _numbers(values, bounds)
    texts = [None if value is None else answer.stored(value) for value in stored.to_pylist()]
    return pa.array(texts, pa.string()), good | _mask(pc.is_null(stored))


def _instants(values: pa.Array) -> pa.TimestampArray:
    found = instants(values if pa.types.is_timestamp(values.type) else _strings(values))
    if found is None:
        raise _OddShape
    return found


def _embeddings(values: pa.Array, field: ContractField) -> tuple[pa.Array, Mask]:
    """Return lists of numbers as a column of fixed width, and where they are good, or missing."""
    kind = values.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not (is_list or pa.types.is_fixed_size_list(kind)) or field.dimension is None:
        raise _OddShape
    if not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        raise _OddShape
    missing = ~_mask(values.is_valid())
    good = _mask(pc.equal(pc.list_value_length(values), field.dimension))
    flat = values.filter(pa.array(good)).flatten().cast(pa.float64(), safe=False)
    rows = pc.fill_null(flat, float("nan")).to_numpy().reshape(-1, field.dimension)
    is_finite = (np.abs(rows) <= MAXIMUM_COORDINATE).all(axis=1)
    table = np.zeros((len(values), field.dimension))
    good[good] = is_finite
    table[good] = rows[is_finite]
    return embeddings(table, missing), good | missing


def _scores(values: pa.Array, labels: Sequence[str]) -> tuple[dict[str, pa.Array], Mask]:
    """Return the columns of scores, and where they are good."""
    good = np.ones(len(values), dtype=bool)
    if pa.types.is_null(values.type):
        return {}, good
    if not pa.types.is_struct(values.type):
        raise _OddShape
    names = [values.type.field(place).name for place in range(values.type.num_fields)]
    is_known = len(set(names)) == len(names) and set(names) <= set(labels)
    if not is_known or not all(
        pa.types.is_float32(child.type) or pa.types.is_float64(child.type) for child in values.type
    ):
        raise _OddShape
    missing = _mask(pc.is_null(values))
    columns = {}
    for name, column in zip(names, values.flatten(), strict=True):
        columns[f"score:{name}"] = column.cast(pa.float64())
        array = pc.fill_null(columns[f"score:{name}"], -1.0).to_numpy()
        good &= missing | ((array >= -1e-6) & (array <= 1 + 1e-6))
    return columns, good


def _versions(values: pa.Array, serving: int | None) -> tuple[pa.Array, Mask]:
    """Return the versions that answered, the champion's where none is named, and where good."""
    n = len(values)
    if pa.types.is_null(values.type):
        return pa.repeat(pa.scalar(serving, pa.int32()), n), np.ones(n, dtype=bool)
    if not pa.types.is_integer(values.type) or values.type == pa.uint64():
        raise _OddShape
    numbers = values.cast(pa.int64())
    array = pc.fill_null(numbers, 1).to_numpy()
    good = (array > 0) & (array < 2**31)
    stated = pc.if_else(pa.array(good), numbers, pa.scalar(None, pa.int64())).cast(pa.int32())
    return (stated if serving is None else pc.fill_null(stated, serving)), good


def _times(values: pa.Array, now: datetime) -> tuple[NDArray[np.int64], Mask]:
    """Return microseconds since 1970, and where the time is good."""
    n, otherwise = len(values), microseconds(now)
    if pa.types.is_null(values.type):
        return np.full(n, otherwise), np.ones(n, dtype=bool)
    stored = instants(values)
    if stored is not None:
        array = pc.fill_null(stored.cast(pa.int64()), otherwise).to_numpy()
        return np.asarray(array, dtype=np.int64), np.ones(n, dtype=bool)
    if pa.types.is_timestamp(values.type):
        raise _OddShape
    texts = _strings(values).to_pylist()
    times = [now if text is None else time_of(text) for text in texts]
    good = np.array([at is not None for at in times], dtype=bool)
    return np.array([microseconds(at or now) for at in times], dtype=np.int64), good
