"""Which rows of a batch are good? Judged column by column, with the same answers as row by row.

A column that passes one quick test has only good values. Where it fails, its values are judged one
by one, by the rules of `app.services.rows`, which also say what is wrong with a row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from app.domain.identity import canonical_json
from app.domain.observations import (
    MAXIMUM_COORDINATE,
    MAXIMUM_ID_LENGTH,
    MAXIMUM_NUMBER,
    ContractField,
    FieldType,
    Intake,
    Rejected,
    microseconds,
    time_of,
)
from app.domain.privacy import Privacy
from app.services.batches import PREDICTION, Batch, packed, packed_scores
from app.services.privacy import WITHHELD, discreet_fault, discreet_row, pseudonyms
from app.services.rows import (
    FIELDS,
    OWN,
    body_of,
    id_faults,
    id_of,
    kept_shadow,
    label_faults,
    observation_faults,
    scores_faults,
    shadow_faults,
    time_faults,
    version_faults,
)
from app.services.tables import nested
from app.services.times import instants, instants_of
from app.services.violations import violations

_NONE: Final = type(None)


@dataclass(frozen=True, slots=True)
class Sorted:
    """A batch sorted out: the good rows, and the refused ones with their bodies as text.

    Attributes:
        broken: how often the refused rows broke the contract, by field and kind.
    """

    batch: Batch
    rejected: Sequence[Rejected]
    bodies: Sequence[str]
    broken: Mapping[tuple[str, str], int]


def sort_rows(rows: Sequence[Any], intake: Intake, *, now: datetime) -> Sorted:
    """Sort out rows as JSON has them, flat or with `inputs`.

    Args:
        rows: at least one.
        intake: what they are held to.
        now: the time of a row that states none.
    """
    known = {field.name for field in intake.contract.fields}
    has_pictures = any(field.type is FieldType.IMAGE for field in intake.contract.fields)
    shaped = [
        row if not has_pictures and _is_shaped(row) else nested(row, intake.contract, OWN)
        for row in rows
    ]
    whole = [
        place
        for place, row in enumerate(shaped)
        if _is_shaped(row) and row["inputs"].keys() <= known
    ]
    kept = [shaped[place] for place in whole]
    columns = _columns(kept, intake)
    bad = _bad_places(columns, intake)
    if bad:
        kept = [row for n, row in enumerate(kept) if n not in bad]
        columns = _columns(kept, intake)
    taken = {place for n, place in enumerate(whole) if n not in bad}
    refused = {
        place: nested(row, intake.contract, OWN)
        for place, row in enumerate(shaped)
        if place not in taken
    }
    return Sorted(
        _batch(columns, intake, now),
        *refusals(refused, intake),
        violations(refused.values(), intake),
    )


@dataclass(frozen=True, slots=True)
class _Columns:
    """Values of rows as they were sent, column by column; a key that no row has is left out."""

    n_rows: int
    own: Mapping[str, Sequence[Any]]
    inputs: Mapping[str, Sequence[Any]]

    def get(self, key: str) -> Sequence[Any]:
        """Return one of the rows' own columns."""
        return self.own.get(key) or [None] * self.n_rows


def _columns(rows: Sequence[Mapping[str, Any]], intake: Intake) -> _Columns:
    """Return rows of known fields as columns."""
    present = set().union(*rows) if rows else set()
    own = {key: [row.get(key) for row in rows] for key in present - {"inputs"}}
    inputs = [row["inputs"] for row in rows]
    names = [field.name for field in intake.contract.fields]
    try:
        every = list(zip(*map(itemgetter(*names, names[0]), inputs), strict=True)) if names else []
    except KeyError:
        every = []
    if every:
        return _Columns(len(rows), own, dict(zip(names, every, strict=False)))
    return _Columns(len(rows), own, {name: [row.get(name) for row in inputs] for name in names})


def _is_shaped(row: Any) -> bool:
    return type(row) is dict and type(row.get("inputs")) is dict and row.keys() <= FIELDS


def refusals(rows: Mapping[int, Any], intake: Intake) -> tuple[list[Rejected], list[str]]:
    """Say what is wrong with refused rows, by their place in the batch; return their bodies too."""
    if intake.contract.is_private:
        return _discreet_refusals(rows, intake)
    rejected = [
        Rejected(place, id_of(row), observation_faults(row, intake)) for place, row in rows.items()
    ]
    return rejected, [body_of(row) for row in rows.values()]


def _discreet_refusals(rows: Mapping[int, Any], intake: Intake) -> tuple[list[Rejected], list[str]]:
    shown = [discreet_row(row, intake) for row in rows.values()]
    rejected = [
        Rejected(
            place,
            None if id_of(kept) == WITHHELD else id_of(kept),
            [discreet_fault(fault, intake) for fault in observation_faults(row, intake)],
        )
        for (place, row), kept in zip(rows.items(), shown, strict=True)
    ]
    return rejected, [body_of(kept) for kept in shown]


def _bad_places(columns: _Columns, intake: Intake) -> set[int]:
    """Return the places of the rows with a bad value."""
    bad: set[int] = set()
    labels, about = frozenset(intake.labels), intake.answer.about or ""
    if not _are_ids(columns.get("id")):
        bad |= _where(columns.get("id"), id_faults)
    for key in {"prediction", "label"} & columns.own.keys():
        if intake.answers_with or not _are_labels(columns.own[key], labels):
            check = partial(label_faults, key, intake=intake)
            bad |= _where(columns.own[key], check, texts=columns.inputs.get(about))
    others: dict[str, Callable[[Any], Any]] = {
        "at": time_faults,
        "scores": partial(scores_faults, intake=intake),
        "version": version_faults,
    }
    if "shadow" in columns.own:
        check = partial(shadow_faults, intake=intake)
        bad |= _where(columns.own["shadow"], check, texts=columns.inputs.get(about))
    for key in others.keys() & columns.own.keys():
        bad |= _where(columns.own[key], others[key])
    for field in intake.contract.fields:
        values = columns.inputs[field.name]
        if not _QUICK[field.type](values, field):
            bad |= _where(values, field.problem)
    return bad


def _where(
    values: Sequence[Any], faults: Callable[..., Any], texts: Sequence[Any] | None = None
) -> set[int]:
    """Return the places of values with a fault, each judged with its text where there are texts."""
    if texts is None:
        return {place for place, value in enumerate(values) if faults(value)}
    pairs = enumerate(zip(values, texts, strict=True))
    return {place for place, (value, text) in pairs if faults(value, text=text)}


def _batch(columns: _Columns, intake: Intake, now: datetime) -> Batch:
    """Return good rows as they are stored."""
    body = {PREDICTION: _answers(columns.get("prediction"), intake)}
    for field in intake.contract.fields:
        if field.privacy is not Privacy.DROP:
            body |= _packed(columns.inputs[field.name], field, intake)
    times = [now if at is None else time_of(at) or now for at in columns.get("at")]
    shadows = [
        canonical_json(kept_shadow(value, intake)) if value else None
        for value in columns.get("shadow")
    ]
    return Batch(
        ids=pa.array(columns.get("id"), pa.string()),
        observed_at=np.array([microseconds(at) for at in times], dtype=np.int64),
        versions=pa.array(
            [number or intake.serving for number in columns.get("version")], pa.int32()
        ),
        shadow=pa.array(shadows, pa.string()),
        labels=_answers(columns.get("label"), intake),
        body=pa.table(body | packed_scores([value or None for value in columns.get("scores")])),
    )


def _answers(values: Sequence[Any], intake: Intake) -> pa.StringArray:
    """Return good labels or predictions as they are kept."""
    if intake.answers_with is None:
        return pa.array(values, pa.string())
    kept = [None if value is None else intake.answer.stored(value) for value in values]
    return pa.array(kept, pa.string())


def _packed(values: Sequence[Any], field: ContractField, intake: Intake) -> dict[str, pa.Array]:
    """Return the columns of one field from its good values, in the form they are kept in."""
    if field.privacy is Privacy.HASH:
        return {f"input:{field.name}": pseudonyms(pa.array(values, pa.string()), field, intake)}
    if field.type is FieldType.DATETIME:
        return {f"input:{field.name}": instants_of(values)}
    if field.type is FieldType.EMBEDDING:
        values = [None if value is None else field.stored(value) for value in values]
    return packed(field.name, values)


def _are_ids(values: Sequence[Any]) -> bool:
    if set(map(type, values)) != {str}:
        return False
    lengths = set(map(len, values))
    return min(lengths) > 0 and max(lengths) <= MAXIMUM_ID_LENGTH and _are_printable(values)


def _are_labels(values: Sequence[Any], labels: frozenset[str]) -> bool:
    return set(map(type, values)) <= {str, _NONE} and set(values) - {None} <= labels


def _are_printable(values: Sequence[str | None]) -> bool:
    text = "".join(value for value in values if value is not None)
    return "\x00" not in text and (text.isascii() or _is_utf8(text))


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _none_missing(values: Sequence[Any], field: ContractField) -> bool:
    return not field.is_required or None not in values


def _are_numbers(values: Sequence[Any], field: ContractField) -> bool:
    kinds = set(map(type, values))
    if not kinds <= {float, int, _NONE} or (_NONE in kinds and field.is_required):
        return False
    try:
        present = [v for v in values if v is not None] if _NONE in kinds else values
        numbers = np.array(present, dtype=np.float64)
    except OverflowError:
        return False
    if int in kinds and numbers.size and np.abs(numbers).max() > 2**53:
        return False  # beyond it, a rounded integer may cross a bound
    lowest = -MAXIMUM_NUMBER if field.minimum is None else field.minimum
    highest = MAXIMUM_NUMBER if field.maximum is None else field.maximum
    return not numbers.size or bool(numbers.min() >= lowest and numbers.max() <= highest)


def _are_texts(values: Sequence[Any], field: ContractField) -> bool:
    if not set(map(type, values)) <= {str, _NONE} or not _none_missing(values, field):
        return False
    longest = max((len(value) for value in values if value is not None), default=0)
    return longest <= field.maximum_length and _are_printable(values)


def _are_categories(values: Sequence[Any], field: ContractField) -> bool:
    if not set(map(type, values)) <= {str, _NONE} or not _none_missing(values, field):
        return False
    if field.categories is not None and not set(values) - {None} <= set(field.categories):
        return False
    return _are_printable(values)


def _are_booleans(values: Sequence[Any], field: ContractField) -> bool:
    return set(map(type, values)) <= {bool, _NONE} and _none_missing(values, field)


def _are_datetimes(values: Sequence[Any], field: ContractField) -> bool:
    if not set(map(type, values)) <= {str, _NONE} or not _none_missing(values, field):
        return False
    if not _are_printable(values):
        return False
    found = instants(pa.array(values, pa.string()))
    return found is not None and bool(are_between(found, field).all())


def are_between(times: pa.TimestampArray, field: ContractField) -> NDArray[np.bool_]:
    """Return where times keep to a field's bounds, shape (n,); a missing one does."""
    lowest, highest = field.microsecond_bounds
    good = np.ones(len(times), dtype=bool)
    if lowest is None and highest is None:
        return good
    numbers = times.cast(pa.int64())
    missing = numbers.is_null().to_numpy(zero_copy_only=False)
    array = numbers.fill_null(0).to_numpy()
    if lowest is not None:
        good &= array >= lowest
    if highest is not None:
        good &= array <= highest
    return np.asarray(good | missing)


def _are_embeddings(values: Sequence[Any], field: ContractField) -> bool:
    if not set(map(type, values)) <= {list, _NONE} or not _none_missing(values, field):
        return False
    present = [value for value in values if value is not None]
    if not set(map(len, present)) <= {field.dimension}:
        return False
    if not set(map(type, chain.from_iterable(present))) <= {float, int}:
        return False
    try:
        flat = np.fromiter(chain.from_iterable(present), np.float64)
    except OverflowError:
        return False
    return bool((np.abs(flat) <= MAXIMUM_COORDINATE).all())


def _never(_: Sequence[Any], __: ContractField) -> bool:
    return False


_QUICK: Final[Mapping[FieldType, Callable[[Sequence[Any], ContractField], bool]]] = {
    FieldType.TEXT: _are_texts,
    FieldType.IMAGE: _never,
    FieldType.NUMBER: _are_numbers,
    FieldType.CATEGORY: _are_categories,
    FieldType.BOOLEAN: _are_booleans,
    FieldType.DATETIME: _are_datetimes,
    FieldType.EMBEDDING: _are_embeddings,
}
"""One test that only good columns pass; others are judged value by value."""
