"""What can go wrong, as a tree; no error here knows of HTTP.

UpkeepError
├── NotFound            what was asked for is not there
│   └── Forgotten       it was, until retention forgot it
├── Conflict            it is there, but its state forbids the move
│   ├── IllegalTransition
│   └── StaleVerdict    judged against a champion that has since been replaced
├── Invalid             the request cannot mean anything that works
│   ├── UnknownName     no plug-in of that name
│   └── UnsafeArtifact  a file that could run code, or is not what it claims
├── Forbidden           the caller's role does not allow it
├── Unauthorized        no valid key
├── NotReady            the fleet cannot do it yet (nobody has announced it)
├── Busy                as much as may go on at once goes on
└── Unavailable         a dependency is down; the only error worth a retry
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final


class UpkeepError(Exception):
    """Anything that Upkeep refuses or fails to do, with a sentence that says what would work."""


class NotFound(UpkeepError):
    """What was asked for is not there."""


class Forgotten(NotFound):
    """It was there until retention forgot it."""


class Conflict(UpkeepError):
    """The thing exists, but its present state forbids the move."""


class IllegalTransition(Conflict):
    """A state machine has no such edge."""


class StaleVerdict(Conflict):
    """The evidence was gathered against a champion that has since been replaced."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a request: where (an RFC 6901 JSON pointer) and what would work."""

    pointer: str
    detail: str

    def __post_init__(self) -> None:
        """Quote the caller's own words only as far as UTF-8 and Postgres can hold them."""
        object.__setattr__(self, "pointer", printable(self.pointer))
        object.__setattr__(self, "detail", printable(self.detail))


UNPRINTABLE: Final = "must hold neither the NUL character nor half a surrogate pair"


def printable(text: str) -> str:
    """Return a text without NUL characters and halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "?")


@dataclass
class Invalid(UpkeepError):
    """The request cannot mean anything that works; `faults` say where."""

    message: str
    faults: Sequence[Fault] = field(default_factory=tuple)

    def __str__(self) -> str:
        return self.message


class UnknownName(Invalid):
    """No plug-in has that name; the message lists the known ones."""


class UnsafeArtifact(Invalid):
    """A model file that could run code, or that is not what its name claims."""


class Forbidden(UpkeepError):
    """The caller's role does not allow it."""


class Unauthorized(UpkeepError):
    """No valid API key came with the request."""


class NotReady(UpkeepError):
    """No worker has announced what is needed yet; try again shortly."""


class Busy(UpkeepError):
    """As much of it goes on as may at once; try again when something has ended."""


class Unavailable(UpkeepError):
    """A dependency is down; the same call may work later."""
