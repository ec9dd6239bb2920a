"""What does a model see now, as counts that rows are added to and leave block by block?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from app.domain.profiles import Codes, Counts, Layout
from app.domain.reference import MAXIMUM_ROWS, packed, unpacked

N_BLOCKS: Final = 32
EXACT_ROWS: Final = MAXIMUM_ROWS - 2 * N_BLOCKS
"""The largest window of which every row's bins are kept; samples of larger ones are no larger."""


@dataclass(frozen=True)
class Block:
    """Consecutive rows of a window.

    Attributes:
        first: arrival number of its oldest row.
        last: of its newest.
        n_rows: how many there are.
        first_at: time of the earliest observation, microseconds since 1970.
        last_at: of the latest.
        codes: (c, k) bins of every row, or of rows spread evenly over it where a window is large.
        sequences: (k,) arrival numbers of those.
        times: (k,) when they were observed, microseconds since 1970.
        counts: (c, width) of all rows; None where `codes` has every one.
    """

    first: int
    last: int
    n_rows: int
    first_at: int
    last_at: int
    codes: Codes
    sequences: NDArray[np.int64]
    times: NDArray[np.int64]
    counts: Counts | None = None

    def body(self) -> bytes:
        """Return its arrays as bytes."""
        arrays: dict[str, NDArray[Any]] = {
            "codes": self.codes,
            "sequences": self.sequences,
            "times": self.times,
        }
        if self.counts is not None:
            arrays["counts"] = self.counts.astype(np.int32)
        return packed(**arrays)

    @classmethod
    def read(
        cls, body: bytes, *, first: int, last: int, n_rows: int, first_at: int, last_at: int
    ) -> Self:
        """Read what `body` wrote."""
        arrays = unpacked(body)
        counts = arrays["counts"].astype(np.int64) if "counts" in arrays else None
        kept = arrays["codes"], arrays["sequences"], arrays["times"]
        return cls(first, last, n_rows, first_at, last_at, *kept, counts)

    def followed_by(self, other: "Block") -> "Block":
        """Return one block of both."""
        return Block(
            first=self.first,
            last=other.last,
            n_rows=self.n_rows + other.n_rows,
            first_at=min(self.first_at, other.first_at),
            last_at=max(self.last_at, other.last_at),
            codes=np.concatenate([self.codes, other.codes], axis=1),
            sequences=np.concatenate([self.sequences, other.sequences]),
            times=np.concatenate([self.times, other.times]),
            counts=None
            if self.counts is None or other.counts is None
            else self.counts + other.counts,
        )

    def without_oldest(self, n: int) -> "Block":
        """Return the block without its oldest n rows; every row's codes must be there."""
        return replace(
            self,
            first=int(self.sequences[n]),
            n_rows=self.n_rows - n,
            first_at=int(self.times[n:].min()),
            last_at=int(self.times[n:].max()),
            codes=self.codes[:, n:],
            sequences=self.sequences[n:],
            times=self.times[n:],
        )


@dataclass(frozen=True)
class WindowCounts:
    """The newest rows of a version, at most `window_rows`, in blocks of arrival.

    Up to `EXACT_ROWS` rows every row's bins are kept, and the window ends exactly; above, blocks
    keep counts and an even sample, and whole blocks leave.

    Attributes:
        window_rows: how many rows there may be.
        blocks: oldest first.
    """

    window_rows: int
    blocks: tuple[Block, ...] = ()

    @property
    def stride(self) -> int:
        """Of so many rows in a block, one has its bins kept."""
        return -(-self.window_rows // EXACT_ROWS)

    @property
    def block_rows(self) -> int:
        """How many rows fill a block."""
        return -(-self.window_rows // N_BLOCKS)

    @cached_property
    def n_rows(self) -> int:
        """How many rows there are."""
        return sum(block.n_rows for block in self.blocks)

    @property
    def first(self) -> int:
        """Arrival number of the oldest row; 0 without any."""
        return self.blocks[0].first if self.blocks else 0

    @property
    def through(self) -> int:
        """Arrival number of the newest row; 0 without any."""
        return self.blocks[-1].last if self.blocks else 0

    def counts(self, layout: Layout) -> Counts:
        """Return how many values fell into each bin, (c, width)."""
        if all(block.counts is None for block in self.blocks):
            return layout.count(self.codes(layout))
        return sum(
            (
                layout.count(block.codes) if block.counts is None else block.counts
                for block in self.blocks
            ),
            start=np.zeros((len(layout.columns), layout.width), dtype=np.int64),
        )

    def codes(self, layout: Layout) -> Codes:
        """Return the bins of the rows they are kept of, (c, k), in order of arrival."""
        none = np.empty((len(layout.columns), 0), dtype=np.uint8)
        return np.concatenate([none, *(block.codes for block in self.blocks)], axis=1)

    def times(self) -> NDArray[np.int64]:
        """Return when the rows that bins are kept of were observed, (k,)."""
        none = np.empty(0, dtype=np.int64)
        return np.concatenate([none, *(block.times for block in self.blocks)])

    def with_rows(
        self,
        layout: Layout,
        codes: Codes,
        *,
        sequences: NDArray[np.int64],
        observed_at: NDArray[np.int64],
    ) -> "WindowCounts":
        """Return the window after more rows came.

        Args:
            layout: what the codes mean.
            codes: (c, n) their bins, in order of arrival.
            sequences: (n,) their arrival numbers, all above `through`.
            observed_at: (n,) microseconds since 1970.
        """
        blocks = list(self.blocks)
        start = max(0, len(sequences) - self.window_rows)  # the others would leave at once
        while start < len(sequences):
            is_open = bool(blocks) and blocks[-1].n_rows < self.block_rows
            n_before = blocks[-1].n_rows if is_open else 0
            end = start + self.block_rows - n_before
            rows = slice(start, end)
            block = self._block(
                layout, codes[:, rows], sequences[rows], observed_at[rows], -n_before % self.stride
            )
            if is_open:
                blocks[-1] = blocks[-1].followed_by(block)
            else:
                blocks.append(block)
            start = end
        return replace(self, blocks=self._newest(blocks))

    def _block(
        self,
        layout: Layout,
        codes: Codes,
        sequences: NDArray[np.int64],
        observed_at: NDArray[np.int64],
        offset: int,
    ) -> Block:
        return Block(
            first=int(sequences[0]),
            last=int(sequences[-1]),
            n_rows=len(sequences),
            first_at=int(observed_at.min()),
            last_at=int(observed_at.max()),
            codes=codes[:, offset :: self.stride],
            sequences=sequences[offset :: self.stride],
            times=observed_at[offset :: self.stride],
            counts=layout.count(codes) if self.stride > 1 else None,
        )

    def _newest(self, blocks: Sequence[Block]) -> tuple[Block, ...]:
        """Return blocks without what left the window."""
        n_over = sum(block.n_rows for block in blocks) - self.window_rows
        kept = list(blocks)
        while n_over > 0:
            oldest = kept[0]
            if oldest.n_rows <= n_over or oldest.counts is not None:
                n_over -= kept.pop(0).n_rows
            else:
                kept[0] = oldest.without_oldest(n_over)
                n_over = 0
        return tuple(kept)

    def cut_to(self, window_rows: int) -> "WindowCounts":
        """Return the window under another size; empty where its blocks do not fit that one."""
        if window_rows == self.window_rows:
            return self
        other = WindowCounts(window_rows)
        if other.stride != self.stride or window_rows > self.window_rows:
            return other
        return replace(other, blocks=other._newest(self.blocks))
