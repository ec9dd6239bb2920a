"""When is a failed request worth sending again, and after how long?"""

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

PASSING_STATUSES: Final = frozenset({502, 503, 504})
"""Answers that say nothing of the request itself."""
REFUSED_UNSEEN: Final = frozenset({429, 503})
"""Answers after which the request has surely not been carried out."""


@dataclass(frozen=True, slots=True)
class Retries:
    """Exponential backoff with full jitter (Brooker, 2015), up to a deadline.

    Attributes:
        patience_seconds: how long one call may take, all attempts together; 0 = one attempt.
        first_delay_seconds: upper end of the first pause; each later one is twice as long.
        longest_delay_seconds: the pauses grow no further.
    """

    patience_seconds: float = 60.0
    first_delay_seconds: float = 0.2
    longest_delay_seconds: float = 10.0

    def pause_seconds(self, attempt: int, wish_seconds: float | None) -> float:
        """Return the pause after a failed attempt.

        Args:
            attempt: 1 after the first.
            wish_seconds: what the service asked for (Retry-After); never undercut.
        """
        longest = min(self.longest_delay_seconds, self.first_delay_seconds * 2 ** (attempt - 1))
        drawn = random.uniform(0, longest)  # noqa: S311  # spreads clients, guards no secret
        return drawn if wish_seconds is None else wish_seconds + drawn


def may_repeat(failure: httpx.Response | httpx.TransportError, *, is_repeatable: bool) -> bool:
    """Return whether sending the request again can do no harm and may help.

    Args:
        failure: the answer, or why there was none.
        is_repeatable: whether doing it twice equals doing it once.
    """
    if isinstance(failure, httpx.Response):
        passing = PASSING_STATUSES | REFUSED_UNSEEN if is_repeatable else REFUSED_UNSEEN
        return failure.status_code in passing
    if isinstance(failure, httpx.UnsupportedProtocol):
        return False
    return is_repeatable or isinstance(failure, httpx.ConnectError | httpx.ConnectTimeout)


def wished_pause_seconds(response: httpx.Response, *, now: datetime | None = None) -> float | None:
    """Return what Retry-After asks for, in seconds or as an HTTP date; None if nothing usable."""
    value = response.headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - (now or datetime.now(UTC))).total_seconds())
