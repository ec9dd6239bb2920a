"""Rows on disk are the same bytes however they are written, and their hash is of their content."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.artifacts import FileArtifacts, sha256_of
from app.domain.errors import NotFound, Unavailable
from app.services.examples import (
    KeptRows,
    from_parquet,
    input_hash,
    keep,
    snapshot_hash,
    to_parquet,
    write_parquet,
)
from app.services.ports import Example

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def examples(n: int) -> list[Example]:
    return [
        Example(f"row-{k}", {"text": f"text {k} é"}, "ab"[k % 2], observed_at=NOON + timedelta(k))
        for k in range(n)
    ]


@pytest.mark.parametrize("n", [0, 1, 4096, 9000])
def test_rows_written_little_by_little_are_the_same_bytes(tmp_path: Path, n: int) -> None:
    rows = examples(n)
    write_parquet(tmp_path / "rows", iter(rows))
    data = (tmp_path / "rows").read_bytes()
    assert data == to_parquet(rows)
    assert from_parquet(data) == rows


def test_rows_of_many_bytes_are_read_few_at_a_time(tmp_path: Path) -> None:
    rows = [Example(str(k), {"image": str(k) * 3_000_000}, "a") for k in range(9)]
    kept = keep(FileArtifacts(tmp_path), iter(rows))
    assert pq.ParquetFile(kept.path).num_row_groups == 2
    assert [row.id for row in kept] == [row.id for row in rows]
    assert kept[8] == rows[8]


def test_kept_rows_can_be_gone_through_again_and_again(tmp_path: Path) -> None:
    artifacts, rows = FileArtifacts(tmp_path), examples(9000)
    kept = keep(artifacts, iter(rows))
    assert list(kept) == list(kept) == rows
    assert len(kept) == 9000
    assert kept[5000] == rows[5000]
    assert kept[-3:] == rows[-3:]
    assert artifacts.read(kept.sha256) == to_parquet(rows)
    assert list(KeptRows(artifacts, kept.sha256)) == rows


def test_writing_that_fails_stores_nothing(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise InterruptedError

    with pytest.raises(InterruptedError):
        FileArtifacts(tmp_path).put_written(fail)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_or_absent_artifact_is_refused(tmp_path: Path) -> None:
    artifacts = FileArtifacts(tmp_path)
    kept = keep(artifacts, examples(3))
    assert sha256_of(artifacts.checked(kept.sha256)) == kept.sha256
    kept.path.write_bytes(b"other")
    with pytest.raises(Unavailable, match="restore it"):
        KeptRows(artifacts, kept.sha256)
    with pytest.raises(NotFound):
        artifacts.checked("0" * 64)


ROWS = st.lists(
    st.builds(
        Example,
        st.text(max_size=3),
        st.dictionaries(st.sampled_from("ab"), st.integers(0, 2), max_size=2),
        st.sampled_from(["", "a", "b", "a b", "é", "Z"]),
    ),
    max_size=20,
)


@given(ROWS)
def test_the_hash_of_a_snapshot_is_of_its_sorted_lines(rows: list[Example]) -> None:
    lines = sorted(f"{input_hash(row.inputs)} {row.label}" for row in rows)
    assert snapshot_hash(rows) == sha256("\n".join(lines).encode()).hexdigest()
    assert snapshot_hash(rows[::-1]) == snapshot_hash(rows)
