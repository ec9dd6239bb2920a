"""How does a row of columns become numbers? The same way in training, in judgement and in answers.

Needs numpy alone. A version says in config.json which columns it reads, in which order:
`{"columns": [{"name", "type", "categories", "center", "scale", "knots"}]}`. A number stands for
itself, a boolean is 0 or 1, a category is its place in `categories`; what is missing, and a
category that the version does not know, is NaN.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

Inputs = Sequence[Mapping[str, Any]]
Matrix = NDArray[np.float64]

NUMBER: Final = "number"
CATEGORY: Final = "category"
BOOLEAN: Final = "boolean"
MODEL: Final = "model.txt"
CONFIG: Final = "config.json"
COLUMN_TYPES: Final = (NUMBER, CATEGORY, BOOLEAN)


@dataclass(frozen=True, slots=True)
class Column:
    """One column that a version reads.

    Attributes:
        name: of the field of an input.
        type: "number", "category" or "boolean".
        categories: the values of a category that are known, the most frequent first.
        center: of the numbers that the version learned from, in their unit.
        scale: of the same; what lies one scale from the center is nothing rare.
        knots: ends of the bins that a network reads numbers by, ascending; trees have none.
    """

    name: str
    type: str
    categories: tuple[str, ...] = ()
    center: float = 0.0
    scale: float = 1.0
    knots: tuple[float, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return the column as config.json has it."""
        if self.type == CATEGORY:
            return {"name": self.name, "type": self.type, "categories": list(self.categories)}
        if self.type == BOOLEAN:
            return {"name": self.name, "type": self.type}
        own: dict[str, Any] = {"center": self.center, "scale": self.scale}
        own |= {"knots": list(self.knots)} if self.knots else {}
        return {"name": self.name, "type": self.type, **own}


def read_labels(config: Any) -> tuple[str, ...]:  # JSON
    """Return the labels that a version's config.json names, in the order of its scores.

    Raises:
        ValueError: it names none.
    """
    names = config.get("id2label") if isinstance(config, dict) else None
    if (
        not isinstance(names, dict)
        or len(names) < 2
        or names.keys() != set(map(str, range(len(names))))
    ):
        raise ValueError('config.json must name the classes: "id2label": {"0": "...", "1": "..."}')
    return tuple(str(names[str(place)]) for place in range(len(names)))


def read_columns(config: Any) -> tuple[Column, ...]:  # JSON
    """Return the columns that a version's config.json names.

    Raises:
        ValueError: it names none; says what is expected.
    """
    value = config.get("columns") if isinstance(config, dict) else None
    if not isinstance(value, list) or not value:
        raise ValueError('config.json must list its "columns": [{"name", "type"}, ...]')
    columns = tuple(_column(item) for item in value)
    names = [column.name for column in columns]
    if len(set(names)) < len(names):
        raise ValueError("config.json names a column twice")
    return columns


def _column(value: Any) -> Column:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise ValueError("a column of config.json is an object with a name and a type")  # noqa: TRY004  # of a file
    name, kind = value["name"], value.get("type")
    if kind not in COLUMN_TYPES:
        raise ValueError(f"column {name!r} is of type {kind!r}; known: {', '.join(COLUMN_TYPES)}")
    categories = value.get("categories") or []
    if not isinstance(categories, list) or not all(isinstance(one, str) for one in categories):
        raise ValueError(f"the categories of column {name!r} must be a list of strings")
    if len(set(categories)) < len(categories):
        raise ValueError(f"column {name!r} names a category twice")
    numbers = [value.get("center", 0.0), value.get("scale", 1.0)]
    if not all(_is_finite(one) for one in numbers) or not numbers[1] > 0:
        raise ValueError(f"column {name!r} needs a finite center and a scale above 0")
    knots = value.get("knots") or []
    if not isinstance(knots, list) or not all(map(_is_finite, knots)):
        raise ValueError(f"the knots of column {name!r} must be a list of finite numbers")
    if any(after <= before for before, after in pairwise(knots)):
        raise ValueError(f"the knots of column {name!r} must ascend")
    center, scale = map(float, numbers)
    return Column(name, kind, tuple(categories), center, scale, tuple(map(float, knots)))


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def matrix(columns: Sequence[Column], inputs: Inputs) -> Matrix:
    """Return inputs as numbers, shape (n, c), in the order of the columns; NaN is missing.

    Raises:
        ValueError: a value is of another type than its column; says which and where.
    """
    table = np.full((len(inputs), len(columns)), np.nan)  # (n, c)
    readers = [(place, c.name, _reader(c)) for place, c in enumerate(columns)]
    for row, value in enumerate(inputs):
        for place, name, read in readers:
            given = value.get(name)
            if given is None:
                continue
            try:
                table[row, place] = read(given)
            except (TypeError, OverflowError) as error:
                raise ValueError(f"input {row}: {name!r} {error}") from error
    return table


def _reader(column: Column) -> Callable[[Any], float]:
    if column.type == NUMBER:
        return _number
    if column.type == BOOLEAN:
        return _boolean
    places = {category: float(place) for place, category in enumerate(column.categories)}

    def category(value: Any) -> float:
        if not isinstance(value, str):
            raise TypeError(f"must be a string, not {type(value).__name__}")
        return places.get(value, math.nan)

    return category


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"must be a number, not {type(value).__name__}")
    number = float(value)
    if math.isinf(number):
        raise TypeError("must be finite; leave it out for a missing value")
    return number


def _boolean(value: Any) -> float:
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"must be a boolean, not {type(value).__name__}")
    return float(value)


def feature_names(columns: Sequence[Column]) -> list[str]:
    """Return the names of columns as a LightGBM model can hold them: plain, each once."""
    found: list[str] = []
    for place, column in enumerate(columns):
        plain = re.sub(r"[^A-Za-z0-9_.-]", "_", column.name)
        found.append(plain if plain not in found else f"{plain}_{place}")
    return found


class AnswersColumns(Protocol):
    """A model over columns: trees, or a network.

    Attributes:
        labels: class names; none where it answers with numbers.
        columns: what it reads.
    """

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the class names."""
        ...

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return what it reads."""
        ...

    def scores(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return probabilities, shape (n, k)."""
        ...

    def values(self, inputs: Inputs) -> NDArray[np.float64]:
        """Return numbers, shape (n,)."""
        ...


class ColumnsPredictor:
    """A model over columns loaded for answering, with classes or with numbers."""

    def __init__(self, model: AnswersColumns) -> None:
        self._model = model
        self.labels = model.labels
        names = [column.name for column in model.columns]
        self.input_field: str | None = names[0] if len(names) == 1 else None
        self._names = frozenset(names)

    def scores(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return probabilities, shape (n, k)."""
        self._check(inputs)
        return self._model.scores(inputs)

    def values(self, inputs: Inputs) -> NDArray[np.float64]:
        """Return numbers, shape (n,)."""
        self._check(inputs)
        return self._model.values(inputs)

    def _check(self, inputs: Inputs) -> None:
        for index, value in enumerate(inputs):
            if self._names.isdisjoint(value):
                known = ", ".join(sorted(self._names))
                raise ValueError(f"input {index} has none of the columns {known}")
