"""Inference records: what a model was shown and answered, and what a valid one looks like."""

import base64
import binascii
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from app.domain.answers import Answer, Classes
from app.domain.errors import UNPRINTABLE, Fault, printable
from app.domain.pictures import SIGNATURE, png_fault
from app.domain.privacy import Privacy, pseudonym

MAXIMUM_TEXT_LENGTH: Final = 1_000_000
MAXIMUM_ID_LENGTH: Final = 200
MAXIMUM_NUMBER: Final = sys.float_info.max
MAXIMUM_COORDINATE: Final = (2 - 2**-23) * 2.0**127
"""The largest number of single precision: no coordinate of an embedding is beyond it."""
NO_TIME: Final = "must be an RFC 3339 time with an offset, such as 2026-01-31T12:00:00Z"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def time_of(value: Any) -> datetime | None:
    """Return a time as it was sent, aware; None when it is none."""
    if isinstance(value, datetime):
        value = value if value.tzinfo else value.replace(tzinfo=UTC)
    elif isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    else:
        return None
    # At the ends of the calendar an offset leads out of it, where nobody can read it back.
    return value if value.tzinfo and 1 < value.year < 9999 else None


def microseconds(at: datetime) -> int:
    """Return an aware time as microseconds since 1970."""
    return (at - _EPOCH) // _MICROSECOND


def time_text(value: int) -> str:
    """Return microseconds since 1970 as an RFC 3339 time in UTC."""
    return (_EPOCH + value * _MICROSECOND).isoformat()


class FieldType(StrEnum):
    """What a field of the input holds."""

    TEXT = "text"
    IMAGE = "image"
    NUMBER = "number"
    CATEGORY = "category"
    BOOLEAN = "boolean"
    DATETIME = "datetime"
    EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True)
class ContractField:
    """What is allowed in one field of the input.

    Attributes:
        minimum, maximum: bounds of a number; of a datetime, in seconds since 1970.
        categories: the only values of a category; None = any string.
        maximum_length: of a text, in characters.
        dimension: how many numbers an embedding has.
        privacy: what becomes of its values before they are stored; None = they are kept.
    """

    name: str
    type: FieldType
    is_required: bool = True
    minimum: float | None = None
    maximum: float | None = None
    categories: Sequence[str] | None = None
    maximum_length: int = MAXIMUM_TEXT_LENGTH
    dimension: int | None = None
    privacy: Privacy | None = None

    @property
    def microsecond_bounds(self) -> tuple[int | None, int | None]:
        """Return the bounds of a datetime in microseconds since 1970."""
        low, high = self.minimum, self.maximum
        return (
            None if low is None else round(low * 1e6),
            None if high is None else round(high * 1e6),
        )

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with one value of this field; None when it is good, or missing."""
        if value is None:
            return "is required" if self.is_required else None
        return _CHECKS[self.type](value, self)

    def stored(self, value: Any) -> Any:
        """Return a good value in the form it is kept in: times in UTC, coordinates as floats."""
        if self.type is FieldType.DATETIME:
            at = time_of(value)
            return None if at is None else time_text(microseconds(at))
        if self.type is FieldType.EMBEDDING:
            return [float(number) for number in value]
        return value


@dataclass(frozen=True, slots=True)
class InputContract:
    """The fields an input must and may have."""

    fields: Sequence[ContractField]

    def faults(self, inputs: Any, pointer: str = "/inputs") -> list[Fault]:
        """Return everything wrong with one input; empty when it keeps the contract."""
        if not isinstance(inputs, Mapping):
            return [Fault(pointer, f"must be an object with the fields {self._names()}")]
        known = {allowed.name: allowed for allowed in self.fields}
        found = [
            Fault(f"{pointer}/{name}", f"unknown field; the contract has {self._names()}")
            for name in inputs
            if name not in known
        ]
        for name, allowed in known.items():
            problem = allowed.problem(inputs.get(name))
            if problem:
                found.append(Fault(f"{pointer}/{name}", problem))
        return found

    @property
    def is_private(self) -> bool:
        """Whether values of some field may not be kept as they are."""
        return any(field.privacy is not None for field in self.fields)

    def _names(self) -> str:
        return ", ".join(allowed.name for allowed in self.fields)


def _check_text(value: Any, allowed: ContractField) -> str | None:
    if not isinstance(value, str):
        return f"must be a string, not {type(value).__name__}"
    if len(value) > allowed.maximum_length:
        return f"has {len(value)} characters; at most {allowed.maximum_length} are allowed"
    return None if printable(value) == value else UNPRINTABLE


def _check_image(value: Any, _: ContractField) -> str | None:
    if not isinstance(value, str):
        return f"must be a PNG as a base64 string, not {type(value).__name__}"
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return "must be a PNG as a base64 string; this is not base64"
    if not data.startswith(SIGNATURE):
        return "must be a PNG as a base64 string; this decodes to something else"
    return png_fault(data)


def _check_number(value: Any, allowed: ContractField) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"must be a number, not {type(value).__name__}"
    if not -MAXIMUM_NUMBER <= value <= MAXIMUM_NUMBER:  # NaN too
        return "must be finite; leave the field out for a missing value"
    if allowed.minimum is not None and value < allowed.minimum:
        return f"must be at least {allowed.minimum:g}"
    if allowed.maximum is not None and value > allowed.maximum:
        return f"must be at most {allowed.maximum:g}"
    return None


def _check_category(value: Any, allowed: ContractField) -> str | None:
    if not isinstance(value, str):
        return f"must be a string, not {type(value).__name__}"
    if allowed.categories is not None and value not in allowed.categories:
        return f"must be one of {', '.join(allowed.categories)}"
    return None if printable(value) == value else UNPRINTABLE


def _check_boolean(value: Any, _: ContractField) -> str | None:
    return None if isinstance(value, bool) else f"must be a boolean, not {type(value).__name__}"


def _check_datetime(value: Any, allowed: ContractField) -> str | None:
    at = time_of(value)
    if at is None:
        return NO_TIME
    lowest, highest = allowed.microsecond_bounds
    if lowest is not None and microseconds(at) < lowest:
        return f"must be at {time_text(lowest)} or later"
    if highest is not None and microseconds(at) > highest:
        return f"must be at {time_text(highest)} or earlier"
    return None


def _check_embedding(value: Any, allowed: ContractField) -> str | None:
    if not isinstance(value, list):
        return f"must be a list of {allowed.dimension} numbers, not {type(value).__name__}"
    if len(value) != allowed.dimension:
        return f"has {len(value)} numbers; exactly {allowed.dimension} are needed"
    for place, number in enumerate(value):
        if isinstance(number, bool) or not isinstance(number, int | float):
            return f"must hold numbers only; the one at {place} is {type(number).__name__}"
        if not -MAXIMUM_COORDINATE <= number <= MAXIMUM_COORDINATE:  # NaN too
            return f"must hold finite numbers of single precision; the one at {place} is not"
    return None


_CHECKS: Final = {
    FieldType.TEXT: _check_text,
    FieldType.IMAGE: _check_image,
    FieldType.NUMBER: _check_number,
    FieldType.CATEGORY: _check_category,
    FieldType.BOOLEAN: _check_boolean,
    FieldType.DATETIME: _check_datetime,
    FieldType.EMBEDDING: _check_embedding,
}


@dataclass(frozen=True, slots=True)
class Observation:
    """One inference record.

    Attributes:
        id: the client's own id, unique within the model.
        sequence: arrival order; 0 before it is stored.
        inputs: what the model saw, by field.
        prediction: what it answered, as `Answer.stored` keeps it; None when not sent.
        scores: label -> probability, when sent.
        version: number of the version that answered; None when unknown.
        shadow: version number (as text) -> what that version would have answered.
        label: the true answer once known, as it is kept.
    """

    id: str
    at: datetime
    inputs: Mapping[str, Any]
    prediction: str | None = None
    scores: Mapping[str, float] | None = None
    version: int | None = None
    shadow: Mapping[str, str] = field(default_factory=dict)
    label: str | None = None
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Intake:
    """What the observations of a model are held to.

    Attributes:
        labels: what it may answer, where that is one of a set.
        serving: the champion's number, for rows that name no version; None before there is one.
        secret: what values of hashed fields are hashed with; empty where there are none.
        answers_with: what it answers with, where that is not one of its labels.
    """

    model_id: UUID
    labels: Sequence[str]
    contract: InputContract
    serving: int | None
    secret: bytes = field(default=b"", repr=False)
    answers_with: Answer | None = None

    @property
    def answer(self) -> Answer:
        """Return the kind of its answers."""
        return self.answers_with or Classes(self.labels)

    def stored(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return a good input in the form it is kept in: nothing missing, nothing private."""
        kept = {}
        for allowed in self.contract.fields:
            value = inputs.get(allowed.name)
            if value is None or allowed.privacy is Privacy.DROP:
                continue
            value = allowed.stored(value)
            if allowed.privacy is Privacy.HASH:
                value = pseudonym(self.secret, allowed.name, value)
            kept[allowed.name] = value
        return kept


@dataclass(frozen=True, slots=True)
class Label:
    """A true label that arrived later, for an observation known by the client's id."""

    observation_id: str
    label: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Rejected:
    """One row of a batch that was not stored, by its place in the batch."""

    index: int
    id: str | None
    faults: Sequence[Fault]


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of a batch: how many rows were new, already there, or refused."""

    n_accepted: int
    n_duplicates: int
    rejected: Sequence[Rejected]
