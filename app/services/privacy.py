"""What may be kept of values that are private, and of rows that were refused?"""

from collections.abc import Mapping
from typing import Any, Final

import pyarrow as pa

from app.domain.errors import Fault
from app.domain.observations import ContractField, Intake
from app.domain.privacy import pseudonym
from app.services.rows import OWN, own_faults

WITHHELD: Final = "(withheld)"


def pseudonyms(values: pa.StringArray, field: ContractField, intake: Intake) -> pa.StringArray:
    """Return strings, some missing, as a hashed field keeps them; each different one once."""
    codes = values.dictionary_encode()
    names = [pseudonym(intake.secret, field.name, value) for value in codes.dictionary.to_pylist()]
    return pa.array(names, pa.string()).take(codes.indices)


def discreet_row(row: Any, intake: Intake) -> Any:
    """Return what may be kept of a refused row where a model has private fields.

    A private value may stand anywhere in it, in another column or under a misspelled name. Only
    good values of what is not private are kept.
    """
    if not isinstance(row, Mapping):
        return WITHHELD
    shown: dict[str, Any] = {
        key: WITHHELD if own_faults(key, row, intake) else row[key] for key in OWN if key in row
    }
    inputs = row.get("inputs")
    if isinstance(inputs, Mapping):
        shown["inputs"] = {
            field.name: inputs[field.name] if _is_open(field, inputs[field.name]) else WITHHELD
            for field in intake.contract.fields
            if field.name in inputs
        }
    return shown


def _is_open(field: ContractField, value: Any) -> bool:
    return field.privacy is None and field.problem(value) is None


def discreet_fault(fault: Fault, intake: Intake) -> Fault:
    """Return a fault without names that are not the contract's: they may be anything."""
    known = {f"/inputs/{field.name}" for field in intake.contract.fields}
    if fault.pointer in known | {"", "/inputs", *(f"/{key}" for key in OWN)}:
        return fault
    first = fault.pointer.split("/")[1]
    return Fault(f"/{first}/?" if first in {"inputs", *OWN} else "/?", fault.detail)
