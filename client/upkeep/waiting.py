"""How is something waited for that happens on the service?"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from upkeep.errors import StillWaiting

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pace:
    """How often to look: first soon, then less and less often.

    Attributes:
        first_seconds: the first pause.
        longest_seconds: the pauses grow by half each time, no further than this.
    """

    first_seconds: float = 0.1
    longest_seconds: float = 2.0


def wait_until(
    look: Callable[[], T],
    is_over: Callable[[T], bool],
    *,
    what: str,
    timeout_seconds: float | None,
    pace: Pace,
) -> T:
    """Return the first look that is over.

    Args:
        look: asks the service.
        is_over: whether that is what was waited for.
        what: names it in the error.
        timeout_seconds: how long to look at most; None = for ever.
        pace: how often.

    Raises:
        StillWaiting: it was not over in time.
    """
    started = time.monotonic()
    pause_seconds = pace.first_seconds
    while True:
        seen = look()
        if is_over(seen):
            return seen
        waited_seconds = time.monotonic() - started
        if timeout_seconds is not None:
            left_seconds = timeout_seconds - waited_seconds
            if left_seconds <= 0:
                raise StillWaiting(f"{what} is not over after {waited_seconds:.0f} seconds")
            pause_seconds = min(pause_seconds, left_seconds)
        time.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 1.5, pace.longest_seconds)
