"""What a check looks at: the newest rows as they are, and every row that is new as counts."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from app.domain.observations import microseconds
from app.domain.profiles import UNREAD, Codes
from app.domain.seasons import UNKNOWN, Pools, Season, matched
from app.services.batches import Columns as StoredRows
from app.services.ports import Json, UnitOfWork
from app.services.windows import Looked, Window, emptied, unread
from workers.detectors.measure import Counted
from workers.jobs.columns import reference_columns, sample_columns, stored_columns
from workers.jobs.fields import Columns
from workers.statistics.profile import FittedReference, Seen
from workers.statistics.watching import Bettor, table_of

CONFIDENCE: Final = "numeric/confidence"
_KEPT: Final = 8
_fitted: OrderedDict[tuple[UUID, UUID | None], FittedReference] = OrderedDict()


@dataclass(frozen=True, slots=True)
class Sight:
    """What detectors read, and what is to be kept of it.

    Attributes:
        reference: all signals of the reference, by kind and name.
        sample: the same of the window's newest rows.
        counted: the scalar signals of the whole window, as counts.
        looked: what the rows that are new made of the watch and the window.
    """

    reference: Columns
    sample: Columns
    counted: Counted | None
    looked: Looked


def look_at(work: UnitOfWork, window: Window) -> Sight:
    """Read the rows of a window that no check has seen, and add them to what was kept."""
    reference, sample = reference_columns(window), sample_columns(window)
    table = table_of(reference)
    if not table or not sample:
        return Sight(reference, sample, None, Looked(window.watch, window.counts))
    fitted, is_new = fit(window, reference)
    if is_new:
        window = emptied(work, window)
    counts = window.counts
    rules = window.policy.check
    bettor = Bettor.of(
        fitted, window.watch, false_alarm_rows=rules.false_alarm_rows, season=rules.season
    )
    for rows in unread(work, window):
        codes = _codes(window, fitted, rows, sample)
        fresh = rows.sequences > window.watch.through
        if fresh.any():
            bettor = bettor.seen(
                codes[:, fresh], rows.observed_at[fresh], through=int(rows.sequences[-1])
            )
        fresh = rows.sequences > counts.through
        counts = counts.with_rows(
            fitted.layout,
            codes[:, fresh],
            sequences=rows.sequences[fresh],
            observed_at=rows.observed_at[fresh],
        )
    compared, season = in_season(fitted, counts.times(), rules.season)
    seen = Seen.of(counts, fitted.layout)
    profile = fitted.profile if is_new else None
    looked = Looked(bettor.watch(), counts, bettor.n_new, profile, season)
    return Sight(reference, sample, Counted(compared, seen), looked)


def in_season(
    fitted: FittedReference, times: NDArray[np.int64], season: Season
) -> tuple[FittedReference, Json | None]:
    """Return the reference as rows of these times would have it, and what was taken for it."""
    if season == "none":
        return fitted, None
    match = matched(Pools(season, fitted.profile.times), times)
    return fitted.matched(match), match.document(season)


def fit(window: Window, reference: Columns) -> tuple[FittedReference, bool]:
    """Return the fit of a reference, and whether it is not the one that was kept.

    A profile of other signals than this release reads is fitted anew.
    """
    table = table_of(reference)
    kept = window.profile if window.profile and window.profile.names == tuple(table) else None
    key = (window.champion.id, window.champion.reference)
    if key not in _fitted or kept is None:
        _fitted[key] = FittedReference(kept) if kept else _fitted_to(window, table)
        while len(_fitted) > _KEPT:
            _fitted.popitem(last=False)
    _fitted.move_to_end(key)
    return _fitted[key], kept is None


def reference_times(window: Window) -> NDArray[np.int64]:
    """Return when each row of the reference was observed, as a profile's `times`."""
    times = [row.observed_at for row in window.reference]
    return np.array([UNKNOWN if at is None else microseconds(at) for at in times], dtype=np.int64)


def _fitted_to(window: Window, table: Mapping[str, NDArray[Any]]) -> FittedReference:
    return FittedReference.of(table, times=reference_times(window))


def _codes(window: Window, fitted: FittedReference, rows: StoredRows, sample: Columns) -> Codes:
    columns, unread_confidence = stored_columns(window, rows, sample)
    codes = fitted.layout.codes(table_of(columns), len(rows))
    if CONFIDENCE in fitted.profile.names:
        (place,) = fitted.places([CONFIDENCE])
        codes[place, unread_confidence] = UNREAD
    return codes
