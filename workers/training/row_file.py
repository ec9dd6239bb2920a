"""Where does what is known of each row lie, so that memory does not grow with the rows?

In a nameless file of the temporary folder, which the training process puts into its job's. It is
read with calls, not mapped: what was read leaves with the batch it was read for.
"""

import math
import os
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Item = TypeVar("Item")


def batched(items: Iterable[Item], n: int) -> Iterator[list[Item]]:
    """Yield items in lists of n, the last one of what is left."""
    source = iter(items)
    while found := list(islice(source, n)):
        yield found


class RowFile:
    """An array for each row, of shape (length, *shape) and one type; 16 bytes of memory a row.

    Attributes:
        lengths: of each row, shape (n,).
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],
        kind: Any,  # whatever numpy takes for a type
        shape: tuple[int, ...] = (),
    ) -> None:
        """Lay out rows of these lengths, all of them zeros."""
        self.lengths = lengths
        self._ends = np.cumsum(lengths)
        self._kind, self._shape = np.dtype(kind), shape
        self._unit = int(self._kind.itemsize) * math.prod(shape)
        with tempfile.TemporaryFile() as file:
            file.truncate(int(lengths.sum()) * self._unit)
            self._fd = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._fd)

    @classmethod
    def of(cls, rows: Iterable[Array], kind: Any, shape: tuple[int, ...] = ()) -> Self:
        """Write rows one after another, whatever their lengths."""
        made, lengths = cls(np.zeros(0, dtype=np.int64), kind, shape), array("q")
        with os.fdopen(os.dup(made._fd), "wb") as file:
            for row in rows:
                lengths.append(len(row))
                file.write(np.ascontiguousarray(row, dtype=kind).data)
        made.lengths = np.array(lengths, dtype=np.int64)
        made._ends = np.cumsum(made.lengths)
        return made

    def __len__(self) -> int:
        return len(self.lengths)

    def _start(self, row: int) -> int:
        return (int(self._ends[row]) - int(self.lengths[row])) * self._unit

    def put(self, row: int, values: Array) -> None:
        """Write a row in its place."""
        left, at = np.ascontiguousarray(values).data.cast("B"), self._start(row)
        while left:
            done = os.pwrite(self._fd, left, at)
            left, at = left[done:], at + done

    def __getitem__(self, row: int) -> Array:
        size = int(self.lengths[row]) * self._unit
        data = os.pread(self._fd, size, self._start(row))
        return np.frombuffer(data, dtype=self._kind).reshape(-1, *self._shape)
