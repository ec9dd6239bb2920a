"""State machines as tables: (state, event) -> state; whatever is not in the table is refused."""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from app.domain.errors import IllegalTransition

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


def after(table: Mapping[tuple[S, E], S], subject: str, state: S, event: E) -> S:
    """Return the state that `event` leads to.

    Args:
        table: the whole machine.
        subject: what the message calls the thing, such as "model version".
        state: where it is.
        event: what happened to it.

    Raises:
        IllegalTransition: the table has no such edge; the message lists the edges there are.
    """
    try:
        return table[state, event]
    except KeyError:
        possible = sorted(str(known) for source, known in table if source == state)
        raise IllegalTransition(
            f"a {subject} that is {state} cannot be {event}; from {state} it can be "
            f"{', '.join(possible) or 'nothing else: that state is final'}"
        ) from None
