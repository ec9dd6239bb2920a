"""What a version was accepted on, as counts: small, mergeable, and enough to judge a window by."""

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8]
Counts = NDArray[np.int64]
BlockCounts = NDArray[np.float64]  # whole numbers, as only products of them are wanted

N_BINS: Final = 64
TAILS: Final = (0.001, 0.002, 0.005, 0.01)
HEAVY_SHARE: Final = 1 / 128
MAXIMUM_CATEGORIES: Final = 200
MISSING: Final = 255
"""The code of a value that is not there."""
UNSEEN: Final = 254
"""The code of a category that the reference never showed."""
UNREAD: Final = 253
"""The code of a value that nobody looked at: it counts neither as there nor as missing."""
MAXIMUM_STEPS: Final = 64


def numbers_of(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return values as (n,) float64; what is no number becomes NaN."""
    try:
        return np.asarray(values, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        return np.array([_number(value) for value in values], dtype=np.float64)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


@dataclass(frozen=True, slots=True)
class NumericBins:
    """How the values of one numeric column are binned: by quantiles of the reference.

    Bin b holds the values in [edges[b - 1], edges[b]); the first lies below everything the
    reference showed, the last above. A value that is tied often has a bin of its own.

    Attributes:
        edges: (k,) strictly increasing, k <= 250, for k + 1 bins.
    """

    edges: NDArray[np.float64]

    @property
    def n_bins(self) -> int:
        """How many bins there are, the two beyond the reference included."""
        return len(self.edges) + 1

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Self:
        """Fit the bins to a reference column, (n,) float; what is not finite is left out."""
        known = np.sort(values[np.isfinite(values)])
        if not len(known):
            return cls(np.empty(0))
        middle = np.arange(1, N_BINS) / N_BINS
        shares = np.unique(np.concatenate([middle, TAILS, 1 - np.asarray(TAILS)]))
        cuts = known[np.minimum((shares * len(known)).astype(int), len(known) - 1)]
        starts = np.flatnonzero(np.r_[True, known[1:] != known[:-1]])
        repeats = np.diff(np.r_[starts, len(known)])
        is_heavy = repeats >= max(2.0, HEAVY_SHARE * len(known))
        heavy = known[starts[is_heavy]]
        beyond = np.nextafter(np.r_[heavy, known[-1]], np.inf)
        return cls(np.unique(np.concatenate([known[:1], cuts, heavy, beyond])))

    def codes(self, values: NDArray[Any]) -> Codes:
        """Return the bin of each value, (n,); `MISSING` where it is no finite number."""
        numbers = numbers_of(values)
        codes = self.edges.searchsorted(numbers, side="right").astype(np.uint8)
        unknown = ~np.isfinite(numbers)
        if unknown.any():
            codes[unknown] = MISSING
        return codes


@dataclass(frozen=True, slots=True)
class CategoryBins:
    """How the values of one categorical column are binned: a bin a category, rare ones together.

    Attributes:
        categories: the frequent categories of the reference, most frequent first.
        rare: fingerprints of the others that it showed, all in the bin after those.
        n_singletons: how many categories it showed only once: what Good and Turing estimate the
            chance of an unseen one from.
    """

    categories: tuple[str, ...]
    rare: frozenset[int] = frozenset()
    n_singletons: int = 0

    @property
    def n_bins(self) -> int:
        """How many bins there are, the one of rare categories included where there are any."""
        return len(self.categories) + bool(self.rare)

    @classmethod
    def of(cls, values: NDArray[Any]) -> Self:
        """Fit the bins to a reference column, (n,) object with None where missing."""
        known, counts = np.unique([str(v) for v in values if _is_known(v)], return_counts=True)
        order = np.argsort(-counts, kind="stable")
        names = tuple(str(known[i]) for i in order)
        return cls(
            names[:MAXIMUM_CATEGORIES],
            frozenset(map(_fingerprint, names[MAXIMUM_CATEGORIES:])),
            int((counts == 1).sum()) if len(counts) else 0,
        )

    def codes(self, values: NDArray[Any]) -> Codes:
        """Return the bin of each value, (n,); `UNSEEN` and `MISSING` where it has none."""
        table: dict[Any, int] = {name: code for code, name in enumerate(self.categories)}
        table[None] = MISSING
        codes = list(map(table.get, values.tolist()))
        if None in codes:
            codes = [
                self._other_code(v, table) if c is None else c
                for c, v in zip(codes, values, strict=True)
            ]
        return np.array(codes, dtype=np.uint8)

    def _other_code(self, value: Any, table: Mapping[Any, int]) -> int:
        if not _is_known(value):
            return MISSING
        name = str(value)
        is_rare = name not in table and _fingerprint(name) in self.rare
        return len(self.categories) if is_rare else table.get(name, UNSEEN)


def _is_known(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _fingerprint(name: str) -> int:
    return zlib.crc32(name.encode("utf-8", "surrogatepass"))


Bins = NumericBins | CategoryBins


def bins_of(document: Mapping[str, Any], rare: NDArray[np.uint32]) -> Bins:
    """Read what `Column.document` says of its bins, given the fingerprints of what is rare."""
    if "edges" in document:
        return NumericBins(np.asarray(document["edges"], dtype=np.float64))
    return CategoryBins(
        tuple(document["categories"]), frozenset(rare.tolist()), document["n_singletons"]
    )


@dataclass(frozen=True, slots=True)
class Column:
    """One watched signal: a field of the input, something measured of it, or an answer.

    Attributes:
        name: the signal's name, such as `amount` or `confidence`.
        bins: how its values are counted.
    """

    name: str
    bins: Bins

    @property
    def is_numeric(self) -> bool:
        """Whether its values are ordered."""
        return isinstance(self.bins, NumericBins)

    def document(self) -> dict[str, Any]:
        """Return the column as JSON values, without the fingerprints of its rare categories."""
        if isinstance(self.bins, NumericBins):
            return {"name": self.name, "edges": self.bins.edges.tolist()}
        return {
            "name": self.name,
            "categories": list(self.bins.categories),
            "n_rare": len(self.bins.rare),
            "n_singletons": self.bins.n_singletons,
        }


@dataclass(frozen=True)
class Layout:
    """The columns that are counted together, in a fixed order.

    Counts are kept as one matrix (c, width): the bins of each column from the left, and in the
    last two places the unseen and the missing.
    """

    columns: tuple[Column, ...]

    @classmethod
    def of(cls, table: Mapping[str, NDArray[Any]]) -> Self:
        """Fit the bins to a reference: name to (n,) float, or (n,) object for categories."""
        return cls(
            tuple(
                Column(
                    name,
                    CategoryBins.of(values)
                    if values.dtype == object
                    else NumericBins.of(numbers_of(values)),
                )
                for name, values in table.items()
            )
        )

    @cached_property
    def width(self) -> int:
        """Length of a row of counts."""
        return max((column.bins.n_bins for column in self.columns), default=0) + 2

    def codes(self, table: Mapping[str, NDArray[Any]], n_rows: int) -> NDArray[np.uint8]:
        """Return the bin of every value, (c, n); an absent column is wholly missing.

        Args:
            table: name to values, (n,) float for numeric columns, (n,) object for the others.
            n_rows: n.
        """
        codes = np.full((len(self.columns), n_rows), MISSING, dtype=np.uint8)
        for row, column in zip(codes, self.columns, strict=True):
            values = table.get(column.name)
            if values is not None:
                row[:] = column.bins.codes(values)
        return codes

    def steps(self, codes: NDArray[np.uint8]) -> BlockCounts:
        """Return the counts of rows in order, in at most 64 equal steps, (c, steps, width)."""
        step = max(1, -(-codes.shape[1] // MAXIMUM_STEPS))
        return self.blocks(codes, np.arange(0, codes.shape[1], step))

    def count(self, codes: NDArray[np.uint8]) -> Counts:
        """Return how many values fell into each bin, (c, width)."""
        counts = np.zeros((len(codes), self.width), dtype=np.int64)
        for row, column_codes in zip(counts, codes, strict=True):
            found = np.bincount(column_codes, minlength=256)
            row[: self.width - 2] = found[: self.width - 2]
            row[-2:] = found[UNSEEN:]
        return counts

    def blocks(self, codes: NDArray[np.uint8], starts: NDArray[np.int64]) -> BlockCounts:
        """Return the counts of consecutive blocks of rows, (c, blocks, width)."""
        n_blocks = len(starts)
        width = self.width
        of_row = np.repeat(np.arange(n_blocks) * 256, np.diff(np.r_[starts, codes.shape[1]]))
        counts = np.empty((len(codes), n_blocks, width))
        for row, column_codes in zip(counts, codes, strict=True):
            found = np.bincount(of_row + column_codes, minlength=256 * n_blocks)
            found = found.reshape(n_blocks, 256)
            row[:, : width - 2] = found[:, : width - 2]
            row[:, -2:] = found[:, UNSEEN:]
        return counts
