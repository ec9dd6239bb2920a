"""How are our tests used in plain Evidently?"""

import importlib
import os
import warnings
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from workers.detectors import Detector, detectors

os.environ.setdefault("DO_NOT_TRACK", "1")

PREFIX: Final = "upkeep_"
LEVEL: Final = 0.05
_TYPES: Final = {"numeric": "num", "categorical": "cat"}


def register_stat_tests() -> list[str]:
    """Make each of our detectors of columns a stat test of Evidently; return their names.

    Afterwards `ValueDrift(column="amount", method="upkeep_calibrated")` and the presets' `method`
    take them. Evidently drops missing values before it asks a test, asks it for one column at a
    time, and compares the p-value with its threshold (0.05 unless given): neither missingness,
    dependence, tolerated effects nor the correction for the number of columns are seen there.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stat_tests = importlib.import_module("evidently.legacy.calculations.stattests")
        column_type = importlib.import_module("evidently.legacy.core").ColumnType
    names = []
    for name, detector in detectors.items():
        types = [column_type(_TYPES[kind]) for kind in detector.kinds if kind in _TYPES]
        if ":" in name or not types:
            continue
        names.append(PREFIX + name.replace("-", "_"))
        stat_tests.register_stattest(
            stat_tests.StatTest(
                name=names[-1],
                display_name=f"Upkeep {name}",
                allowed_feature_types=types,
                default_threshold=LEVEL,
            ),
            _asked(detector),
        )
    return names


def _asked(detector: Detector) -> Callable[[Any, Any, Any, float], tuple[float, bool]]:
    def answer(
        reference: Any, current: Any, feature_type: Any, threshold: float
    ) -> tuple[float, bool]:
        is_numeric = str(feature_type.value) == "num"
        measured = detector.measure(
            *(_values(side, is_numeric=is_numeric) for side in (reference, current)), seed=0
        )
        p_value = 1.0 if measured.p_value is None else measured.p_value
        return p_value, p_value <= threshold

    return answer


def _values(column: Any, *, is_numeric: bool) -> NDArray[Any]:
    if is_numeric:
        return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
    return np.array([None if value != value else value for value in column], dtype=object)  # noqa: PLR0124  NaN is not itself
