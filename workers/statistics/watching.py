"""Has a column left its reference since the watch of a version began, over all its reports?"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.domain.drift import Watch
from app.domain.sequential import Wealth, wager
from workers.statistics.profile import fitted_to

Columns = Mapping[str, Mapping[str, NDArray[Any]]]
KINDS: Final = ("numeric", "categorical")
N_LEADING: Final = 5


def table_of(columns: Columns, kinds: Sequence[str] = KINDS) -> dict[str, NDArray[Any]]:
    """Return the columns of some kinds as one table, `kind/name` to values."""
    return {
        f"{kind}/{name}": values for kind in kinds for name, values in columns.get(kind, {}).items()
    }


def watch_window(
    reference: Columns,
    current: Columns,
    last: Watch,
    *,
    sequences: Sequence[int],
    false_alarm_rows: float,
) -> Watch:
    """Let the bets of a version run over the rows of a window that they have not seen.

    They start anew after an alarm, and where the columns are no longer the same.

    Args:
        reference: kind to name to values, as `measure_window` takes them.
        current: the same for the current window, in order of arrival.
        last: where the watch stood.
        sequences: arrival numbers of the window's rows, ascending.
        false_alarm_rows: at most one false alarm in so many rows, half of which the tests of
            windows have: the limit is twice as high.
    """
    table = table_of(reference)
    n_new = len(sequences) - bisect_right(sequences, last.through)
    if not table or not n_new or not any(map(len, table.values())):
        return replace(last, value=0.0)
    fitted = fitted_to(table)
    limit = 2 * false_alarm_rows
    bets, tolerance = fitted.bets(limit=limit)
    names = [key.partition("/")[2] for key in table]
    is_fresh = last.alarmed_at is not None and last.alarmed_at == last.through
    goes_on = list(last.columns) == names and last.limit == limit and not is_fresh
    wealth = Wealth(np.array(last.values), last.n_rows) if goes_on else Wealth.of(bets)
    shown = {key: values for key, values in table_of(current).items() if key in table}
    wealth, _ = wager(bets, wealth, fitted.newest(shown, n_new))
    by_column = (bets.weights * wealth.values).sum(axis=1) / bets.weights.sum(axis=1)
    first = np.argsort(-by_column, kind="stable")[:N_LEADING]
    is_alarm = wealth.peak >= limit
    return replace(
        last,
        columns=names,
        values=wealth.values.tolist(),
        n_rows=wealth.n_rows,
        through=int(sequences[-1]),
        value=float(wealth.peak),
        limit=limit,
        leading={names[index]: float(by_column[index]) for index in first},
        alarmed_at=int(sequences[-1]) if is_alarm else last.alarmed_at,
        tolerance=tolerance,
    )
