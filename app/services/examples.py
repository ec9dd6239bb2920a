"""Examples on disk: a Parquet table of id, inputs (canonical JSON), label and when observed."""

import io
import json
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.domain.identity import canonical_json, content_hash
from app.services.ports import Artifacts, Dataset, Example
from app.services.stored_rows import StoredRows
from app.services.times import INSTANTS

_GROUP_ROWS: Final = 4096
_GROUP_CHARACTERS: Final = 16 * 1024 * 1024
_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("inputs", pa.string()),
        ("label", pa.string()),
        ("observed_at", INSTANTS),
    ]
)
_WORKING_SCHEMA = _SCHEMA.append(pa.field("difficulty", pa.float64()))
"""Of rows that are still being chosen from."""


def to_parquet(examples: Iterable[Example]) -> bytes:
    """Return the one Parquet file of these rows; the same rows give the same bytes."""
    sink = io.BytesIO()
    write_parquet(sink, examples)
    return sink.getvalue()


def write_parquet(
    sink: Path | BinaryIO, examples: Iterable[Example], schema: pa.Schema = _SCHEMA
) -> None:
    """Write the same file somewhere, one row group in memory at a time."""
    with pq.ParquetWriter(sink, schema, compression="zstd") as file:
        for group in _groups(examples, schema.names):
            file.write_table(pa.table(group, schema=schema))


def _groups(examples: Iterable[Example], names: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
    """Yield columns of so many rows as are read at once: few of them, or few bytes."""
    group: dict[str, list[Any]] = {name: [] for name in names}
    n_characters = n_groups = 0
    for row in examples:
        inputs = canonical_json(row.inputs)
        for name, column in group.items():
            column.append(inputs if name == "inputs" else getattr(row, name))
        n_characters += len(inputs)
        if len(group["id"]) == _GROUP_ROWS or n_characters >= _GROUP_CHARACTERS:
            yield group
            group = {name: [] for name in names}
            n_characters, n_groups = 0, n_groups + 1
    if group["id"] or not n_groups:
        yield group


def stored(path: Path, examples: Iterable[Example]) -> StoredRows[Example]:
    """Write rows to a path, their difficulty too, and return them to be gone through."""
    write_parquet(path, examples, _WORKING_SCHEMA)
    return StoredRows(path, _WORKING_SCHEMA.names, lambda row, _: _example(row))


class KeptRows(StoredRows[Example]):
    """Rows of an artifact, to be gone through.

    Attributes:
        sha256: of the file.
        size_bytes: of the file.
    """

    def __init__(self, artifacts: Artifacts, sha256: str) -> None:
        path = artifacts.checked(sha256)
        super().__init__(path, _SCHEMA.names, lambda row, _: _example(row))
        self.sha256, self.size_bytes = sha256, path.stat().st_size


def keep(artifacts: Artifacts, examples: Iterable[Example]) -> KeptRows:
    """Store rows as an artifact."""
    sha256, _ = artifacts.put_written(lambda path: write_parquet(path, examples))
    return KeptRows(artifacts, sha256)


def from_parquet(data: bytes) -> list[Example]:
    """Read what `to_parquet` wrote."""
    table = pq.read_table(io.BytesIO(data))
    return [_example(row) for row in table.to_pylist()]


def _example(row: Mapping[str, Any]) -> Example:
    inputs, label = json.loads(row["inputs"]), sys.intern(row["label"])
    observed_at, difficulty = row.get("observed_at"), row.get("difficulty")
    return Example(row["id"], inputs, label, observed_at=observed_at, difficulty=difficulty)


def rows_of(artifacts: Artifacts, datasets: Sequence[Dataset]) -> list[Example]:
    """Return the rows of datasets, in their order."""
    return [row for dataset in datasets for row in from_parquet(artifacts.read(dataset.sha256))]


def input_hash(inputs: Mapping[str, Any]) -> str:
    """Return the content hash by which a row is recognised wherever it turns up."""
    return content_hash(dict(inputs))


def row_key(row: Example, *, may_repeat: bool) -> str:
    """Return by what a row is recognised wherever it turns up.

    Args:
        row: any row.
        may_repeat: whether different rows may well look alike, as those of few columns do, so
            that content alone does not tell a row from another; then its id has a say.
    """
    digest = input_hash(row.inputs)
    return f"{digest} {row.id}" if may_repeat else digest


class SnapshotHash:
    """One SHA-256 over the content of rows, whatever their order or storage.

    Of the sorted lines "<content hash> <label>"; 40 bytes are held of each row until then.
    """

    def __init__(self) -> None:
        self._hashes = bytearray()
        self._labels = array("q")
        self._places: dict[str, int] = {}

    def of(self, examples: Iterable[Example]) -> Iterator[Example]:
        """Pass rows on, and count them in."""
        for row in examples:
            self._hashes += bytes.fromhex(input_hash(row.inputs))
            self._labels.append(self._places.setdefault(row.label, len(self._places)))
            yield row

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def n_labels(self) -> int:
        """Return how many different labels the rows have."""
        return len(self._places)

    def hexdigest(self) -> str:
        """Return the hash of all rows so far."""
        names = sorted(self._places)
        rank = np.empty(len(names), dtype=np.int64)
        rank[[self._places[name] for name in names]] = np.arange(len(names))
        labels = rank[np.frombuffer(self._labels, dtype=np.int64)] if names else rank
        hashes = np.frombuffer(bytes(self._hashes), dtype="S32")
        digest = sha256()
        for place, row in enumerate(np.lexsort((labels, hashes))):
            start = 32 * int(row)
            line = f"{self._hashes[start : start + 32].hex()} {names[labels[row]]}"
            digest.update(f"\n{line}".encode() if place else line.encode())
        return digest.hexdigest()


def snapshot_hash(examples: Iterable[Example]) -> str:
    """Return one SHA-256 over the content of rows, whatever their order or storage."""
    found = SnapshotHash()
    for _ in found.of(examples):
        pass
    return found.hexdigest()
