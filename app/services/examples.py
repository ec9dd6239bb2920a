"""Examples on disk: a Parquet table of id, inputs (canonical JSON), label and when observed."""

import io
import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from app.domain.identity import canonical_json, content_hash
from app.services.ports import Artifacts, Dataset, Example
from app.services.times import INSTANTS

_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("inputs", pa.string()),
        ("label", pa.string()),
        ("observed_at", INSTANTS),
    ]
)


def to_parquet(examples: Sequence[Example]) -> bytes:
    """Return the one Parquet file of these rows; the same rows give the same bytes."""
    table = pa.table(
        {
            "id": [example.id for example in examples],
            "inputs": [canonical_json(example.inputs) for example in examples],
            "label": [example.label for example in examples],
            "observed_at": [example.observed_at for example in examples],
        },
        schema=_SCHEMA,
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=4096)
    return sink.getvalue()


def from_parquet(data: bytes) -> list[Example]:
    """Read what `to_parquet` wrote."""
    table = pq.read_table(io.BytesIO(data))
    return [
        Example(
            row["id"], json.loads(row["inputs"]), row["label"], observed_at=row.get("observed_at")
        )
        for row in table.to_pylist()
    ]


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


def snapshot_hash(examples: Sequence[Example]) -> str:
    """Return one SHA-256 over the content of rows, whatever their order or storage."""
    lines = sorted(f"{input_hash(row.inputs)} {row.label}" for row in examples)
    return sha256("\n".join(lines).encode()).hexdigest()
