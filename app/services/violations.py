"""Which fields do refused rows break, and in which way?"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from app.domain.observations import ContractField, FieldType, Intake
from app.services.rows import FIELDS, OWN, own_faults

UNKNOWN_FIELD: Final = "?"
"""Stands for all fields that neither the contract nor an observation has: they may be many."""
_TYPES: Final[Mapping[FieldType, tuple[type, ...]]] = {
    FieldType.TEXT: (str,),
    FieldType.IMAGE: (str,),
    FieldType.NUMBER: (int, float),
    FieldType.CATEGORY: (str,),
    FieldType.BOOLEAN: (bool,),
    FieldType.DATETIME: (str, datetime),
    FieldType.EMBEDDING: (list,),
}


def violations(rows: Iterable[Any], intake: Intake) -> Counter[tuple[str, str]]:
    """Count what is wrong with refused rows, by field and kind.

    Kinds: `missing`, a value that must be there; `type`, a value of another type; `value`, one out
    of its bounds, its set or its form; `unknown`, a field that is not known.
    """
    return Counter(found for row in rows for found in _of_row(row, intake))


def _of_row(row: Any, intake: Intake) -> set[tuple[str, str]]:
    if not isinstance(row, Mapping):
        return {("inputs", "type")}
    found = {(key, "value") for key in OWN if own_faults(key, row, intake)}
    if row.get("id") is None:
        found = found - {("id", "value")} | {("id", "missing")}
    inputs = row.get("inputs")
    if not isinstance(inputs, Mapping):
        found.add(("inputs", "missing" if inputs is None else "type"))
        inputs = {}
    else:
        for field in intake.contract.fields:
            if field.problem(inputs.get(field.name)) is not None:
                found.add((field.name, _kind(field, inputs.get(field.name))))
    known = {field.name for field in intake.contract.fields}
    if not row.keys() <= FIELDS or not inputs.keys() <= known:
        found.add((UNKNOWN_FIELD, "unknown"))
    return found


def _kind(field: ContractField, value: Any) -> str:
    if value is None:
        return "missing"
    is_other = not isinstance(value, _TYPES[field.type]) or (
        field.type is FieldType.NUMBER and isinstance(value, bool)
    )
    return "type" if is_other else "value"
