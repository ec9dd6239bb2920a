"""The inputs of a window beside those of its reference, as the rule of faults reads them."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from numpy.typing import NDArray

from app.domain.fault_marks import Side
from app.domain.faults import Look, Prior
from app.domain.observations import ContractField
from app.services import incidents
from app.services.windows import Window
from workers.detectors import as_numbers
from workers.jobs.columns import read_fields

Columns = Mapping[str, Mapping[str, NDArray[Any]]]

_KEPT: Final = 8
_sides: OrderedDict[tuple[int, ...], tuple[Columns, dict[str, Side]]] = OrderedDict()


def faults_of(window: Window, reference: Columns, current: Columns) -> Look:
    """Say which inputs of a window arrive broken."""
    shown_by = fields_of(_table(reference), window.model.contract.fields)
    prior = Prior(
        fields=shown_by,
        media=" and ".join(one.name for one in read_fields(window)),
        presence={
            name
            for name, field in shown_by.items()
            if name in reference.get("text", {})
            or (name in reference.get("categorical", {}) and name not in {field, f"input.{field}"})
        },
        seen_through=window.watch.through,
    )
    return incidents.look(
        window.known,
        _sides_of(reference),
        _table(current),
        window.current,
        prior,
        rules=window.policy.faults,
    )


def fields_of(columns: Iterable[str], contract: Sequence[ContractField]) -> dict[str, str]:
    """Return which field each column shows, where it is not measured of a text or picture.

    A field's column has its name, or `input.NAME` where a signal is called so; what is made of a
    field, such as its age, is `NAME.WHAT`.
    """
    names = set(columns)
    fields = {one.name for one in contract}
    found = {}
    for name in names:
        plain = name.removeprefix("input.")
        if name in fields and f"input.{name}" not in names:
            found[name] = name
        elif plain != name and plain in fields:
            found[name] = plain
        elif plain.rpartition(".")[0] in fields:
            found[name] = plain.rpartition(".")[0]
    return found


def _table(columns: Columns) -> dict[str, NDArray[Any]]:
    numbers = {name: as_numbers(values) for name, values in columns.get("numeric", {}).items()}
    return {**numbers, **columns.get("categorical", {}), **columns.get("text", {})}


def _sides_of(reference: Columns) -> dict[str, Side]:
    """Return the columns of a reference; those of the last few are remembered."""
    key = tuple(id(values) for kind in reference.values() for values in kind.values())
    if key not in _sides:
        _sides[key] = reference, {n: Side(values) for n, values in _table(reference).items()}
        while len(_sides) > _KEPT:
            _sides.popitem(last=False)
    return _sides[key][1]
