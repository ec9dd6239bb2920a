"""What do Evidently's own statistical tests say? Each of them, without its traps."""

import importlib
import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from app.domain.drift import Measurement
from workers.detectors import (
    Kind,
    detectors,
    drawn,
    impossible,
    options_schema,
    present,
    resampled_p_value,
    share_option,
)

os.environ.setdefault("DO_NOT_TRACK", "1")

NUMBER: Final[tuple[Kind, ...]] = ("numeric",)
CATEGORY: Final[tuple[Kind, ...]] = ("categorical",)
EITHER: Final[tuple[Kind, ...]] = ("numeric", "categorical")
TEXT: Final[tuple[Kind, ...]] = ("text",)
FEWEST_ROWS: Final = 5
RESAMPLED_ROWS: Final = 500


@dataclass(frozen=True, slots=True)
class Nature:
    """What is to be known of one of Evidently's tests before its score can be read.

    Attributes:
        kinds: what it can read.
        is_p_value: the score is a p-value (small = drift), not a distance (large = drift).
        threshold: Evidently's own; for a distance it becomes the tolerated effect.
        holds: the p-value is a valid one for two samples of any sizes.
        max_rows: rows a side beyond which it is slow or runs out of memory.
        is_two_sided: false where it sees one direction only, so both are asked.
        needs_equal_sizes: it fails where the samples differ in size.
        max_categories: how many it can tell apart; None for any number.
    """

    kinds: tuple[Kind, ...]
    is_p_value: bool
    threshold: float
    holds: bool = True
    max_rows: int = 10_000
    is_two_sided: bool = True
    needs_equal_sizes: bool = False
    max_categories: int | None = None


NATURES: Final[Mapping[str, Nature]] = {
    "TVD": Nature(CATEGORY, True, 0.1, max_rows=500),  # a thousand permutations of its own
    "abs_text_content_drift": Nature(TEXT, False, 0.55, max_rows=1000),
    "anderson": Nature(NUMBER, True, 0.1),  # never below 0.001 nor above 0.25
    "chisquare": Nature(CATEGORY, True, 0.05, holds=False),  # takes the reference for the truth
    "cramer_von_mises": Nature(NUMBER, True, 0.1),
    "ed": Nature(NUMBER, False, 0.1),
    "empirical_mmd": Nature(NUMBER, True, 0.1, max_rows=200),  # a hundred permutations of n x n
    "es": Nature(NUMBER, True, 0.05),
    "fisher_exact": Nature(CATEGORY, True, 0.1, needs_equal_sizes=True, max_categories=2),
    "g_test": Nature(CATEGORY, True, 0.1, holds=False, needs_equal_sizes=True),
    "hellinger": Nature(EITHER, False, 0.1),
    "jensenshannon": Nature(EITHER, False, 0.1),
    "kl_div": Nature(EITHER, False, 0.1),
    "ks": Nature(NUMBER, True, 0.05),
    "mannw": Nature(NUMBER, True, 0.05, is_two_sided=False),
    "perc_text_content_drift": Nature(TEXT, False, 0.55, max_rows=1000),
    "psi": Nature(EITHER, False, 0.1),
    "t_test": Nature(NUMBER, True, 0.05),
    "wasserstein": Nature(NUMBER, False, 0.1),
    "z": Nature(CATEGORY, True, 0.05, max_categories=2),
}
SAME_SCORE: Final = {"perc_text_content_drift": "abs_text_content_drift"}  # without 1000 bootstraps
FAILURES: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@cache
def _library() -> tuple[Any, Any, Any]:
    """Import Evidently's registry, its column types and pandas: 7 s of CPU, so only when asked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("evidently.legacy.calculations.stattests")
        registry = importlib.import_module("evidently.legacy.calculations.stattests.registry")
        core = importlib.import_module("evidently.legacy.core")
        return registry, core.ColumnType, importlib.import_module("pandas")


def library_score(
    name: str, reference: NDArray[Any], current: NDArray[Any], kind: Kind, seed: int
) -> float:
    """Return Evidently's score of two samples; numpy's global generator is left as it was.

    Raises:
        ArithmeticError, AttributeError, LookupError, TypeError, ValueError: as Evidently pleases.
    """
    registry, column_types, pandas = _library()
    column_type = {
        "numeric": column_types.Numerical,
        "categorical": column_types.Categorical,
        "text": column_types.Text,
    }[kind]
    test = registry.get_registered_stattest(SAME_SCORE.get(name, name), column_type)
    before = np.random.get_state()
    try:
        np.random.seed(seed % 2**32)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            result = test(pandas.Series(reference), pandas.Series(current), column_type, None)
    finally:
        np.random.set_state(before)
    return float(result.drift_score)


def _effect(reference: NDArray[Any], current: NDArray[Any], kind: Kind) -> float:
    """Return the widest gap of the distribution functions, or the total variation distance."""
    n, m = len(reference), len(current)
    _, codes = np.unique(np.concatenate([reference, current]), return_inverse=True)
    shares = np.bincount(codes[:n], minlength=codes.max() + 1) / n
    shares = shares - np.bincount(codes[n:], minlength=codes.max() + 1) / m
    if kind == "numeric":
        return float(np.abs(np.cumsum(shares)).max())
    return 0.5 * float(np.abs(shares).sum())


@dataclass(frozen=True, slots=True)
class EvidentlyTest:
    """One statistical test of Evidently 0.7, on the values present, with its flaws made good.

    The statistic is Evidently's score where that is a distance, else -log10 of its p-value. Where
    the score is a distance, or a p-value that does not hold, the p-value is resampled by
    permutations of at most `RESAMPLED_ROWS` rows a side (`n_permutations` 0: a distance has
    none and is judged by the threshold alone, as Evidently does). Text is judged by the ranks of
    its classifier's held-out half (Mann-Whitney).
    """

    name: str
    tolerated_effect: float
    n_permutations: int = 399

    sees: ClassVar[str] = "shape"

    @property
    def nature(self) -> Nature:
        """What is to be known of this test."""
        return NATURES[self.name]

    @property
    def description(self) -> str:
        """One sentence for a reader of the list of detectors."""
        score = "p-value" if self.nature.is_p_value else "distance"
        return f"Evidently's {self.name} ({score})."

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of signal that it can read."""
        return self.nature.kinds

    @property
    def schema(self) -> Mapping[str, Any]:
        """JSON Schema of its options."""
        return options_schema(
            tolerated_effect=share_option(self.tolerated_effect, "Effect tolerated; a distance's")
            | ({} if self.nature.is_p_value else {"maximum": 100}),
            n_permutations={"type": "integer", "minimum": 0, "maximum": 9999, "default": 399},
        )

    def measure(self, reference: NDArray[Any], current: NDArray[Any], *, seed: int) -> Measurement:
        """Compare two samples, shapes (n,) and (m,)."""
        nature = self.nature
        before, after = present(np.asarray(reference)), present(np.asarray(current))
        kind: Kind = "text" if nature.kinds == TEXT else "categorical"
        if before.dtype.kind == "f" and after.dtype.kind == "f" and "numeric" in nature.kinds:
            kind = "numeric"
        if kind not in nature.kinds:
            return impossible(f"reads {' or '.join(nature.kinds)} signals only")
        if min(len(before), len(after)) < FEWEST_ROWS:
            return impossible(f"fewer than {FEWEST_ROWS} values on one side")
        if kind == "categorical":  # codes: pandas counts them ten times as fast as strings
            together = np.concatenate([before, after]).astype(str)
            codes = np.unique(together, return_inverse=True)[1]
            before, after = codes[: len(before)], codes[len(before) :]
        if reason := self._unfit(before, after):
            return impossible(reason)
        generator = np.random.default_rng(seed)
        limit = nature.max_rows
        if nature.needs_equal_sizes:
            limit = min(limit, len(before), len(after))
        before, after = drawn(before, limit, generator), drawn(after, limit, generator)
        try:
            return self._measured(before, after, kind, generator)
        except FAILURES as failure:
            return impossible(f"Evidently's {self.name} failed: {failure}")

    def _unfit(self, before: NDArray[Any], after: NDArray[Any]) -> str | None:
        values = set(before) | set(after)
        if len(values) == 1:
            return "both sides hold one and the same value"
        most = self.nature.max_categories
        if most is not None and len(values) > most:
            return f"tells {most} categories apart, not {len(values)}"
        return None

    def _measured(
        self,
        before: NDArray[Any],
        after: NDArray[Any],
        kind: Kind,
        generator: np.random.Generator,
    ) -> Measurement:
        nature = self.nature
        seed = int(generator.integers(2**32))

        def statistic(left: NDArray[Any], right: NDArray[Any]) -> float:
            score = library_score(self.name, left, right, kind, seed)
            if not nature.is_two_sided:
                score = 2 * min(score, library_score(self.name, right, left, kind, seed))
            if not nature.is_p_value:
                return score
            return -math.log10(min(max(score, 1e-300), 1.0))

        observed = statistic(before, after)
        if not math.isfinite(observed):
            return impossible(f"Evidently's {self.name} has no finite score here")
        detail = {"score_is": "p-value" if nature.is_p_value else "distance"}
        if kind == "text":
            n, m = len(before) // 2, len(after) // 2
            z = (observed - 0.5) / math.sqrt((n + m + 1) / (12 * n * m))
            return Measurement(
                observed, 0.5 * math.erfc(z / math.sqrt(2)), max(2 * observed - 1, 0.0), detail
            )
        effect = _effect(before, after, kind) if nature.is_p_value else observed
        if nature.is_p_value and nature.holds:
            floor = {"TVD": 1 / 1001, "empirical_mmd": 1 / 101}.get(self.name, 0.0)
            return Measurement(observed, max(10**-observed, floor), effect, detail)
        if not self.n_permutations:
            return Measurement(observed, None, effect, detail)
        left = drawn(before, RESAMPLED_ROWS, generator)
        right = drawn(after, RESAMPLED_ROWS, generator)
        pooled = np.concatenate([left, right])

        def resampled(b: int) -> NDArray[np.float64]:
            shuffles = (generator.permutation(pooled) for _ in range(b))
            return np.array([statistic(rows[: len(left)], rows[len(left) :]) for rows in shuffles])

        p_value = resampled_p_value(
            statistic(left, right), resampled, at_most=self.n_permutations, enough=10
        )
        return Measurement(observed, p_value, effect, detail)


for _name, _nature in NATURES.items():
    _tolerated = 0.05 if _nature.is_p_value else _nature.threshold
    if _nature.kinds == TEXT:
        _tolerated = 0.1  # 2 AUC - 1 at Evidently's AUC of 0.55
    detectors.add(f"evidently:{_name}", EvidentlyTest(_name, _tolerated))  # type: ignore[arg-type]  # a property answers where the protocol has a class variable
