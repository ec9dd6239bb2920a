"""Rows in a file come back as they were written."""

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from workers.training.row_file import RowFile, batched


def test_rows_come_back_in_any_order() -> None:
    draw = np.random.default_rng(0)
    rows = [draw.integers(0, 60_000, n).astype(np.uint16) for n in (3, 1, 0, 7)]
    stored = RowFile.of(iter(rows), np.uint16)
    assert stored.lengths.tolist() == [3, 1, 0, 7]
    for place in (3, 0, 2, 1):
        np.testing.assert_array_equal(stored[place], rows[place])
    assert stored[1].dtype == np.uint16


def test_rows_of_known_lengths_can_be_written_in_any_order() -> None:
    stored = RowFile(np.asarray([2, 3, 1]), np.float32, (4,))
    for place in (2, 0, 1):
        stored.put(place, np.full((int(stored.lengths[place]), 4), place, dtype=np.float32))
    assert [stored[place].shape for place in range(3)] == [(2, 4), (3, 4), (1, 4)]
    assert [float(stored[place].mean()) for place in range(3)] == [0.0, 1.0, 2.0]


def test_no_rows_are_no_error() -> None:
    stored = RowFile.of(iter([]), np.int32)
    assert len(stored) == 0
    with pytest.raises(IndexError):
        stored[0]


def open_files() -> set[tuple[int, int]]:
    """Read device and inode of every file this process holds open."""
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the listing's own descriptor is closed by now
            status = path.stat()
            found.add((status.st_dev, status.st_ino))
    return found


def test_the_file_is_closed_with_its_rows() -> None:
    stored = RowFile.of(iter([np.ones(3)]), np.float64)
    status = os.fstat(stored._fd)
    its_file = (status.st_dev, status.st_ino)
    assert its_file in open_files()
    del stored
    assert its_file not in open_files()


def test_items_come_in_lists_of_a_size() -> None:
    assert list(batched(range(5), 2)) == [[0, 1], [2, 3], [4]]
