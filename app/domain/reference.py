"""What was a version accepted on, in a form that is small and never fitted twice?"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from app.domain.profiles import CategoryBins, Codes, Column, Counts, Layout, bins_of
from app.domain.seasons import UNKNOWN
from app.domain.sequential import Wealth, bets_against, wager

FORMAT: Final = 3
MAXIMUM_ROWS: Final = 5000
TOLERANCES: Final = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2)
_LOWEST_LIMIT: Final = 200.0


def packed(**arrays: NDArray[Any]) -> bytes:
    """Return named arrays as compressed bytes, without pickle."""
    sink = io.BytesIO()
    np.savez_compressed(sink, allow_pickle=False, **arrays)
    return sink.getvalue()


def unpacked(body: bytes) -> dict[str, NDArray[Any]]:
    """Read what `packed` wrote."""
    with np.load(io.BytesIO(body), allow_pickle=False) as archive:
        return dict(archive)


@dataclass(frozen=True)
class ReferenceProfile:
    """The scalar signals of a reference: their bins, their counts, and what goes with what.

    Attributes:
        layout: the columns and their bins.
        counts: (c, width) of all its rows.
        codes: (c, k) the bins of at most `MAXIMUM_ROWS` of them, spread evenly, in their order:
            how the columns go together is read from these.
        n_rows: how many rows were counted.
        times: (k,) when the rows of `codes` were observed, microseconds since 1970; `UNKNOWN`
            where nobody said.
        known_peaks: `peaks`, where they were worked out before.
    """

    layout: Layout
    counts: Counts
    codes: Codes
    n_rows: int
    times: NDArray[np.int64]
    known_peaks: tuple[float, ...] | None = None

    @classmethod
    def of(
        cls, table: Mapping[str, NDArray[Any]], *, times: NDArray[np.int64] | None = None
    ) -> Self:
        """Fit a reference: name to (n,) float, or (n,) object for categories.

        Args:
            table: its columns.
            times: (n,) when its rows were observed, as `times` of the profile.
        """
        layout = Layout.of(table)
        n_rows = max((len(values) for values in table.values()), default=0)
        codes = layout.codes(table, n_rows)
        stride = max(1, -(-n_rows // MAXIMUM_ROWS))
        known = np.full(n_rows, UNKNOWN) if times is None else times
        return cls(layout, layout.count(codes), codes[:, ::stride], n_rows, known[::stride])

    def of_rows(self, rows: NDArray[np.int64]) -> "ReferenceProfile":
        """Return the profile of some of the rows that `codes` has, by place."""
        codes = self.codes[:, rows]
        return ReferenceProfile(
            self.layout, self.layout.count(codes), codes, len(rows), self.times[rows]
        )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of its columns, in order."""
        return tuple(column.name for column in self.layout.columns)

    @cached_property
    def peaks(self) -> tuple[float, ...]:
        """The largest value that bets on one half of the reference reach on the other.

        One for each of the first of `TOLERANCES`, up to the one with which no watch would alarm.
        """
        return self.known_peaks or _peaks(self.layout, self.codes)

    def tolerance(self, limit: float) -> float:
        """Return the distance from the reference that is no drift to its own halves.

        The smallest of a few under which neither half, in its own order, raises an alarm against
        the other: a reference of rows that come in clusters, or that wandered, makes the watch as
        tolerant as it itself is unsteady.

        Args:
            limit: the value that is an alarm.
        """
        fitting = (
            tolerance
            for tolerance, peak in zip(TOLERANCES, self.peaks, strict=False)
            if peak < limit
        )
        return next(fitting, TOLERANCES[-1])

    def document(self) -> dict[str, Any]:
        """Return everything but `arrays` as JSON values."""
        columns = [
            {**column.document(), "counts": counts.tolist()}
            for column, counts in zip(self.layout.columns, self.counts, strict=True)
        ]
        return {
            "format": FORMAT,
            "n_rows": self.n_rows,
            "peaks": list(self.peaks),
            "columns": columns,
        }

    def arrays(self) -> bytes:
        """Return the arrays that `document` leaves out."""
        rare = [
            fingerprint
            for column in self.layout.columns
            if isinstance(column.bins, CategoryBins)
            for fingerprint in sorted(column.bins.rare)
        ]
        return packed(codes=self.codes, times=self.times, rare=np.array(rare, dtype=np.uint32))

    @classmethod
    def read(cls, document: Mapping[str, Any], arrays: bytes) -> Self | None:
        """Read a profile that was kept; None if it has another form than this release writes."""
        if document.get("format") != FORMAT:
            return None
        kept = unpacked(arrays)
        columns, rare = [], kept["rare"]
        for item in document["columns"]:
            n_rare = item.get("n_rare", 0)
            columns.append(Column(item["name"], bins_of(item, rare[:n_rare])))
            rare = rare[n_rare:]
        counts = np.array([item["counts"] for item in document["columns"]], dtype=np.int64)
        return cls(
            layout=Layout(tuple(columns)),
            counts=counts,
            codes=kept["codes"],
            n_rows=document["n_rows"],
            times=kept["times"],
            known_peaks=tuple(document["peaks"]),
        )


def _peaks(layout: Layout, codes: Codes) -> tuple[float, ...]:
    peaks: list[float] = []
    for tolerance in TOLERANCES:
        peaks.append(_peak(layout, codes, tolerance))
        if peaks[-1] < _LOWEST_LIMIT:
            break
    return tuple(peaks)


def _peak(layout: Layout, codes: Codes, tolerance: float) -> float:
    """Return the largest value that one half of the reference reaches against the other."""
    middle = codes.shape[1] // 2
    if middle < 1:
        return 0.0
    halves = codes[:, :middle], codes[:, middle:]
    bins = [column.bins for column in layout.columns]
    peaks = []
    for fitted, played in (halves, halves[::-1]):
        bets = bets_against(layout.count(fitted), bins, tolerance=tolerance)
        peaks.append(wager(bets, Wealth.of(bets), layout.steps(played))[0].peak)
    return max(peaks)


def columns_shown(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the columns of a kept profile for a reader: bins with their counts, shares.

    Args:
        document: as `ReferenceProfile.document` wrote it.
    """
    columns = []
    for item in document["columns"]:
        kind, _, name = item["name"].partition("/")
        counts = item["counts"]
        n_rows = sum(counts)
        own = {key: item[key] for key in ("edges", "categories", "n_rare") if key in item}
        n_bins = len(item["edges"]) + 1 if "edges" in item else len(item["categories"])
        columns.append(
            {
                "name": name,
                "kind": kind,
                "n_rows": n_rows,
                "missing_share": counts[-1] / n_rows if n_rows else None,
                **own,
                "counts": counts[: n_bins + bool(item.get("n_rare"))],
            }
        )
    return columns
