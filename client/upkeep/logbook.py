"""How are answers logged without an outage of Upkeep ever becoming an outage of the model?"""

import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any, Final

from upkeep.errors import Invalid, UpkeepError
from upkeep.model import Model
from upkeep.receipts import BATCH_ROWS
from upkeep.retrying import Retries

ONE_ATTEMPT: Final = Retries(patience_seconds=0.0)

log = logging.getLogger("upkeep")


class Logbook:
    """Sends observations at once; keeps those that cannot be sent, and sends them later.

    Args:
        model: whose observations.
        capacity_rows: how many to keep; beyond that the oldest are dropped, and counted.
        timeout_seconds: how long one answer may be held up by a service that hangs.
        pause_seconds: how long not to try again after a failure.

    Attributes:
        n_dropped: rows that were never sent, for want of room.
        n_rejected: rows that the service refused.
    """

    def __init__(
        self,
        model: Model,
        *,
        capacity_rows: int = 50_000,
        timeout_seconds: float = 2.0,
        pause_seconds: float = 5.0,
    ) -> None:
        self.n_dropped = 0
        self.n_rejected = 0
        self._model = model
        self._timeout_seconds = timeout_seconds
        self._pause_seconds = pause_seconds
        self._capacity_rows = capacity_rows
        self._kept: deque[Mapping[str, Any]] = deque()
        self._lock = Lock()
        self._silent_until = 0.0

    @property
    def n_kept(self) -> int:
        """How many rows wait to be sent."""
        return len(self._kept)

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Send rows, and a batch of what is kept; never raises what the service does.

        Args:
            rows: observations with ids.
        """
        self._keep(rows, are_old=False)
        if time.monotonic() >= self._silent_until:
            self._send(self._taken())

    def flush(self) -> None:
        """Send everything kept.

        Raises:
            Unavailable: the service is away; the rows are kept.
        """
        while rows := self._taken():
            error = self._send(rows)
            if error is not None:
                raise error

    def _keep(self, rows: Sequence[Mapping[str, Any]], *, are_old: bool) -> None:
        with self._lock:
            ordered = [*rows, *self._kept] if are_old else [*self._kept, *rows]
            self._kept = deque(ordered[-self._capacity_rows :])
            n_dropped = len(ordered) - len(self._kept)
            self.n_dropped += n_dropped
        if n_dropped:
            log.warning("observation.dropped n=%d: the service stays away", n_dropped)

    def _taken(self) -> list[Mapping[str, Any]]:
        with self._lock:
            return [self._kept.popleft() for _ in range(min(BATCH_ROWS, len(self._kept)))]

    def _send(self, rows: Sequence[Mapping[str, Any]]) -> UpkeepError | None:
        try:
            receipt = self._model.log(
                rows, retries=ONE_ATTEMPT, timeout_seconds=self._timeout_seconds
            )
        except Invalid as refusal:
            self._count_rejected(len(rows), refusal)
        except UpkeepError as error:
            self._silent_until = time.monotonic() + self._pause_seconds
            log.warning("observation.kept n=%d: %s", len(rows), error)
            self._keep(rows, are_old=True)
            return error
        else:
            if receipt.rejected:
                self._count_rejected(len(receipt.rejected), receipt.rejected[0])
        return None

    def _count_rejected(self, n: int, why: object) -> None:
        with self._lock:
            self.n_rejected += n
        log.warning("observation.rejected n=%d: %s", n, why)
