"""What do rows say of their columns before any label is looked at? Categories, scales, signals."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from upkeep.tables import BOOLEAN, CATEGORY, COLUMN_TYPES, NUMBER, Column, Inputs, Matrix, matrix
from workers.training.errors import DataError, RecipeError

MOST_CATEGORIES: Final = 4096
"""Of one column; rarer ones are read as missing."""
MOST_SHOWN: Final = 64
"""Categories of one column that have a place of their own among the features."""
NORMAL_QUARTILES: Final = 1.349
"""Between the quartiles of a normal distribution, in standard deviations."""
FARTHEST: Final = 10.0
"""Scales from the center beyond which a number is shown no farther out."""
SIGNALS: Final = (
    "missing_share",
    "unseen_share",
    "outside_share",
    "category_surprise",
    "mean_distance",
)


def columns_of(fields: Sequence[Mapping[str, Any]]) -> tuple[Column, ...]:
    """Return the columns of an input contract: numbers, categories, booleans that are kept.

    Raises:
        RecipeError: it has none.
    """
    columns = tuple(
        Column(str(field["name"]), str(field["type"]), tuple(field.get("categories") or ()))
        for field in fields
        if field.get("type") in COLUMN_TYPES and not field.get("privacy")
    )
    if not columns:
        raise RecipeError(
            "there is no column to learn from; the input contract needs a field of type "
            f"{', '.join(COLUMN_TYPES)} that is neither hashed nor dropped"
        )
    return columns


def encoded(columns: Sequence[Column], inputs: Inputs) -> Matrix:
    """Return inputs as numbers, shape (n, c).

    Raises:
        DataError: a value is of another type than its column; says which and where.
    """
    try:
        return matrix(columns, inputs)
    except ValueError as error:
        raise DataError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Cleaning:
    """What was found amiss in the rows and how it is read; part of a run's result.

    Attributes:
        missing: share of the rows in which a column is missing, where it is in any.
        empty: columns that are missing in every row; nothing can be learned from them.
        constant: columns of one value; nor from them.
        new_categories: how many the start did not know, by column.
        rare_rows: rows with a category too rare to be kept, read as missing, by column.
    """

    missing: Mapping[str, float]
    empty: Sequence[str]
    constant: Sequence[str]
    new_categories: Mapping[str, int]
    rare_rows: Mapping[str, int]

    def document(self) -> dict[str, Any]:
        """Return the findings as JSON."""
        return {
            "missing_share": dict(self.missing),
            "empty_columns": list(self.empty),
            "constant_columns": list(self.constant),
            "new_categories": dict(self.new_categories),
            "rows_of_rare_categories": dict(self.rare_rows),
        }


def fitted(columns: Sequence[Column], inputs: Inputs) -> tuple[tuple[Column, ...], Cleaning]:
    """Return the columns with the categories and scales of these rows, and what was amiss.

    Categories known before keep their places, so that trees grown on them stay right; new ones
    come after them, the most frequent first.

    Raises:
        DataError: a value is of another type than its column, or every column is always missing.
    """
    found: list[Column] = []
    new: dict[str, int] = {}
    rare: dict[str, int] = {}
    counts = _counts([column.name for column in columns if column.type == CATEGORY], inputs)
    for column in columns:
        if column.type == CATEGORY:
            extended, n_rare = _with_categories(column, counts[column.name])
            added = len(extended.categories) - len(column.categories)
            new |= {column.name: added} if added else {}
            rare |= {column.name: n_rare} if n_rare else {}
            found.append(extended)
        else:
            found.append(column)
    table = encoded(found, inputs)
    found = [
        _with_scale(column, table[:, place]) if column.type == NUMBER else column
        for place, column in enumerate(found)
    ]
    gone = np.isnan(table)
    if len(table) and bool(gone.all()):
        names = ", ".join(repr(column.name) for column in columns)
        raise DataError(
            f"all {len(table)} rows miss every column ({names}); nothing can be learned"
        )
    shares = gone.mean(axis=0) if len(table) else np.zeros(len(found))
    return tuple(found), Cleaning(
        missing={
            column.name: round(float(share), 6)
            for column, share in zip(found, shares, strict=True)
            if share > 0
        },
        empty=[c.name for c, share in zip(found, shares, strict=True) if share == 1],
        constant=[c.name for at, c in enumerate(found) if _is_constant(table[:, at])],
        new_categories=new,
        rare_rows=rare,
    )


def _counts(names: Sequence[str], inputs: Inputs) -> dict[str, Counter[str]]:
    """Return how often each text comes, by column, in one pass over the rows."""
    found: dict[str, Counter[str]] = {name: Counter() for name in names}
    for row in inputs if names else ():
        for name, counts in found.items():
            if isinstance(value := row.get(name), str):
                counts[value] += 1
    return found


def _with_categories(column: Column, counts: Counter[str]) -> tuple[Column, int]:
    """Return a column with the categories of these rows, and how many rows have too rare a one."""
    known = frozenset(column.categories)
    new = sorted(counts.keys() - known, key=lambda value: (-counts[value], value))
    room = max(0, MOST_CATEGORIES - len(column.categories))
    n_rare = sum(counts[value] for value in new[room:])
    return replace(column, categories=(*column.categories, *new[:room])), n_rare


def _with_scale(column: Column, values: NDArray[np.float64]) -> Column:
    """Return a number's column with the median and the spread of its values."""
    known = values[~np.isnan(values)]
    if not len(known):
        return column
    low, center, high = np.quantile(known, [0.25, 0.5, 0.75])
    spread = float(high / NORMAL_QUARTILES - low / NORMAL_QUARTILES)
    if not spread > 0:
        largest = float(np.abs(known).max())
        spread = largest * float(np.std(known / largest)) if largest > 0 else 0.0
    is_usable = np.isfinite(spread) and spread > 0
    return replace(column, center=float(center), scale=spread if is_usable else 1.0)


def with_knots(
    columns: Sequence[Column], known: Sequence[Column], table: Matrix, n_bins: int
) -> tuple[Column, ...]:
    """Return columns whose numbers have the ends of bins that hold like many rows each.

    What a network has learned hangs on them: a column that has knots keeps those, and its scale.

    Args:
        columns: fitted to the rows.
        known: the same as the start has them.
        table: the rows, shape (n, c).
        n_bins: most of them.
    """
    found = []
    for place, (column, before) in enumerate(zip(columns, known, strict=True)):
        values = table[~np.isnan(table[:, place]), place]
        if before.knots:
            own = replace(column, center=before.center, scale=before.scale, knots=before.knots)
            found.append(own)
        elif column.type == NUMBER and len(values):
            ends = np.unique(np.quantile(values, np.linspace(0.0, 1.0, n_bins + 1)))
            found.append(replace(column, knots=tuple(ends.tolist()) if len(ends) > 1 else ()))
        else:
            found.append(column)
    return tuple(found)


def _is_constant(values: NDArray[np.float64]) -> bool:
    known = values[~np.isnan(values)]
    return bool(len(known)) and not np.isnan(values).any() and bool((known == known[0]).all())


def features(columns: Sequence[Column], table: Matrix) -> NDArray[np.float32]:
    """Return rows as a linear model would see them, shape (n, c) to (n, d).

    A number is its distance from the center in scales and whether it is missing; a boolean -1 or
    1, 0 when missing; a category one place for each of the most frequent, all 0 for others.
    """
    parts: list[NDArray[np.float64]] = []
    for place, column in enumerate(columns):
        values = table[:, place]
        gone = np.isnan(values)
        if column.type == NUMBER:
            parts += [np.where(gone, 0.0, _distance(column, values)), gone.astype(np.float64)]
        elif column.type == BOOLEAN:
            parts.append(np.where(gone, 0.0, 2.0 * values - 1.0))
        else:
            shown = np.arange(min(len(column.categories), MOST_SHOWN))
            parts += list((values[None, :] == shown[:, None]).astype(np.float64))
    if not parts:
        return np.zeros((len(table), 0), dtype=np.float32)
    return np.stack(parts, axis=1).astype(np.float32)  # (n, d)


def _distance(column: Column, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how many scales values lie from the center, at most `FARTHEST` either way."""
    with np.errstate(over="ignore"):
        return np.clip((values - column.center) / column.scale, -FARTHEST, FARTHEST)


def signal_state(reference: Inputs) -> dict[str, Any]:
    """Return what `signals` compares rows with: counts of categories, bounds of numbers."""
    names = dict.fromkeys(name for row in reference for name in row)
    counts: dict[str, dict[str, int]] = {}
    numbers: dict[str, list[float]] = {}
    for name in names:
        values = [row.get(name) for row in reference]
        texts = Counter(_category(value) for value in values if _is_category(value))
        known = np.asarray([v for v in values if _is_number(v)], dtype=np.float64)
        if texts:
            counts[name] = dict(texts)
        if len(known):
            column = _with_scale(Column(name, NUMBER), known)
            bounds = [float(known.min()), float(known.max())]
            numbers[name] = [*bounds, column.center, column.scale]
    return {"names": list(names), "counts": counts, "numbers": numbers}


def signals(
    inputs: Inputs, state: Mapping[str, Any] | None, *, of_reference: bool
) -> dict[str, NDArray[np.float64]]:
    """Return of each input, shape (n,), how unlike the reference its columns are together.

    missing_share: of the columns, those that are missing; unseen_share: of the categories, those
    that the reference never had; outside_share: of the numbers, those beyond its bounds;
    category_surprise: mean of -log of the categories' frequencies, in nats; mean_distance: of the
    numbers from their centers, in scales. NaN where there is nothing of the kind. A category that
    one input of the reference alone has is unseen there; of any other, the reference's own rows are
    told what any row is, or the few values that few categories have would all differ a little.
    """
    known = state or {}
    rows = [_signals(row, known, of_reference=of_reference) for row in inputs]
    table = np.asarray(rows, dtype=np.float64).reshape(len(inputs), len(SIGNALS))
    return {name: table[:, place] for place, name in enumerate(SIGNALS)}


def _signals(
    row: Mapping[str, Any], state: Mapping[str, Any], *, of_reference: bool
) -> tuple[float, ...]:
    names: Sequence[str] = state.get("names") or list(row)
    there = [name for name in names if row.get(name) is not None]
    if not there:
        return (np.nan,) * len(SIGNALS)
    surprises, unseen, distances, outside = [], [], [], []
    for name in there:
        value, counts = row[name], state.get("counts", {}).get(name)
        bounds = state.get("numbers", {}).get(name)
        if _is_category(value) and counts is not None:
            n = counts.get(_category(value), 0)
            n = 0 if of_reference and n == 1 else n
            unseen.append(n < 1)
            total = sum(counts.values())
            surprises.append(-np.log((n + 0.5) / (total + 0.5 * (len(counts) + 1))))
        elif _is_number(value) and bounds is not None:
            low, high, center, scale = bounds
            outside.append(not low <= float(value) <= high)
            column = Column(name, NUMBER, center=center, scale=scale)
            distances.append(abs(float(_distance(column, np.asarray(float(value))))))
    found = (unseen, outside, surprises, distances)
    return (
        1.0 - len(there) / len(names),
        *(float(np.mean(part)) if part else np.nan for part in found),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_category(value: Any) -> bool:
    return isinstance(value, str | bool)


def _category(value: Any) -> str:
    return str(value)
