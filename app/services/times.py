"""Which moments do texts and columns tell? Read a column at once, with the answers of `time_of`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.domain.observations import microseconds, time_of

INSTANTS: Final = pa.timestamp("us", "UTC")
_NOT_A_TIME: Final = np.datetime64("NaT").astype(np.int64)
_UTC_NAMES: Final = (None, "UTC", "Z", "+00:00")
_EARLIEST: Final = microseconds(datetime(3, 1, 1, tzinfo=UTC))
_LATEST: Final = microseconds(datetime(9997, 1, 1, tzinfo=UTC))


def instants(values: pa.Array) -> pa.TimestampArray | None:
    """Return a column of times, or of RFC 3339 texts; None where each must be looked at by itself.

    That is so where any of them is no time, or is at the ends of the calendar.
    """
    kind = values.type
    if pa.types.is_timestamp(kind):
        if kind.unit == "ns" or kind.tz not in _UTC_NAMES:
            return None
    elif not pa.types.is_string(kind):
        return None
    try:
        found = values.cast(INSTANTS)
    except pa.ArrowInvalid:
        return None
    if found.null_count == len(found):
        return found
    ends = pc.min_max(found.cast(pa.int64())).as_py()
    return found if ends["min"] > _EARLIEST and ends["max"] < _LATEST else None


def instants_of(values: Sequence[Any]) -> pa.TimestampArray:
    """Return good times as they were sent, or None, as a column."""
    if set(map(type, values)) <= {str, type(None)}:
        found = instants(pa.array(values, pa.string()))
        if found is not None:
            return found
    times = [time_of(value) for value in values]
    return pa.array([None if at is None else microseconds(at) for at in times], pa.int64()).cast(
        INSTANTS
    )


def to_microseconds(table: pa.Table) -> pa.Table:
    """Return a table whose times are kept to the microsecond, which is all that is stored."""
    schema = pa.schema([field.with_type(_coarser(field.type)) for field in table.schema])
    return table if schema == table.schema else table.cast(schema, safe=False)


def _coarser(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_coarser(field.type)) for field in kind])
    return kind


def array_of(column: pa.ChunkedArray | pa.Array) -> NDArray[np.datetime64]:
    """Return times as datetime64[us], shape (n,), NaT where missing."""
    numbers = pc.fill_null(column.cast(pa.int64()), _NOT_A_TIME).to_numpy()
    return np.asarray(numbers).view("datetime64[us]")
