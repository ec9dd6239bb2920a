"""Has a column moved in any way, and in which?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from app.domain.drift import Measurement
from workers.detectors import (
    Kind,
    detectors,
    impossible,
    options_schema,
    share_option,
)
from workers.statistics.marginals import (
    DEPENDENCE,
    KINDS,
    LOCATION,
    MISSING,
    NEW_CATEGORY,
    RANGE,
    SPREAD,
    WEIGHTS,
    cauchy_combination,
)
from workers.statistics.profile import FittedReference, Seen, fitted_to

SURE: Final = 1e-3
BLAMED: Final = 0.05
_SURE_EVIDENCE: Final = -math.log(SURE)
_ONE_SIDED: Final = frozenset({NEW_CATEGORY, RANGE})
_AT: Final = {kind: i for i, kind in enumerate(KINDS)}


@dataclass(frozen=True, slots=True)
class Calibrated:
    """All tests of a column at once, on binned counts, combined into one p-value.

    Location, spread, shape, frequencies, missing, unseen and out-of-range values, and how the
    column goes with the others. Only what moved further than tolerated counts, so that a large
    window does not alarm on trifles. The statistic is -log10 of the p-value.

    Attributes:
        tolerated_effect: of location, spread, shape (gap of the distribution functions) and
            frequencies (total variation).
        tolerated_missing: gap of the shares missing.
        tolerated_unseen: share of unseen categories, or of values out of the reference's range.
        tolerated_dependence: half the difference of two correlations.
    """

    tolerated_effect: float = 0.03
    tolerated_missing: float = 0.01
    tolerated_unseen: float = 0.005
    tolerated_dependence: float = 0.05

    description: ClassVar[str] = (
        "Location, spread, shape, frequencies, missing, new, range and dependence in one p-value."
    )
    kinds: ClassVar[tuple[Kind, ...]] = ("numeric", "categorical")
    sees: ClassVar[str] = "any"
    schema: ClassVar[Mapping[str, Any]] = options_schema(
        tolerated_effect=share_option(0.03, "Largest gap between the distributions."),
        tolerated_missing=share_option(0.01, "Gap between the shares of missing values."),
        tolerated_unseen=share_option(0.005, "Share of unseen categories or values out of range."),
        tolerated_dependence=share_option(0.05, "Half the difference of two correlations."),
    )

    def measure(self, reference: NDArray[Any], current: NDArray[Any], *, seed: int) -> Measurement:
        """Compare two samples of one column, shapes (n,) and (m,)."""
        return self.measure_together({"": reference}, {"": current}, seed=seed)[""]

    def measure_together(
        self,
        reference: Mapping[str, NDArray[Any]],
        current: Mapping[str, NDArray[Any]],
        *,
        seed: int,
    ) -> dict[str, Measurement]:
        """Compare all columns of a reference, name to (n,), with those of a window, (m,)."""
        del seed  # nothing here is drawn at random
        if not any(map(len, reference.values())) or not any(map(len, current.values())):
            return {name: impossible("one side has no values") for name in reference}
        fitted = fitted_to(reference)
        return self.measure_counts(fitted, fitted.seen(current))

    def measure_counts(self, fitted: FittedReference, seen: Seen) -> dict[str, Measurement]:
        """Compare all columns of a reference with those of a window, by their counts alone."""
        found = fitted.read(seen, fdr=BLAMED)
        tolerated = self._tolerated()
        is_tested = ~np.isnan(found.p_values)
        counts = is_tested & (found.effects >= tolerated)
        # Where none counts, all do: then it is the effect that says no.
        counts |= is_tested & ~counts.any(axis=1, keepdims=True)
        p_values = np.where(is_tested & ~counts, 1.0, found.p_values)  # (c, kinds)
        together = cauchy_combination(p_values, WEIGHTS)
        n = np.array([fitted.counts.sum(axis=1), seen.counts.sum(axis=1)])
        margin = 1.36 * np.sqrt((1 / np.maximum(n, 1)).sum(axis=0))  # Kolmogorov's, at 95 %
        return {
            name: _measurement(dict(zip(KINDS, p, strict=True)), p_all, moved, tolerated, wide)
            for name, p, p_all, moved, wide in zip(
                fitted.profile.names,
                p_values.tolist(),
                together.tolist(),
                found.effects.tolist(),
                margin.tolist(),
                strict=True,
            )
        }

    def _tolerated(self) -> list[float]:
        own = {
            MISSING: self.tolerated_missing,
            NEW_CATEGORY: self.tolerated_unseen,
            RANGE: self.tolerated_unseen,
            DEPENDENCE: self.tolerated_dependence,
        }
        return [own.get(kind, self.tolerated_effect) for kind in KINDS]


def _measurement(
    p_values: Mapping[str, float],
    p_value: float,
    effects: Sequence[float],
    tolerated: Sequence[float],
    margin: float,
) -> Measurement:
    tested = {kind: p for kind, p in p_values.items() if not math.isnan(p)}
    if all(p == 1.0 and kind in _ONE_SIDED for kind, p in tested.items()):
        return impossible("there is nothing that could differ")
    kind = moved_most(tested)
    at = _AT[kind]
    effect = effects[at]
    return Measurement(
        statistic=-math.log10(max(p_value, 1e-300)),
        p_value=p_value,
        effect=effect,
        detail={
            "kind": kind,
            "effect_interval": [max(0.0, effect - margin), min(1.0, effect + margin)],
            "by_kind": {k: {"p_value": p, "effect": effects[_AT[k]]} for k, p in tested.items()},
        },
        tolerated=tolerated[at],
    )


def moved_most(p_values: Mapping[str, float]) -> str:
    """Return the kind of move that explains the p-values of one column best.

    A plainer name wins over a vaguer one where it carries at least half of the evidence: a new
    category also moves the frequencies, a shift of location also the shape.

    Args:
        p_values: of each kind tested; at least one.
    """
    evidence = {kind: -math.log(max(p, 1e-300)) for kind, p in p_values.items()}
    surest = max(evidence, key=evidence.__getitem__)
    enough = max(evidence[surest] / 2, _SURE_EVIDENCE)
    if evidence[surest] >= enough:
        for plainest in ((NEW_CATEGORY,), (MISSING,), (LOCATION, SPREAD)):
            known = [kind for kind in plainest if evidence.get(kind, 0.0) >= enough]
            if known:
                return max(known, key=evidence.__getitem__)
    return surest


detectors.add("calibrated", Calibrated())
