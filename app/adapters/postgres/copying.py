"""Rows as Postgres' binary COPY has them, put together column by column.

A row is the number of its fields, then each field as its length and its bytes; -1 is the length of
a missing one. Arrow joins the columns, so that no Python object is made for a value.
"""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from psycopg.adapt import Dumper
from psycopg.pq import Format
from sqlalchemy.orm import Session

from app.domain.errors import Invalid, Unavailable

Cursor = psycopg.Cursor[Any]
Parts = list[Any]
"""Pieces of each row, in order: Arrow binary arrays of shape (n,), or scalars."""

_TEXT_OID: Final = 25
_TEXT_ARRAY_OID: Final = 1009
_HEADER: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_TRAILER: Final = b"\xff\xff"
_MISSING: Final = (-1).to_bytes(4, "big", signed=True)


@dataclass(frozen=True, slots=True)
class Texts:
    """A parameter that holds strings, none missing: a `text[]`, sent as Arrow has it."""

    values: pa.StringArray


class _TextsDumper(Dumper):
    """Says how the driver sends `Texts`."""

    format = Format.BINARY
    oid = _TEXT_ARRAY_OID

    def dump(self, obj: Any) -> bytes:
        """Return an array of one dimension: 1, no missing ones, type, size, first index, values."""
        head = struct.pack(">iiiii", 1, 0, _TEXT_OID, len(obj.values), 1)
        return head + bytes(_joined(texts(obj.values))) if len(obj.values) else bytes(12)


psycopg.adapters.register_dumper(Texts, _TextsDumper)


@contextmanager
def raw_cursor(session: Session) -> Iterator[Cursor]:
    """Yield a cursor of the driver's own, in the transaction of the session.

    Raises:
        Unavailable: Postgres went away.
        Invalid: a value cannot be stored.
    """
    connection = session.connection().connection.driver_connection
    if not isinstance(connection, psycopg.Connection):
        raise TypeError(f"the database URL must name postgresql+psycopg, not {connection!r}")
    try:
        with connection.cursor(binary=True) as cursor:
            yield cursor
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise Unavailable("Postgres is not reachable; try again") from error
    except psycopg.DataError as error:
        raise Invalid(f"a value of the request cannot be stored: {error}") from error


def field(value: bytes | None) -> bytes:
    """Return one field: its length, then its bytes."""
    return _MISSING if value is None else len(value).to_bytes(4, "big") + value


def constant(value: bytes | None) -> Parts:
    """Return a field that is the same in each row."""
    return [pa.scalar(field(value))]


def integers(values: NDArray[Any], size_bytes: int) -> Parts:
    """Return a field of whole numbers, shape (n,), none missing."""
    layout = np.dtype([("length", ">i4"), ("value", f">i{size_bytes}")])
    rows = np.empty(len(values), dtype=layout)
    rows["length"], rows["value"] = size_bytes, values
    return [_fixed(rows)]


def texts(values: pa.StringArray) -> Parts:
    """Return a field of strings, none missing."""
    lengths = pc.binary_length(values).to_numpy().astype(">i4")
    return [_fixed(lengths), values.cast(pa.binary())]


def few(values: pa.Array, encode: Callable[[Any], bytes]) -> Parts:
    """Return a field of few different values, some missing; each different one is encoded once."""
    if values.null_count == len(values):
        return constant(None)
    codes = values.dictionary_encode()
    fields = [field(encode(value)) for value in codes.dictionary.to_pylist()]
    places = pc.fill_null(codes.indices, len(fields))
    return [pa.array([*fields, _MISSING], pa.binary()).take(places)]


def _fixed(rows: NDArray[Any]) -> pa.Array:
    size = pa.binary(rows.dtype.itemsize)
    buffers = [None, pa.py_buffer(rows.tobytes())]
    return pa.FixedSizeBinaryArray.from_buffers(size, len(rows), buffers).cast(pa.binary())


def copy_body(columns: list[Parts]) -> bytes:
    """Return what `COPY ... FROM STDIN (FORMAT binary)` reads, from one column a field.

    At least one part must be an array; the arrays' length is the number of rows.
    """
    head = pa.scalar(len(columns).to_bytes(2, "big"))
    parts = [part for column in columns for part in column]
    return b"".join([_HEADER, _joined([head, *parts]), _TRAILER])


def _joined(parts: Parts) -> memoryview:
    """Return the rows that these parts make, end to end; neighbours of one value go together."""
    parts = [
        pa.scalar(b"".join(part.as_py() for part in group)) if is_scalar else part
        for is_scalar, group in groupby(parts, key=lambda part: isinstance(part, pa.Scalar))
        for part in ([None] if is_scalar else group)
    ]
    rows = pc.binary_join_element_wise(*parts, pa.scalar(b""))
    offsets = np.frombuffer(rows.buffers()[1], dtype=np.int32)[rows.offset :][: len(rows) + 1]
    return memoryview(rows.buffers()[2])[offsets[0] : offsets[-1]]


def read_fixed(body: bytes, fields: list[tuple[str, str]]) -> NDArray[Any]:
    """Return the rows that a binary `COPY ... TO STDOUT` wrote, when no field is ever missing.

    Args:
        body: all of its output.
        fields: name and big-endian type of each, such as ("sequence", ">i8").

    Returns:
        A structured array of shape (n,).
    """
    layout: list[Any] = [("n_fields", ">i2")]
    for name, kind in fields:
        layout += [(f"{name}_length", ">i4"), (name, kind)]
    return np.frombuffer(body[len(_HEADER) : -len(_TRAILER)], dtype=np.dtype(layout))
