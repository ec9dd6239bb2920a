"""Has what the champion sees moved within a declared slice of the rows?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.domain.drift import DriftScore
from app.domain.policies import CheckPolicy
from app.domain.slices import (
    Slice,
    SliceDrift,
    SliceFinding,
    judged_together,
    name_of,
    values_of,
)
from app.services.windows import Window
from workers.jobs.class_scores import SIGNAL, chosen_for, with_classes
from workers.jobs.columns import labels_of
from workers.jobs.looking import Sight
from workers.jobs.measuring import NEVER, compared

Columns = dict[str, dict[str, NDArray[Any]]]
Rows = Mapping[str, NDArray[np.int64]]

AT_MOST_SLICES: Final = 20
"""Slices looked at by one check: those with the most rows."""
AT_MOST_SIGNALS: Final = 50
"""Numbers and categories tested in each."""
AT_MOST_EMBEDDINGS: Final = 10
"""Embeddings tested in all of them together: each costs what fifty numbers do."""
SCALARS: Final = ("numeric", "categorical")


def drift_by_slice(window: Window, sight: Sight, slices: Sequence[Slice]) -> dict[str, SliceDrift]:
    """Compare the sampled rows of each slice with the reference's rows of it.

    The signals of all slices are corrected together, at the rate of the report's own tests. Where
    too little is new for those, nothing is looked at, and what the last look said stands. Bounded
    by `AT_MOST_SLICES` and so on: what is cheap and what is frequent goes first.

    Args:
        window: what the check compares; its model says by which fields.
        sight: the signals of both sides.
        slices: those known by their labels; without any, the reference's most frequent values.

    Returns:
        By name, what the look concluded; empty where there was none.
    """
    fields = window.model.objective.slices
    level, _ = sight.looked.look(window)
    if not (fields and sight.reference and sight.sample and level):
        return {}
    before = _rows_by_slice(fields, [row.inputs for row in window.reference])
    after = _rows_by_slice(fields, [row.inputs for row in window.current])
    names = [one.name for one in slices]
    names = names or values_of(fields, [row.inputs for row in window.reference])
    return judged_together(dict(_measured(window, sight, names, before, after)), fdr=level)


def _rows_by_slice(fields: Sequence[str], inputs: Sequence[Mapping[str, Any]]) -> Rows:
    """Return which rows belong to each slice."""
    found: dict[str, list[int]] = {}
    for field in fields:
        for place, row in enumerate(inputs):
            found.setdefault(name_of(field, row), []).append(place)
    return {name: np.array(places, dtype=np.int64) for name, places in found.items()}


def _measured(
    window: Window, sight: Sight, names: Sequence[str], before: Rows, after: Rows
) -> Iterator[tuple[str, tuple[SliceDrift, Sequence[DriftScore]]]]:
    """Yield what was compared in each slice and the scores of it, the most rows first."""
    nobody = np.empty(0, dtype=np.int64)
    fewest = window.policy.check.minimum_rows
    rules = _cheaper(window.policy.check)
    n_slices, n_embeddings = 0, AT_MOST_EMBEDDINGS
    for name in sorted(names, key=lambda name: -len(after.get(name, nobody))):
        places = before.get(name, nobody), after.get(name, nobody)
        n, m = map(len, places)
        drift = SliceDrift(SliceFinding.INSUFFICIENT_DATA, n, m, last_sequence=window.last)
        if min(n, m) < fewest:
            yield name, (drift, ())
        elif n_slices == AT_MOST_SLICES:
            yield name, (replace(drift, finding=SliceFinding.NOT_LOOKED_AT), ())
        else:
            n_slices += 1
            sides, n_left_out = _signals(sight, places, name.partition("=")[0], n_embeddings)
            n_embeddings -= len(sides[0]["embedding"])
            scores = _scores(window, sides, rules)
            yield name, (replace(drift, n_left_out=n_left_out), scores)


def _signals(
    sight: Sight, places: tuple[NDArray[np.int64], NDArray[np.int64]], field: str, n_embeddings: int
) -> tuple[list[Columns], int]:
    """Return the signals of a slice's rows on both sides, and how many were left out."""
    own = {field, f"input.{field}"}  # it is what all rows of the slice have in common
    known = sight.reference
    scalars = [(kind, name) for kind in SCALARS for name in known.get(kind, ()) if name not in own]
    embeddings = [("embedding", name) for name in known.get("embedding", ()) if name not in own]
    taken = scalars[:AT_MOST_SIGNALS] + embeddings[:n_embeddings]
    sides: list[Columns] = []
    for columns, rows in zip((known, sight.sample), places, strict=True):
        side: Columns = {kind: {} for kind in (*SCALARS, "embedding")}
        for kind, name in taken:
            if name in columns.get(kind, {}):
                side[kind][name] = columns[kind][name][rows]
        sides.append(side)
    return sides, len(scalars) + len(embeddings) - len(taken)


def _cheaper(rules: CheckPolicy) -> CheckPolicy:
    """Return a policy whose embeddings are all measured as the scores of classes are."""
    chosen = chosen_for([*rules.detectors.get("embedding", {}).items()])
    return replace(
        rules,
        detectors={
            **rules.detectors,
            "embedding": {name: dict(options) for name, options in chosen},
        },
    )


def _scores(window: Window, sides: Sequence[Columns], rules: CheckPolicy) -> list[DriftScore]:
    seed = window.through[0] % 2**31
    before, after = sides
    scores = compared(before, after, rules, fdr=NEVER, seed=seed)  # judged with other slices' ones
    if SIGNAL in before["embedding"]:
        scores = with_classes(scores, before, after, labels_of(window))
    return scores
