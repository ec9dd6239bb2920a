"""How does a training process say where it is, and hear that it should stop?"""

import json
import math
import os
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from workers.training.errors import DeadlineExceeded

SCHEMA = 1
LEAST_GAP_SECONDS = 0.5


def cpu_seconds() -> float:
    """Return the time of all cores that this process and its ended children have used."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


class Preempted(Exception):
    """The process was asked to stop; a checkpoint says where to go on."""


class Progress:
    """Writes JSON lines to a pipe, at most two a second, and never waits for its reader.

    Attributes:
        cpu_seconds_elsewhere: of processes of this run that have not ended.
    """

    def __init__(self, fd: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = -math.inf
        self._phase = ""
        self.cpu_seconds_elsewhere = 0.0
        self.to(fd)

    def to(self, fd: int | None) -> None:
        """Write there from now on."""
        self._fd = fd
        if fd is not None:
            os.set_blocking(fd, False)  # the name of os's own argument

    def say(self, phase: str, *, at_once: bool = False, **fields: Any) -> None:
        """Write one line, unless the last one is too recent; a new phase is always said.

        Args:
            phase: "prepare", "probe", "train", "evaluate", "keep", "save" or "error".
            at_once: whether to ignore the limit.
            fields: JSON values; a number that is not finite is left out.
        """
        now = self._clock()
        due = at_once or phase != self._phase or now - self._last >= LEAST_GAP_SECONDS
        if self._fd is None or not due:
            return
        known = {
            name: value
            for name, value in fields.items()
            if not (isinstance(value, float) and not math.isfinite(value))
        }
        known["cpu_seconds"] = round(cpu_seconds() + self.cpu_seconds_elsewhere, 3)
        line = json.dumps({"schema": SCHEMA, "phase": phase, **known}) + "\n"
        try:
            os.write(self._fd, line.encode())
        except BlockingIOError:
            return  # the reader is behind; the next line is newer anyway
        except OSError:
            self._fd = None  # the reader is gone
            return
        self._last, self._phase = now, phase


class Stop:
    """Whether the process was asked to stop, or its time is up."""

    def __init__(self, deadline_seconds: float | None = None) -> None:
        self.is_requested = False
        self.spent_before_seconds = 0.0
        self._started = time.monotonic()
        self._deadline_seconds = deadline_seconds

    def listen(self) -> None:
        """Take SIGTERM as the wish to stop at the next step boundary."""
        signal.signal(signal.SIGTERM, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.is_requested = True

    def seconds(self) -> float:
        """Return the time spent so far, earlier attempts included."""
        return self.spent_before_seconds + time.monotonic() - self._started

    def check(self) -> None:
        """Raise if the run must not go on.

        Raises:
            Preempted: SIGTERM came.
            DeadlineExceeded: the time is up.
        """
        if self.is_requested:
            raise Preempted
        if self._deadline_seconds is not None and self.seconds() > self._deadline_seconds:
            raise DeadlineExceeded(
                f"{self.seconds():.0f} s are spent and {self._deadline_seconds:.0f} s were given; "
                "allow more time, or train fewer epochs, rows or layers"
            )
