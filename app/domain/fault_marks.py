"""What would a broken value of a column look like, and how many of them are usual?"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Values = NDArray[Any]

BEYOND: Final = 0.5
"""A number is far out when it lies so many widths of the reference's middle 98 % beyond it."""
_UNLIKE: Final = 0.25
_DECILES: Final = np.arange(0.2, 0.81, 0.1)


@dataclass(frozen=True)
class Side:
    """One column of a reference or of a window, with what is asked of it more than once.

    Attributes:
        values: (n,) float with NaN, or (n,) object with None, where missing.
    """

    values: Values

    def __len__(self) -> int:
        return len(self.values)

    @property
    def is_numeric(self) -> bool:
        """Whether its values are numbers."""
        return self.values.dtype != object

    @cached_property
    def there(self) -> Values:
        """The values that are not missing."""
        return self.values[~gone(self.values)]

    @cached_property
    def ordered(self) -> NDArray[np.float64]:
        """The numbers that are there, ascending."""
        return np.sort(self.there)

    @cached_property
    def counts(self) -> Mapping[Any, int]:
        """How often each category is there."""
        return Counter(self.there.tolist())

    @cached_property
    def commonest(self) -> Any:
        """The value that most are, as a JSON value; of numbers the median, if none is."""
        if not len(self.there):
            return None
        if self.is_numeric:
            return float(self.ordered[len(self.ordered) // 2])
        return max(self.counts, key=self.counts.__getitem__)

    @cached_property
    def most(self) -> int:
        """How often the commonest value is there."""
        return int((self.there == self.commonest).sum()) if len(self.there) else 0

    def quantiles(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the numbers that so large shares of those there lie below."""
        n = len(self.ordered)
        return self.ordered[np.clip(shares * n, 0, n - 1).astype(np.int64)]


@dataclass(frozen=True, slots=True)
class Mark:
    """How the broken values of one column are told from the others.

    Attributes:
        flags: values (n,) to (n,) true where broken.
        usual: how many values of the reference would be called broken, and of how many.
        detail: what a reader is told of it (JSON values only).
    """

    flags: Callable[[Values], Flags]
    usual: tuple[int, int]
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """The usual share."""
        return self.usual[0] / max(self.usual[1], 1)


def gone(values: Values) -> Flags:
    """Return (n,) true where a value is missing: None, NaN or infinite."""
    if values.dtype != object:
        return np.asarray(~np.isfinite(values))
    return np.asarray(values == None, dtype=bool)  # noqa: E711  elementwise


def missing(before: Side) -> Mark:
    """Return the mark of values that are missing."""
    return Mark(gone, (len(before) - len(before.there), len(before)))


def repeated(before: Side, value: Any) -> Mark:
    """Return the mark of values that are all the same one; usual is what any value made up."""

    def flags(values: Values) -> Flags:
        return np.asarray(values == value, dtype=bool)

    most = max(int(flags(before.there).sum()), before.most)
    return Mark(flags, (most, len(before.there)), {"value": value})


def unseen(before: Side, after: Side) -> Mark:
    """Return the mark of categories that the reference never had.

    So many are usual as categories occurred once in the reference (Good, 1953).
    """
    seen = before.counts

    def flags(values: Values) -> Flags:
        return np.array([value is not None and value not in seen for value in values], bool)

    news = Counter({value: count for value, count in after.counts.items() if value not in seen})
    detail = {"examples": [str(value) for value, _ in news.most_common(3)]}
    singletons = sum(count == 1 for count in seen.values())
    return Mark(flags, (singletons, len(before.there)), detail)


def far_out(before: Side) -> Mark | None:
    """Return the mark of numbers far from where the reference has them; None if it has no width."""
    if not len(before.there):
        return None
    low, high = (float(each) for each in before.quantiles(np.array([0.01, 0.99])))
    margin = BEYOND * (high - low)
    if margin <= 0:
        return None

    def flags(values: Values) -> Flags:
        return np.asarray((values < low - margin) | (values > high + margin))

    usual = int(flags(before.there).sum()), len(before.there)
    return Mark(flags, usual, {"low": low, "high": high})


def scaled(before: Side, factor: float) -> Mark:
    """Return the mark of numbers nearer to `factor` times the usual size than to the usual size."""
    limit = float(np.median(np.abs(before.there))) * math.sqrt(factor)

    def flags(values: Values) -> Flags:
        size = np.abs(values)
        return np.asarray(size > limit if factor > 1 else size < limit)

    usual = int(flags(before.there).sum()), len(before.there)
    return Mark(flags, usual, {"factor": factor})


def factor_of(
    before: Side, after: Side, *, z: float, at_least: float
) -> tuple[float, float] | None:
    """Return by what factor all numbers were multiplied, and the same surely, nearer to 1.

    The ratio of the distances between the first and the last decile; the sure one takes the ends of
    their distribution-free intervals. None where the deciles do not fit one factor within a quarter
    of that distance, or where a side has no width.

    Args:
        before: the reference.
        after: the window.
        z: standard errors of the intervals.
        at_least: a factor nearer to 1 is none.
    """
    if min(len(before.there), len(after.there)) < 2:
        return None
    (width, least, most), (width_now, least_now, most_now) = (
        _widths(side, z) for side in (before, after)
    )
    if min(width, width_now) <= 0 or 1 / at_least < width_now / width < at_least:
        return None
    factor = width_now / width
    deciles, deciles_now = (side.quantiles(_DECILES) for side in (before, after))
    if np.abs(deciles_now / factor - deciles).max() > _UNLIKE * width or min(least, least_now) <= 0:
        return None
    return factor, least_now / most if factor > 1 else most_now / least


def _widths(side: Side, z: float) -> tuple[float, float, float]:
    """Return the distance between the outer deciles, and the ends of its interval."""
    error = z * math.sqrt(0.1 * 0.9 / len(side.there))
    cuts = np.clip([0.1, 0.1 + error, 0.1 - error], 0.0, 0.5)
    width, least, most = (side.quantiles(1 - cuts) - side.quantiles(cuts)).tolist()
    return width, least, most
