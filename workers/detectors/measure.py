"""Which signals of a window have drifted, how far and in what way?"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from app.domain.drift import DriftScore, Measurement, judge_scores
from workers.detectors import (
    CountingDetector,
    Detector,
    JointDetector,
    Kind,
    Selection,
    as_numbers,
    configured,
    detectors,
    is_missing,
)
from workers.statistics.marginals import cauchy_combination
from workers.statistics.profile import FittedReference, Seen

Columns = Mapping[str, Mapping[str, NDArray[Any]]]
Chosen = Sequence[tuple[str, Detector]]
Missing = tuple[int, int]
"""How many values are missing, and of how many."""

MINIMUM_ROWS: Final = 30
INSUFFICIENT: Final = "insufficient"
MISSING: Final = "missing"
SURE: Final = 1e-3
NOTHING_OWN: Final[Mapping[str, Selection]] = {}


@dataclass(frozen=True, slots=True)
class Reading:
    """What one detector measured on one signal."""

    name: str
    detector: Detector
    measurement: Measurement

    @property
    def is_material(self) -> bool:
        """Whether the effect is one that the detector's options do not tolerate."""
        return (self.measurement.effect or 0.0) >= self.tolerated

    @property
    def tolerated(self) -> float:
        """The effect from which the shift matters."""
        own = self.measurement.tolerated
        return self.detector.tolerated_effect if own is None else own

    @property
    def sees(self) -> str:
        """What moved, if anything did."""
        return str(self.measurement.detail.get("kind", self.detector.sees))


@dataclass(frozen=True, slots=True)
class Counted:
    """The scalar signals of a whole window as counts, beside those of its reference."""

    fitted: FittedReference
    seen: Seen

    def part(self, keys: Sequence[str]) -> "Counted":
        """Return some of the columns, by `kind/name`."""
        return Counted(self.fitted.part(keys), self.seen.part(self.fitted.places(keys)))

    def missing(self, key: str) -> tuple[Missing, Missing]:
        """Return how many values of a column are missing on each side, and of how many."""
        (place,) = self.fitted.places([key])
        before, after = self.fitted.counts[place], self.seen.counts[place]
        return (int(before[-1]), int(before.sum())), (int(after[-1]), int(after.sum()))


def measure_window(
    reference: Columns,
    current: Columns,
    selected: Mapping[Kind, Selection],
    *,
    fdr: float,
    seed: int,
    minimum_rows: int = MINIMUM_ROWS,
    counted: Counted | None = None,
    own: Mapping[str, Selection] = NOTHING_OWN,
) -> list[DriftScore]:
    """Measure every signal of the reference in a current window, corrected together.

    The detectors of a signal are combined into one p-value (Cauchy), the signals corrected by
    Benjamini and Hochberg. Only detectors whose effect is not tolerated count towards a signal's
    p-value (the others count as 1), so a signal drifts when it is both surely and materially
    elsewhere, and a ten times larger window of the same distribution reaches the same answer.
    `kind` names what the most certain of these detectors sees. A signal absent from the current
    window counts as wholly missing; a signal only there is not measured, having no reference.

    Args:
        reference: kind ("numeric", "categorical", "embedding", "text") to name to values:
            (n,) float with NaN where missing, (n,) object with None where missing, (n, d).
        current: the same for the current window.
        selected: the detectors of each kind, as (name, options).
        fdr: false discovery rate to hold over the signals, in (0, 1).
        seed: of every random draw.
        minimum_rows: with fewer on either side a signal is called insufficient.
        counted: numeric and categorical signals of all rows of the window, of which `current` may
            be a sample; detectors for which counts are enough read these.
        own: by name, detectors of single signals in the place of those of their kind.

    Returns:
        One score a signal, in the order of the reference. A detector without p-value (a distance
        judged by its threshold alone) that shares its signal with others has a score of its own,
        after theirs.

    Raises:
        UnknownName: a selected detector is not registered.
        Invalid: a detector's options do not match its schema, or it cannot read that kind.
    """
    n_window = max((len(v) for columns in current.values() for v in columns.values()), default=0)
    chosen_of = {
        kind: [(name, configured(name, options)) for name, options in selected.get(kind, ())]  # type: ignore[call-overload]  # keys come from JSON
        for kind in reference
    }
    own_of = {
        feature: [(name, configured(name, options)) for name, options in chosen]
        for feature, chosen in own.items()
    }
    together = _measured_together(reference, current, chosen_of, seed=seed, counted=counted)
    scores: list[DriftScore] = []
    for kind, columns in reference.items():
        for feature, values in columns.items():
            chosen = own_of.get(feature, chosen_of[kind])
            known = together.get((kind, feature), {})
            if counted is not None and known and all(name in known for name, _ in chosen):
                before = after = values[:0]  # nobody reads the rows
                missing = counted.missing(f"{kind}/{feature}")
            else:
                seen = current.get(kind, {}).get(feature)
                sides = (values, _absent(values, n_window) if seen is None else seen)
                before, after = map(as_numbers, sides) if kind == "numeric" else sides
                missing = _missing(before), _missing(after)
            scores += _scores_of(
                feature,
                kind,
                before,
                after,
                chosen,
                known=known,
                missing=missing,
                seed=seed,
                minimum_rows=minimum_rows,
            )
    return judge_scores(scores, fdr=fdr)


def _measured_together(
    reference: Columns,
    current: Columns,
    chosen_of: Mapping[str, Chosen],
    *,
    seed: int,
    counted: Counted | None,
) -> dict[tuple[str, str], dict[str, Measurement]]:
    """Return what joint detectors measure, by (kind, feature) and detector.

    Kinds that chose the same detector with the same options are handed to it as one table.
    """
    kinds_of: dict[tuple[str, Detector], list[str]] = {}
    for kind, chosen in chosen_of.items():
        for name, detector in chosen:
            if isinstance(detector, JointDetector) and kind in detector.kinds:
                kinds_of.setdefault((name, detector), []).append(kind)
    found: dict[tuple[str, str], dict[str, Measurement]] = {}
    for (name, detector), kinds in kinds_of.items():
        places = {
            f"{kind}/{feature}": (kind, feature) for kind in kinds for feature in reference[kind]
        }  # named as `table_of` does, so that one fit serves the tests and the watch
        if counted is not None and isinstance(detector, CountingDetector):
            part = counted.part(list(places))
            measured = detector.measure_counts(part.fitted, part.seen)
        else:
            before = {key: reference[kind][feature] for key, (kind, feature) in places.items()}
            after = {
                key: current[kind][feature]
                for key, (kind, feature) in places.items()
                if feature in current.get(kind, {})
            }
            measured = cast("JointDetector", detector).measure_together(before, after, seed=seed)
        for key, place in places.items():
            found.setdefault(place, {})[name] = measured[key]
    return found


def _absent(before: NDArray[Any], n_rows: int) -> NDArray[Any]:
    if before.ndim == 2:
        return np.full((n_rows, before.shape[1]), np.nan)
    if before.dtype.kind in "fiub":
        return np.full(n_rows, np.nan)
    return np.full(n_rows, None, dtype=object)


def _scores_of(
    feature: str,
    kind: str,
    before: NDArray[Any],
    after: NDArray[Any],
    chosen: Chosen,
    *,
    known: Mapping[str, Measurement],
    missing: tuple[Missing, Missing],
    seed: int,
    minimum_rows: int,
) -> list[DriftScore]:
    n, m = (of for _, of in missing)
    blank = DriftScore(feature, INSUFFICIENT, "none", 0.0, None, n, m)
    if min(n, m) < minimum_rows:
        return [replace(blank, detail={"untested": f"fewer than {minimum_rows} rows"})]
    is_blank = [gone == of for gone, of in missing]
    if all(is_blank):
        return [replace(blank, detail={"untested": "no values on either side"})]
    if any(is_blank):
        return [_vanished(blank, missing)]
    readings = [
        Reading(
            name,
            detector,
            known.get(name) or detector.measure(before, after, seed=_seed_of(seed, feature, name)),
        )
        for name, detector in chosen
        if kind in detector.kinds
    ]
    tested = [r for r in readings if r.measurement.p_value is not None]
    by_threshold = [
        r
        for r in readings
        if r.measurement.p_value is None and "untested" not in r.measurement.detail
    ]
    scores = []
    if tested:
        scores.append(_combined(blank, tested, readings))
    scores += [_score(blank, reading, reading.measurement.p_value) for reading in by_threshold]
    if not scores:
        reasons = {r.name: r.measurement.detail.get("untested") for r in readings}
        tested_kind = readings[0].sees if readings else INSUFFICIENT
        scores = [replace(blank, kind=tested_kind, effect=0.0, detail={"untested": reasons})]
    return scores


def _seed_of(seed: int, feature: str, detector: str) -> int:
    return zlib.crc32(f"{seed}/{feature}/{detector}".encode())


def _missing(values: NDArray[Any]) -> Missing:
    """Return how many values are not there, and of how many."""
    if values.ndim == 2:
        gone = ~np.isfinite(values.astype(np.float64)).all(axis=1)
    else:
        gone = is_missing(values)
    return int(gone.sum()), len(values)


def _vanished(blank: DriftScore, missing: tuple[Missing, Missing]) -> DriftScore:
    """Return the score of a signal that is wholly missing on one side."""
    detector = detectors.get("missing")
    sides = [np.where(np.arange(of) < gone, np.nan, 1.0) for gone, of in missing]
    measurement = detector.measure(sides[0], sides[1], seed=0)
    score = _score(blank, Reading("missing", detector, measurement), measurement.p_value)
    return replace(score, kind=MISSING)


def _combined(
    blank: DriftScore, tested: Sequence[Reading], readings: Sequence[Reading]
) -> DriftScore:
    """Return one score of several detectors' readings of one signal."""

    def p_of(reading: Reading) -> float:
        return cast("float", reading.measurement.p_value)

    material = [reading for reading in tested if reading.is_material]
    # A new category also moves the frequencies, and is the better name for it.
    strongest = min(
        material or tested,
        key=lambda r: (not (r.sees == "new_category" and p_of(r) <= SURE), p_of(r)),
    )
    counting = [p_of(r) if r.is_material or not material else 1.0 for r in tested]
    p_value = counting[0] if len(counting) == 1 else float(cauchy_combination(np.array(counting)))
    each = {
        reading.name: {
            "statistic": reading.measurement.statistic,
            "p_value": reading.measurement.p_value,
            "effect": reading.measurement.effect,
            "tolerated_effect": reading.tolerated,
            **reading.measurement.detail,
        }
        for reading in readings
    }
    return _score(blank, strongest, p_value, readings=each)


def _score(blank: DriftScore, reading: Reading, p_value: float | None, **detail: Any) -> DriftScore:
    measurement = reading.measurement
    return DriftScore(
        blank.feature,
        reading.sees,
        reading.name,
        measurement.statistic,
        p_value,
        blank.n_reference,
        blank.n_current,
        effect=measurement.effect,
        threshold=reading.tolerated,
        detail={**measurement.detail, **detail},
    )
