"""Rows of a file are found by number, by slice and in order, and reading can be stopped."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.services.stored_rows import READ_ROWS, StoredRows

N = 1000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    pq.write_table(pa.table({"n": range(N)}), tmp_path / "rows", row_group_size=300)
    return tmp_path / "rows"


def test_rows_of_several_groups_are_found_by_number_and_by_slice(path: Path) -> None:
    rows = StoredRows(path, ["n"], lambda row, _: int(row["n"]))
    assert len(rows) == N
    assert list(rows) == list(rows) == list(range(N))
    assert [rows[row] for row in (0, 299, 300, 999, -1)] == [0, 299, 300, 999, 999]
    assert rows[298:302] == [298, 299, 300, 301]
    with pytest.raises(IndexError):
        rows[N]


def test_a_row_is_made_with_its_number(path: Path) -> None:
    rows = StoredRows(path, ["n"], lambda row, number: number - int(row["n"]))
    assert set(rows) == {0}
    assert rows[700] == 0


def test_going_through_rows_can_be_stopped(path: Path) -> None:
    seen: list[int] = []

    def between(done: int) -> None:
        seen.append(done)
        if len(seen) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        list(StoredRows(path, ["n"], lambda row, _: row, between))
    assert seen[0] == READ_ROWS
