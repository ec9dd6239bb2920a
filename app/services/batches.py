"""Observations as columns: what a batch holds, how it is packed, and how its rows are read back.

A field of the input takes one column, `input:NAME`, where one Arrow type holds all its values.
Where whole numbers and fractions come mixed, the whole ones move to `whole:NAME`, so that 1 and 1.0
stay what they were; what no Arrow type holds, such as an integer beyond 64 bits, is kept as JSON in
`json:NAME`. Lists of equally many numbers are a column of fixed width, in single precision where
that loses nothing. Scores take `score:LABEL`, the answer `prediction`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import isnan
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
from numpy.typing import NDArray

from app.domain.identity import canonical_json
from app.domain.observations import Observation, microseconds, time_text
from app.services.times import array_of

_OPTIONS: Final = pyarrow.ipc.IpcWriteOptions(compression="lz4")
PREDICTION: Final = "prediction"


@dataclass(frozen=True, slots=True)
class Batch:
    """Observations as columns, each of length n, in order of arrival.

    Attributes:
        ids: strings, none missing.
        observed_at: microseconds since 1970, int64.
        versions: int32, missing where unknown.
        shadow: JSON objects as strings, missing where none came.
        labels: strings, missing where none came.
        body: predictions, inputs and scores, named as this module says.
    """

    ids: pa.StringArray
    observed_at: NDArray[np.int64]
    versions: pa.Int32Array
    shadow: pa.StringArray
    labels: pa.StringArray
    body: pa.Table

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, rows: Sequence[Observation]) -> Self:
        """Return the batch of valid observations."""
        scores = [row.scores or None for row in rows]
        columns = {PREDICTION: pa.array([row.prediction for row in rows], pa.string())}
        for name in sorted({name for row in rows for name in row.inputs}):
            columns |= packed(name, [row.inputs.get(name) for row in rows])
        return cls(
            ids=pa.array([row.id for row in rows], pa.string()),
            observed_at=np.array([microseconds(row.at) for row in rows], dtype=np.int64),
            versions=pa.array([row.version for row in rows], pa.int32()),
            shadow=pa.array(
                [canonical_json(dict(row.shadow)) if row.shadow else None for row in rows],
                pa.string(),
            ),
            labels=pa.array([row.label for row in rows], pa.string()),
            body=pa.table(columns | packed_scores(scores)),
        )

    def take(self, indices: NDArray[np.int64]) -> "Batch":
        """Return the rows at these places, in the order given."""
        chosen = pa.array(indices)
        return Batch(
            ids=self.ids.take(chosen),
            observed_at=self.observed_at[indices],
            versions=self.versions.take(chosen),
            shadow=self.shadow.take(chosen),
            labels=self.labels.take(chosen),
            body=self.body.take(chosen),
        )

    def firsts(self) -> "Batch":
        """Return the batch without the rows whose id came before in it."""
        codes = self.ids.dictionary_encode()
        if len(codes.dictionary) == len(self):
            return self
        _, places = np.unique(codes.indices.to_numpy(), return_index=True)
        return self.take(np.sort(places))


@dataclass(frozen=True, slots=True)
class Columns:
    """Stored observations as arrays, each of n rows, in order of arrival.

    Attributes:
        sequences: arrival numbers, int64.
        observed_at: microseconds since 1970, int64.
        through: arrival number of the last row read, whether or not its inputs are still there.
        predictions: labels, None where none came.
        inputs: by field; numbers float64 with NaN where missing, times datetime64 with NaT,
            embeddings (n, d) float64 with rows of NaN, other values objects with None.
        scores: by label; float64, NaN where none came.
    """

    sequences: NDArray[np.int64]
    observed_at: NDArray[np.int64]
    through: int
    predictions: NDArray[Any]
    inputs: Mapping[str, NDArray[Any]]
    scores: Mapping[str, NDArray[np.float64]]

    def __len__(self) -> int:
        return len(self.sequences)

    def cut_at(self, last: int) -> "Columns":
        """Return the rows up to an arrival number."""
        end = int(self.sequences.searchsorted(last, side="right"))
        return Columns(
            sequences=self.sequences[:end],
            observed_at=self.observed_at[:end],
            through=min(self.through, last),
            predictions=self.predictions[:end],
            inputs={name: values[:end] for name, values in self.inputs.items()},
            scores={name: values[:end] for name, values in self.scores.items()},
        )


def packed_scores(scores: Sequence[Mapping[str, float] | None]) -> dict[str, pa.Array]:
    """Return the columns of scores: one a label, missing where a row has none for it."""
    if not any(scores):
        return {}
    labels = sorted({label for row in scores if row for label in row})
    return {
        f"score:{label}": pa.array(
            [row.get(label) if row else None for row in scores], pa.float64()
        )
        for label in labels
    }


def packed(name: str, values: Sequence[Any]) -> dict[str, pa.Array]:
    """Return the columns of one field of the input, from its values in Python's types.

    Raises:
        UnicodeEncodeError: a string holds half a surrogate pair.
    """
    kinds = set(map(type, values)) - {type(None)}
    if kinds == {int, float}:
        whole = [value if type(value) is int else None for value in values]
        rest = [value if type(value) is float else None for value in values]
        return packed(name, rest) | _packed_whole(f"whole:{name}", name, whole)
    if kinds == {int}:
        return _packed_whole(f"input:{name}", name, values)
    if kinds == {list} and (lists := _packed_lists(values)) is not None:
        return {f"input:{name}": lists}
    arrow = {float: pa.float64(), str: pa.string(), bool: pa.bool_()}.get(next(iter(kinds), str))
    if arrow is None or len(kinds) > 1:
        return {f"json:{name}": _as_json(values)}
    return {f"input:{name}": pa.array(values, arrow)}


def _packed_whole(column: str, name: str, values: Sequence[Any]) -> dict[str, pa.Array]:
    try:
        return {column: pa.array(values, pa.int64())}
    except OverflowError:
        return {f"json:{name}": _as_json(values)}


def _packed_lists(values: Sequence[Any]) -> pa.Array | None:
    """Return lists of equally many fractions as a column; None where they are anything else."""
    present = [value for value in values if value is not None]
    is_even = len(set(map(len, present))) == 1 and present[0]
    if not is_even or set(map(type, chain.from_iterable(present))) != {float}:
        return None
    table = np.zeros((len(values), len(present[0])))
    missing = np.array([value is None for value in values], dtype=bool)
    flat = np.fromiter(chain.from_iterable(present), np.float64, len(present) * table.shape[1])
    table[~missing] = flat.reshape(len(present), -1)
    return embeddings(table, missing)


def embeddings(table: NDArray[Any], missing: NDArray[np.bool_]) -> pa.FixedSizeListArray:
    """Return the rows of (n, d) numbers as a column, in single precision where they are in it."""
    with np.errstate(over="ignore"):
        short = table.astype(np.float32)
    kept = short if np.array_equal(short, table) else table
    return pa.FixedSizeListArray.from_arrays(
        pa.array(kept.reshape(-1)), kept.shape[1], mask=pa.array(missing) if missing.any() else None
    )


def _as_json(values: Sequence[Any]) -> pa.Array:
    return pa.array([None if v is None else json.dumps(v) for v in values], pa.string())


def to_bytes(body: pa.Table) -> bytes:
    """Return a batch's body as an Arrow IPC stream, compressed column by column."""
    sink = pa.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, body.schema, options=_OPTIONS) as writer:
        writer.write_table(body)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]  # pyarrow is untyped


def from_bytes(body: bytes) -> pa.Table:
    """Read what `to_bytes` wrote."""
    return pyarrow.ipc.open_stream(body).read_all().combine_chunks()


def inputs_of(body: pa.Table) -> list[dict[str, Any]]:
    """Return the inputs of each row, as they were sent."""
    return _objects(body, {"input", "whole", "json"})


def scores_of(body: pa.Table) -> list[dict[str, float] | None]:
    """Return the scores of each row by label; None where none came."""
    return [scores or None for scores in _objects(body, {"score"})]


def _objects(body: pa.Table, kinds: set[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{} for _ in range(len(body))]
    for column in body.column_names:
        kind, _, name = column.partition(":")
        if kind not in kinds:
            continue
        for row, value in zip(rows, _plain(body.column(column)), strict=True):
            if value is not None:
                row[name] = json.loads(value) if kind == "json" else value
    return rows


def _plain(column: pa.ChunkedArray) -> list[Any]:
    """Return the values of a column in the types of JSON; times as RFC 3339 texts in UTC."""
    if not pa.types.is_timestamp(column.type):
        return list(column.to_pylist())
    numbers = column.cast(pa.int64()).to_pylist()
    return [None if number is None else time_text(number) for number in numbers]


def arrays_of(body: pa.Table, kinds: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return columns as arrays of n rows by name: numbers float64, NaN where missing.

    Times are datetime64, NaT where missing; embeddings (n, d) float64, rows of NaN where missing.
    Other values, and numbers beyond 64 bits, make it an array of objects, None where missing.

    Args:
        body: a batch's body.
        kinds: which columns: "input" (with its "whole" and "json"), or "score".
    """
    found: dict[str, NDArray[Any]] = {}
    for column in body.column_names:
        kind, _, name = column.partition(":")
        if kind in kinds:
            values = _array(body.column(column), is_json=kind == "json")
            found[name] = _merged(found[name], values) if name in found else values
    return found


def _array(column: pa.ChunkedArray, *, is_json: bool) -> NDArray[Any]:
    if is_json:
        values = [None if text is None else json.loads(text) for text in column.to_pylist()]
        return np.array([*values, None], dtype=object)[:-1]
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        array = pc.fill_null(column.cast(pa.float64(), safe=False), float("nan")).to_numpy()
        return np.asarray(array, dtype=np.float64)
    if pa.types.is_timestamp(column.type):
        return array_of(column)
    if pa.types.is_fixed_size_list(column.type):
        table = np.full((len(column), column.type.list_size), np.nan)
        flat = column.combine_chunks().flatten().to_numpy()  # without the missing ones
        table[column.is_valid().to_numpy()] = flat.reshape(-1, table.shape[1])
        return table
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=object)


def _merged(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    if first.dtype == second.dtype == np.float64:
        return np.where(np.isnan(first), second, first)
    one, other = (array.astype(object) for array in (first, second))
    missing = np.array([v is None or (type(v) is float and isnan(v)) for v in one], dtype=bool)
    return np.where(missing, other, one)
