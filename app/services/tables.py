"""Rows out of a request's body: JSON, NDJSON, Parquet or Arrow IPC; images as PNG or arrays."""

import base64
import contextlib
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
from PIL import Image

from app.domain.errors import Fault, Invalid
from app.domain.observations import FieldType, InputContract
from app.services.times import to_microseconds

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
PARQUET: Final = "application/vnd.apache.parquet"
ARROW: Final = "application/vnd.apache.arrow.stream"
MEDIA_TYPES: Final = (JSON, NDJSON, PARQUET, ARROW)


def read(body: bytes, media_type: str, *, key: str) -> "list[Any] | pa.Table":
    """Return the rows of a body: a table of Arrow's formats, else a list of whatever was sent.

    Args:
        body: the request's bytes.
        media_type: the Content-Type.
        key: the field that holds the rows in a JSON object, such as "observations".

    Raises:
        Invalid: it cannot be parsed at all; a bad NDJSON line is a bad row, not a bad body.
    """
    kind = media_type.partition(";")[0].strip().lower() or JSON
    if kind == JSON:
        return _json_rows(body, key)
    if kind in {NDJSON, "application/ndjson", "application/jsonl"}:
        return [_json_line(line) for line in body.splitlines() if line.strip()]
    if kind in {PARQUET, "application/x-parquet"}:
        return _table(body, pq.read_table, "Parquet file")
    if kind in {ARROW, "application/vnd.apache.arrow.file"}:
        return _table(body, _read_arrow, "Arrow IPC stream")
    raise Invalid(
        f"cannot read {kind}",
        [Fault("/content-type", f"use one of {', '.join(MEDIA_TYPES)}")],
    )


def read_rows(body: bytes, media_type: str, *, key: str) -> list[Any]:
    """Return the rows of a body; each is an object, or whatever else the client put there.

    Raises:
        Invalid: as `read`, or a value of a table has no counterpart in Python.
    """
    found = read(body, media_type, key=key)
    return found if isinstance(found, list) else rows_of_table(found)


def rows_of_table(table: pa.Table) -> list[Any]:
    """Return the rows of a table as objects.

    Raises:
        Invalid: a value has no counterpart in Python, such as a time beyond its calendar.
    """
    with _readable("table"):
        rows: list[Any] = table.to_pylist()
    return rows


def _json_rows(body: bytes, key: str) -> list[Any]:
    try:
        parsed = _parsed(body)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"the body is not JSON in UTF-8: {error}") from error
    rows = parsed.get(key) if isinstance(parsed, dict) else parsed
    if not isinstance(rows, list):
        raise Invalid(
            "the body holds no rows",
            [Fault(f"/{key}", f'send {{"{key}": [...]}} with at least one row')],
        )
    return rows


def _json_line(line: bytes) -> Any:
    try:
        return _parsed(line)
    except (ValueError, RecursionError):
        return line[:200].decode("utf-8", "replace")


def _parsed(text: bytes) -> Any:
    """Return the value of a JSON text.

    What is odd in one value only (half a surrogate pair, NaN, a number beyond all bounds) is let
    through, so that it costs its row and not the whole body.
    """
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return json.loads(text)


def _read_arrow(source: io.BytesIO) -> pa.Table:
    return pyarrow.ipc.open_stream(source).read_all()


def _table(body: bytes, read: Any, what: str) -> pa.Table:
    """Return a table whose offsets, indices and texts were all looked at: none can be trusted."""
    with _readable(what):
        table = read(io.BytesIO(body))
        table.validate(full=True)
        return to_microseconds(table)


@contextlib.contextmanager
def _readable(what: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, ArithmeticError, TypeError) as error:
        raise Invalid(f"the body is not a readable {what}: {error}") from error


def nested(row: Any, contract: InputContract, own: Sequence[str]) -> Any:
    """Return a row with its input fields under `inputs`, images as base64 PNG.

    A flat row, as tables have it, is folded: the contract's fields go under `inputs`, those named
    in `own` stay where they are.
    """
    if not isinstance(row, dict):
        return row
    if "inputs" in row:
        inputs = row["inputs"]
        rest = {key: value for key, value in row.items() if key != "inputs"}
    else:
        inputs = {key: value for key, value in row.items() if key not in own}
        rest = {key: value for key, value in row.items() if key in own}
    if not isinstance(inputs, dict):
        return row
    pictures = {field.name for field in contract.fields if field.type is FieldType.IMAGE}
    folded = {key: _as_png(value) if key in pictures else value for key, value in inputs.items()}
    return {**{key: value for key, value in rest.items() if value is not None}, "inputs": folded}


def _as_png(value: Any) -> Any:
    """Return PNG bytes or an array of pixels as base64 PNG; anything else as it came."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if not isinstance(value, list):
        return value
    try:
        pixels = np.asarray(value)
    except ValueError:
        return value
    shaped = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in {1, 3, 4})
    in_range = pixels.size > 0 and pixels.dtype.kind in "iu" and 0 <= pixels.min() <= 255
    if not shaped or not in_range or pixels.max() > 255:
        return value
    is_grey = pixels.ndim == 3 and pixels.shape[2] == 1
    sink = io.BytesIO()
    Image.fromarray((pixels[:, :, 0] if is_grey else pixels).astype(np.uint8)).save(sink, "PNG")
    return base64.b64encode(sink.getvalue()).decode()
