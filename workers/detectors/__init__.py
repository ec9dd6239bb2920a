"""How far has one signal moved from its reference? Detectors by name, and what they stand on."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final, Literal, Protocol, cast, runtime_checkable

import jsonschema
import numpy as np
from numpy.typing import NDArray

from app.domain.drift import Measurement
from app.domain.errors import Fault, Invalid
from app.domain.profiles import numbers_of
from app.domain.registry import Registry
from workers.statistics.profile import FittedReference, Seen
from workers.statistics.resampling import upper_tail

Kind = Literal["numeric", "categorical", "embedding", "text"]
Selection = Sequence[tuple[str, Mapping[str, Any]]]

DEFAULTS: Final[Mapping[Kind, Selection]] = {
    "numeric": (("calibrated", {}),),
    "categorical": (("calibrated", {}),),
    "embedding": (("classifier", {}), ("neighbours", {})),
    "text": (("missing", {}),),
}


class Detector(Protocol):
    """Measures how far apart two samples of one signal are; a frozen dataclass of its options.

    A numeric sample is (n,) float with NaN where missing, a categorical or text one (n,) object
    with None where missing, an embedding (n, d) float. `measure` changes neither its inputs nor
    numpy's global generator, and answers the same for the same seed. Where no test is possible
    (nothing to compare, or nothing that could differ) the p-value is None and the effect 0.

    Attributes:
        description: one sentence for a reader of the list of detectors.
        kinds: the kinds of signal it can read.
        sees: what moved when it alarms, such as `location`, `missing`, `new_category`.
        schema: JSON Schema of its options.
    """

    description: ClassVar[str]
    kinds: ClassVar[tuple[Kind, ...]]
    sees: ClassVar[str]
    schema: ClassVar[Mapping[str, Any]]

    @property
    def tolerated_effect(self) -> float:
        """The effect from which a significant shift matters."""
        ...

    def measure(self, reference: NDArray[Any], current: NDArray[Any], *, seed: int) -> Measurement:
        """Compare two samples of one signal."""
        ...


@runtime_checkable
class JointDetector(Protocol):
    """A detector that reads all columns of a kind at once, as they may move together."""

    def measure_together(
        self,
        reference: Mapping[str, NDArray[Any]],
        current: Mapping[str, NDArray[Any]],
        *,
        seed: int,
    ) -> dict[str, Measurement]:
        """Compare all columns of a reference with those of a window; one answer each."""
        ...


@runtime_checkable
class CountingDetector(JointDetector, Protocol):
    """A joint detector for which counts by bin are enough, whatever the rows of the window."""

    def measure_counts(self, fitted: FittedReference, seen: Seen) -> dict[str, Measurement]:
        """Compare all columns of a reference with those of a window, by their counts alone."""
        ...


detectors: Final = Registry[Detector]("detector")


def options_schema(**properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of an object with these optional properties and no others."""
    return {"type": "object", "properties": dict(properties), "additionalProperties": False}


def share_option(default: float, description: str) -> dict[str, Any]:
    """Return the JSON Schema of a share in [0, 1]."""
    return {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "default": default,
        "description": description,
    }


def configured(name: str, options: Mapping[str, Any]) -> Detector:
    """Return the detector of that name with these options.

    Raises:
        UnknownName: there is no such detector; the message lists the known names.
        Invalid: the options do not match the detector's schema.
    """
    detector = detectors.get(name)
    validator = jsonschema.Draft202012Validator(dict(detector.schema))
    faults = [
        Fault("".join(f"/{part}" for part in error.absolute_path), error.message)
        for error in validator.iter_errors(dict(options))
    ]
    if faults:
        raise Invalid(f"detector {name!r} cannot take these options: {faults[0].detail}", faults)
    return cast("Detector", replace(cast("Any", detector), **options)) if options else detector


def described() -> list[dict[str, Any]]:
    """Return every registered detector as JSON: name, description, kinds, what it sees, options."""
    return [
        {
            "name": name,
            "description": detector.description,
            "kinds": list(detector.kinds),
            "sees": detector.sees,
            "options": dict(detector.schema),
        }
        for name, detector in detectors.items()
    ]


def impossible(reason: str, **detail: Any) -> Measurement:
    """Return the measurement of a pair of samples that no test can tell apart."""
    return Measurement(0.0, None, 0.0, {"untested": reason, **detail})


def as_numbers(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return values as (n,) float64; what is no finite number becomes NaN."""
    numbers = numbers_of(values)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def is_missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return (n,) true where a value is None, NaN or (for numbers) infinite."""
    values = np.asarray(values)
    if values.dtype.kind in "fc":
        return np.asarray(~np.isfinite(values.reshape(-1)))
    if values.dtype.kind != "O":
        return np.zeros(values.size, dtype=bool)
    return np.fromiter(
        (
            value is None or (isinstance(value, float) and not np.isfinite(value))
            for value in values
        ),
        dtype=bool,
        count=len(values),
    )


def present(values: NDArray[Any]) -> NDArray[Any]:
    """Return the values that are not missing: float64 for numbers, else strings as objects."""
    values = np.asarray(values)
    if values.dtype.kind in "fciub":
        numbers = as_numbers(values)
        return numbers[~np.isnan(numbers)]
    kept = values[~is_missing(values)]
    return np.array([str(value) for value in kept], dtype=object)


def category_counts(
    reference: NDArray[Any], current: NDArray[Any]
) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    """Return the categories of two samples, sorted, and how often each side has them."""
    before = Counter(map(str, np.asarray(reference)[~is_missing(reference)]))
    after = Counter(map(str, np.asarray(current)[~is_missing(current)]))
    categories = sorted(before.keys() | after.keys())
    return (
        categories,
        np.array([before[category] for category in categories], dtype=np.int64),
        np.array([after[category] for category in categories], dtype=np.int64),
    )


def drawn(values: NDArray[Any], at_most: int, generator: np.random.Generator) -> NDArray[Any]:
    """Return at most so many rows, without replacement and in their order."""
    if len(values) <= at_most:
        return values
    return values[np.sort(generator.choice(len(values), at_most, replace=False))]


def finite_rows(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the rows of (n, d) embeddings whose every number is finite."""
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 2:
        rows = rows.reshape(len(rows), -1) if rows.size else np.empty((0, 0))
    return rows[np.isfinite(rows).all(axis=1)]


def comparable_rows(
    reference: NDArray[Any],
    current: NDArray[Any],
    generator: np.random.Generator,
    *,
    fewest: int,
    at_most: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | Measurement:
    """Return the whole rows of two embeddings, (n, d) and (m, d); why not, where none can be.

    Args:
        reference: (n, d); rows with a number that is not finite are left out.
        current: (m, d), likewise.
        generator: draws where there are too many.
        fewest: rows that each side must have.
        at_most: rows that each side may have.
    """
    before, after = finite_rows(reference), finite_rows(current)
    if min(len(before), len(after)) < fewest:
        return impossible(f"fewer than {fewest} whole rows on one side")
    if before.shape[1] != after.shape[1]:
        return impossible(
            f"{before.shape[1]} dimensions against {after.shape[1]}: not one encoder's"
        )
    return drawn(before, at_most, generator), drawn(after, at_most, generator)


def resampled_p_value(
    observed: float,
    statistics: Callable[[int], NDArray[np.float64]],
    *,
    at_most: int,
    enough: int = 20,
    has_light_tail: bool = False,
) -> float:
    """Return the share of resampled statistics at least as large as the one observed.

    Stops early once `enough` have exceeded it (Besag and Clifford, 1991): quiet signals, which are
    nearly all, cost a tenth of what a drifted one does. The observed one counts among them, so
    the p-value is never zero.

    Args:
        observed: the statistic of the samples as they came.
        statistics: given a number n, draws n statistics under exchangeability, shape (n,).
        at_most: how many to draw; the smallest p-value is 1 / (at_most + 1).
        enough: how many exceedances end the draw.
        has_light_tail: the statistic is a sum over many rows; where no draw reaches the one
            observed, the tail of a distribution with the draws' moments says how rare it is.
    """
    tolerance = 1e-12 * max(1.0, abs(observed))  # equal statistics may differ in the last bit
    draws = np.empty(0)
    exceeded = 0
    batch = min(100, at_most)
    while len(draws) < at_most and exceeded < enough:
        draws = np.append(draws, statistics(min(batch, at_most - len(draws))))
        exceeded = int((draws >= observed - tolerance).sum())
        batch *= 4
    p_value = (exceeded + 1) / (len(draws) + 1)
    return min(p_value, upper_tail(observed, draws)) if has_light_tail and not exceeded else p_value
