"""Which signals are the fields of an input watched by, beside those of the task type?"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.domain.observations import ContractField, FieldType
from app.domain.privacy import Privacy
from app.services.times import array_of, instants_of

Inputs = Sequence[Mapping[str, Any]]
Times = Sequence[datetime | None]
Columns = dict[str, dict[str, NDArray[Any]]]

FRESH_SHARE: Final = 0.03
"""What detectors tolerate of a shift of frequencies."""
PERIODS: Final = {"part_of_day": np.timedelta64(1, "D"), "weekday": np.timedelta64(7, "D")}
PARTS: Final = ("00-04", "04-08", "08-12", "12-16", "16-20", "20-24")
"""Hours each would be so many that a small reference lacks some, and short windows few of them."""
WEEKDAYS: Final = ("Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed")  # 1970 began on a Thursday


def field_columns(fields: Sequence[ContractField], inputs: Inputs, times: Times) -> Columns:
    """Return the signals of fields by kind and name, n rows each.

    A number, category or boolean is watched as it is, a hashed field as a category. A text is
    watched for being there: what it says is the task type's to read. An embedding is one signal,
    and its length another. A datetime is watched by its age when it was observed, in seconds, where
    all rows tell when that was, and by its part of the day and weekday (UTC): all of these stay as
    they were while time goes on.

    Args:
        fields: of the contract.
        inputs: n good inputs.
        times: when each was observed, None where nobody said.
    """
    found: Columns = {"numeric": {}, "categorical": {}, "embedding": {}, "text": {}}
    for field in (field for field in fields if field.privacy is not Privacy.DROP):
        name, values = field.name, [row.get(field.name) for row in inputs]
        if field.type is FieldType.NUMBER:
            numbers = [np.nan if value is None else float(value) for value in values]
            found["numeric"][name] = np.asarray(numbers)
        elif field.type in {FieldType.CATEGORY, FieldType.BOOLEAN} or field.privacy:
            found["categorical"][name] = _texts(values)
        elif field.type is FieldType.TEXT:
            found["text"][name] = _texts(values)
        elif field.type is FieldType.EMBEDDING:
            nowhere = [np.nan] * (field.dimension or 1)
            rows = np.array([nowhere if v is None else v for v in values], dtype=np.float64)
            rows = rows.reshape(len(values), -1)  # (n, d)
            found["embedding"][name] = rows
            found["numeric"][f"{name}.length"] = np.sqrt((rows**2).sum(axis=1))
        elif field.type is FieldType.DATETIME:
            at = _instants(values)
            found["categorical"] |= _calendar(name, at)
            if not field.is_required:
                found["categorical"][f"{name}.is_missing"] = _texts(np.isnat(at).tolist())
            if None not in times:
                found["numeric"][f"{name}.age_seconds"] = _ages(at, times) / np.timedelta64(1, "s")
    return found


def bound_to_the_clock(
    fields: Sequence[ContractField], inputs: Inputs, times: Times
) -> frozenset[str]:
    """Return the signals that tell little more than when a row was observed.

    The time of day of a moment less than a day ago is that of the window, and so is the weekday
    of one less than a week ago: short windows would alarm at every look.
    """
    bound = set()
    for field in fields:
        if field.type is FieldType.DATETIME and field.privacy is None:
            ages = np.abs(_ages(_instants([row.get(field.name) for row in inputs]), times))
            known = ages[~np.isnat(ages)]
            for name, period in PERIODS.items():
                if len(known) and np.mean(known < period) > FRESH_SHARE:
                    bound.add(f"{field.name}.{name}")
    return frozenset(bound)


def _texts(values: Sequence[Any]) -> NDArray[Any]:
    return np.asarray([None if value is None else str(value) for value in values], dtype=object)


def _instants(values: Sequence[Any]) -> NDArray[np.datetime64]:
    return array_of(instants_of(values))


def _ages(at: NDArray[np.datetime64], times: Times) -> NDArray[np.timedelta64]:
    return np.asarray(_instants(times) - at)


def _calendar(name: str, at: NDArray[np.datetime64]) -> dict[str, NDArray[Any]]:
    days = at.astype("datetime64[D]")
    hours = (at - days).astype("timedelta64[h]").astype(np.int64)
    gone = np.isnat(at)
    return {
        f"{name}.part_of_day": _named(PARTS, hours // 4, gone),
        f"{name}.weekday": _named(WEEKDAYS, days.astype(np.int64) % 7, gone),
    }


def _named(
    names: Sequence[str], places: NDArray[np.int64], gone: NDArray[np.bool_]
) -> NDArray[Any]:
    """Return the name at each place, None where there is none."""
    return np.array([*names, None], dtype=object)[np.where(gone, len(names), places)]
