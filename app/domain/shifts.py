"""Known shifts of a column, to see whether detectors notice them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]
Inject = Callable[[Values, Values, np.random.Generator], Values | None]

MEAN_STEP: Final = 0.5
SPREAD_FACTOR: Final = 1.5
TAIL_SHARE: Final = 0.2
OUTERMOST: Final = 0.005
AFAR: Final = 1.5
MISSING_SHARE: Final = 0.1
NEW_SHARE: Final = 0.1
MOVED_SHARE: Final = 0.2
CROWDED_SHARE: Final = 0.2
CLUSTER_SHARE: Final = 0.05
FEWEST_NEAR: Final = 10
NEW_CATEGORY: Final = "\x1anever seen"
"""Begins with a control character, that it be nobody's own category."""
FREQUENT: Final = 5


@dataclass(frozen=True, slots=True)
class Shift:
    """One known shift of one column.

    `inject` returns a changed copy of a column's values, (n,) or (n, d), or None where the column
    cannot take at least half of the shift (a flag has no wider spread). It may draw rows from
    `spare`, (k,) or (k, d) other rows of the same column, and never writes into either.

    Attributes:
        kind: of the columns it applies to: numeric, categorical, prediction, embedding.
        name: unique within the kind.
        size: how far it goes, in words.
        inject: given values, spare and a generator.
    """

    kind: str
    name: str
    size: str
    inject: Inject

    @property
    def label(self) -> str:
        """Its name among all."""
        return f"{self.kind}/{self.name}"


def _move(values: Values, spare: Values, generator: np.random.Generator) -> Values | None:
    """Move all numbers by half a standard deviation, towards where there is more room."""
    del spare
    known = values[np.isfinite(values)]
    sd = float(known.std()) if len(known) else 0.0
    if not sd:
        return None
    mean = float(known.mean())
    sign = 1.0 if known.max() - mean >= mean - known.min() else -1.0
    moved = _kept_in_range(values, values + sign * MEAN_STEP * sd, generator)
    went = sign * (float(np.nanmean(moved)) - mean)
    return moved if went >= MEAN_STEP * sd / 2 else None


def _widen(values: Values, spare: Values, generator: np.random.Generator) -> Values | None:
    """Stretch all numbers about their mean."""
    del spare
    known = values[np.isfinite(values)]
    sd = float(known.std()) if len(known) else 0.0
    if not sd:
        return None
    mean = float(known.mean())
    wider = _kept_in_range(values, mean + SPREAD_FACTOR * (values - mean), generator)
    return wider if float(np.nanstd(wider)) >= sd * (1 + SPREAD_FACTOR) / 2 else None


def _mix_in_tail(values: Values, spare: Values, generator: np.random.Generator) -> Values | None:
    """Let some numbers come from the column's own farther twentieth."""
    del spare
    known = np.sort(values[np.isfinite(values)])
    n = round(TAIL_SHARE * len(values))
    n_tail = max(1, len(known) // 20)
    if n < 1 or len(known) < len(values) / 2:
        return None
    mean, sd = float(known.mean()), float(known.std())
    tail = max(known[:n_tail], known[-n_tail:], key=lambda part: abs(float(part.mean()) - mean))
    if abs(float(tail.mean()) - mean) < max(AFAR * sd, 1e-300):
        return None
    mixed = values.copy()
    mixed[_drawn(np.isfinite(values), n, generator)] = generator.choice(tail, n)
    return mixed


def _lose(values: Values, spare: Values, generator: np.random.Generator) -> Values | None:
    """Let some values go missing."""
    del spare
    is_known = _is_known(values)
    n = round(MISSING_SHARE * len(values))
    if n < 1 or is_known.sum() < len(values) / 2:
        return None
    lost = values.copy()
    lost[_drawn(is_known, n, generator)] = None if values.dtype == object else np.nan
    return lost


def _renew(values: Values, spare: Values, generator: np.random.Generator) -> Values | None:
    """Put some values in a category that never was."""
    del spare
    is_known = _is_known(values)
    n = round(NEW_SHARE * len(values))
    if n < 1 or is_known.sum() < len(values) / 2:
        return None
    renewed = values.copy()
    renewed[_drawn(is_known, n, generator)] = NEW_CATEGORY
    return renewed


def _gather(values: Values, spare: Values, generator: np.random.Generator) -> Values | None:
    """Move some rows into one of the most frequent categories from the others."""
    del spare
    is_known = _is_known(values)
    names, counts = np.unique(values[is_known].astype(str), return_counts=True)
    n = round(MOVED_SHARE * len(values))
    if n < 1 or len(names) < 2:
        return None
    frequent = np.argsort(-counts, kind="stable")[:FREQUENT]
    roomy = [at for at in frequent if is_known.sum() - counts[at] >= n]
    if not roomy:
        return None
    name = str(names[generator.choice(roomy)])
    is_other = is_known & (values.astype(str) != name)
    gathered = values.copy()
    gathered[_drawn(is_other, n, generator)] = name
    return gathered


def _crowd(values: Values, spare: Values, generator: np.random.Generator) -> Values | None:
    """Replace some rows by new ones of one cluster: a row and the spare ones nearest to it.

    A new row mixes two of the cluster about its mean, by the cosine and sine of an angle: mean and
    covariance stay those of the cluster, and no row comes twice, which would be seen by itself.
    """
    n = round(CROWDED_SHARE * len(values))
    whole = spare[np.isfinite(spare).all(axis=1)]
    n_near = max(FEWEST_NEAR, round(CLUSTER_SHARE * len(whole)))
    if n < 1 or len(whole) < 2 * n_near:
        return None
    centre = whole[generator.integers(len(whole))]
    distances = ((whole - centre) ** 2).sum(axis=1)
    near = whole[np.argsort(distances, kind="stable")[:n_near]]
    if not near.std():
        return None
    mean = near.mean(axis=0)
    one, other = (near[generator.integers(n_near, size=n)] - mean for _ in range(2))
    angle = generator.uniform(0, np.pi / 2, (n, 1))
    crowded = values.copy()
    drawn = _drawn(np.ones(len(values), dtype=bool), n, generator)
    crowded[drawn] = mean + np.cos(angle) * one + np.sin(angle) * other
    return crowded


def _kept_in_range(before: Values, after: Values, generator: np.random.Generator) -> Values:
    """Return numbers as the column could show them.

    Within the range it showed but for the outermost, so that no shift is found by leaving that
    alone; whole where all of its numbers are, rounded up as often as the fraction says.
    """
    known = before[np.isfinite(before)]
    lowest, highest = np.quantile(known, (OUTERMOST, 1 - OUTERMOST), method="closest_observation")
    if (known == np.floor(known)).all():
        after = np.floor(after + generator.random(len(after)))
    return np.clip(after, np.minimum(before, lowest), np.maximum(before, highest))


def _is_known(values: Values) -> NDArray[np.bool_]:
    if values.dtype != object:
        return np.asarray(np.isfinite(values))
    return np.array([value is not None for value in values], dtype=bool)


def _drawn(may: NDArray[np.bool_], n: int, generator: np.random.Generator) -> NDArray[np.int64]:
    return generator.choice(np.flatnonzero(may), n, replace=False)


SHIFTS: Final = (
    Shift("numeric", "mean", f"{MEAN_STEP} standard deviations, within its range", _move),
    Shift("numeric", "spread", f"standard deviation x {SPREAD_FACTOR}, within its range", _widen),
    Shift(
        "numeric", "tail", f"{TAIL_SHARE:.0%} of the rows from the farther twentieth", _mix_in_tail
    ),
    Shift("numeric", "missing", f"{MISSING_SHARE:.0%} of the rows", _lose),
    Shift("categorical", "new_category", f"{NEW_SHARE:.0%} of the rows", _renew),
    Shift("categorical", "frequency", f"{MOVED_SHARE:.0%} of the rows to a frequent one", _gather),
    Shift("categorical", "missing", f"{MISSING_SHARE:.0%} of the rows", _lose),
    Shift("prediction", "frequency", f"{MOVED_SHARE:.0%} of the rows to one class", _gather),
    Shift("embedding", "cluster", f"{CROWDED_SHARE:.0%} of the rows from one cluster", _crowd),
)
