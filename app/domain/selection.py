"""Which rows does a run train on, so that the new is learned and the old is not forgotten?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.domain.answers import Answer
from app.domain.policies import SelectionPolicy

Mask = NDArray[np.bool_]

FEWEST_EACH: Final = 20
"""Rows of a class that balancing leaves, however few the rarest has."""
SECONDS_A_DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Pool:
    """The n rows that a run could train on, in order of arrival, by what choosing needs of them.

    Attributes:
        strata: the class of each row, of numbers the quarter that it lies in, shape (n,).
        is_new: whether it came since the champion was trained, (n,).
        draws: its place in a lottery, `draw` of its id; the lowest win, (n,).
        seconds: when it was observed, since any fixed moment; NaN where nobody said, (n,).
        difficulty: how wrong the champion was about it, in [0, 1]; NaN where unknown, (n,).
    """

    strata: NDArray[np.int64]
    is_new: Mask
    draws: NDArray[np.uint64]
    seconds: NDArray[np.float64]
    difficulty: NDArray[np.float64]


def draw(seed: int, row_id: str) -> int:
    """Return a row's place in the lottery of a seed: even in [0, 2^64), whatever rows there are."""
    return int.from_bytes(blake2b(f"{seed} {row_id}".encode(), digest_size=8).digest())


def difficulty(
    answer: Answer, label: str, prediction: str | None, scores: Mapping[str, float] | None
) -> float | None:
    """Return how wrong a logged answer was: 1 entirely, 0 right and sure; None where unknown.

    With scores it is one minus the label's; without, an answer that is merely right may have been
    a guess.
    """
    if scores:
        return 1.0 - min(max(float(scores.get(label, 0.0)), 0.0), 1.0)
    if prediction is None or not answer.is_scored:
        return None
    wrong = 1.0 - float(answer.scores([prediction], [label])[0])
    return wrong if wrong > 0 or not answer.labels else None


def selected(selection: SelectionPolicy, pool: Pool) -> Mask:
    """Mark the rows to train on, (n,); a pure function of the rows and the selection.

    What is drawn are the rows of lowest place in a lottery by id (bottom-k sampling; Cohen and
    Kaplan, 2007): more rows may push one out, but never bring one back.
    """
    return _WAYS[selection.by](selection, pool)


def _all(_: SelectionPolicy, pool: Pool) -> Mask:
    return np.ones(len(pool.strata), dtype=bool)


def _new(_: SelectionPolicy, pool: Pool) -> Mask:
    return pool.is_new.copy()


def _window(selection: SelectionPolicy, pool: Pool) -> Mask:
    """Mark the newest rows: by their number, by their days before the newest, or by both."""
    n = len(pool.strata)
    mask = np.ones(n, dtype=bool)
    if selection.maximum_rows is not None:
        mask = np.arange(n) >= n - selection.maximum_rows
    if selection.days is not None:
        known = pool.seconds[~np.isnan(pool.seconds)]
        first = known.max() - selection.days * SECONDS_A_DAY if len(known) else np.inf
        mask &= pool.seconds >= first  # NaN is not
    return np.asarray(mask)


def _balanced(selection: SelectionPolicy, pool: Pool) -> Mask:
    """Mark as many rows of each class, as far as it has them."""
    counts = np.unique(pool.strata, return_counts=True)[1]
    if not len(counts):
        return _all(selection, pool)
    each = max(FEWEST_EACH, int(counts.min()))
    if selection.maximum_rows is not None:
        each = share_of_each(selection.maximum_rows, counts)
    return _lowest(pool, _all(selection, pool), each)


def _reservoir(selection: SelectionPolicy, pool: Pool) -> Mask:
    """Mark all new rows, and of the old ones the same part of the room for each class."""
    n_classes = len(np.unique(pool.strata[~pool.is_new]))
    room = selection.maximum_rows or 0
    return pool.is_new | _lowest(pool, ~pool.is_new, max(1, room // max(1, n_classes)))


def _hardest(selection: SelectionPolicy, pool: Pool) -> Mask:
    """Mark the rows that the champion was most wrong about, and some of the others by lot."""
    n = len(pool.strata)
    room = min(n, selection.maximum_rows or n)
    order = np.lexsort((pool.draws, -pool.difficulty))  # NaN is last
    n_known = int(np.count_nonzero(~np.isnan(pool.difficulty)))
    n_hard = min(n_known, room - round(room * selection.others_share))
    mask = np.zeros(n, dtype=bool)
    mask[order[:n_hard]] = True
    others = order[n_hard:]
    by_lot = others[np.argsort(pool.draws[others], kind="stable")]
    mask[by_lot[: room - n_hard]] = True
    return mask


_WAYS: Final[Mapping[str, Callable[[SelectionPolicy, Pool], Mask]]] = {
    "all": _all,
    "new": _new,
    "window": _window,
    "balanced": _balanced,
    "reservoir": _reservoir,
    "hardest": _hardest,
}


def share_of_each(room: int, counts: NDArray[np.int64]) -> int:
    """Return how many rows each class may have, so that all of them fill a room; 1 at least.

    Classes of fewer rows leave what they do not need to the others.
    """
    left = room
    for place, count in enumerate(np.sort(counts).tolist()):
        each = left // (len(counts) - place)
        if count > each:
            return max(1, int(each))
        left -= count
    return max(1, int(counts.max()))


def _lowest(pool: Pool, among: Mask, each: int) -> Mask:
    """Mark of each class the rows of lowest place in the lottery, so many at most."""
    rows = np.flatnonzero(among)
    order = rows[np.lexsort((pool.draws[rows], pool.strata[rows]))]
    strata = pool.strata[order]
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = strata[1:] != strata[:-1]
    starts = np.flatnonzero(is_first)
    rank = np.arange(len(order)) - np.repeat(starts, np.diff([*starts, len(order)]))
    mask = np.zeros(len(pool.strata), dtype=bool)
    mask[order[rank < each]] = True
    return mask


def codes(strata: Sequence[str]) -> NDArray[np.int64]:
    """Return the number of each row's class, (n,), counted as classes first occur."""
    places: dict[str, int] = {}
    return np.asarray([places.setdefault(name, len(places)) for name in strata], dtype=np.int64)
