"""How are the rows of a Parquet file gone through without holding them all?"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import pyarrow.parquet as pq

READ_ROWS = 256
Value = TypeVar("Value", covariant=True)  # noqa: PLC0105  # as plain as the rest


class StoredRows(Sequence[Value]):
    """Values of a file's rows, read anew, a few rows at a time, whenever they are used.

    Attributes:
        path: of the file.
    """

    def __init__(
        self,
        path: Path,
        columns: Sequence[str],
        read: Callable[[Mapping[str, Any], int], Value],
        between: Callable[[int], None] = lambda done: None,
    ) -> None:
        """Read none yet.

        Args:
            path: of the file.
            columns: that a value is made of.
            read: makes a value of one row's columns and its number.
            between: called with the rows read after every few; may raise to stop.
        """
        self.path, self._columns, self._read, self._between = path, list(columns), read, between
        with pq.ParquetFile(path) as file:
            sizes = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
        self._starts = [0, *np.cumsum(sizes, dtype=np.int64).tolist()]

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __iter__(self) -> Iterator[Value]:
        row = 0
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(READ_ROWS, columns=self._columns, use_threads=False):
                for value in batch.to_pylist():
                    yield self._read(value, row)
                    row += 1
                self._between(row)

    @overload
    def __getitem__(self, index: int) -> Value: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Value]: ...
    def __getitem__(self, index: int | slice) -> Value | Sequence[Value]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        row = range(len(self))[index]
        group = bisect_right(self._starts, row) - 1
        with pq.ParquetFile(self.path) as file:
            table = file.read_row_group(group, columns=self._columns, use_threads=False)
        (found,) = table.slice(row - self._starts[group], 1).to_pylist()
        return self._read(found, row)
