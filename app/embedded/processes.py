"""How do several processes live and die as one?"""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final, Self

from app.domain.errors import Unavailable, UpkeepError
from app.embedded import guardian
from app.embedded.children import Child, Process

__all__ = ["Process", "Supervisor"]

FIRST_BACKOFF_SECONDS: Final = 0.5
LONGEST_BACKOFF_SECONDS: Final = 10.0
HEALTHY_SECONDS: Final = 30.0
_TICK_SECONDS: Final = 0.1
_PATIENCE_SECONDS: Final = 10.0
_REPEAT_SECONDS: Final = 0.5  # sooner, it is one stop sent to us by two ways
_LOG_BYTES: Final = 32 * 2**20
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class _Place:
    """A process that shall run, and the child that does, or when the next one is due."""

    process: Process
    log: Path
    child: Child | None = None
    backoff_seconds: float = FIRST_BACKOFF_SECONDS
    due_at_seconds: float = 0.0


class Supervisor:
    """Starts processes in order, restarts those that die, and stops them in reverse order.

    Used as a context manager from the main thread: inside, SIGINT, SIGTERM and SIGHUP ask for a
    stop; leaving it stops every child. Should this process be killed outright, the kernel tells
    each child to leave, and a guardian kills the groups of those that do not.

    Args:
        logs: directory of one log file a process.
        announce: takes a sentence for whoever watches.
    """

    def __init__(self, logs: Path, announce: Callable[[str], None]) -> None:
        self._logs = logs
        self._announce = announce
        self._places: list[_Place] = []
        self._guardian: subprocess.Popen[str] | None = None
        self._stop_is_asked = False
        self._asked_at_seconds = 0.0
        self._is_hurried = False
        self._may_interrupt = False
        self._handlers: dict[signal.Signals, Callable[[int, FrameType | None], object] | int] = {}

    def __enter__(self) -> Self:
        for each in _STOP_SIGNALS:
            self._handlers[each] = signal.signal(each, self._on_signal) or signal.SIG_DFL
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        finally:
            for each, handler in self._handlers.items():
                signal.signal(each, handler)

    def start(self, process: Process) -> None:
        """Start a process and keep it running from now on.

        Raises:
            OSError: the program cannot be run.
        """
        place = _Place(process, self._logs / f"{process.name}.log")
        self._places.append(place)
        self._start(place)

    def wait_until_ready(self, name: str) -> None:
        """Wait until a started process works; meanwhile restart others.

        Raises:
            Unavailable: it ended, or was not ready in time; with its last lines.
            KeyboardInterrupt: a stop was asked for.
        """
        place = next(each for each in self._places if each.process.name == name)
        child = place.child
        if child is None:
            raise Unavailable(f"{name} does not run")
        now = time.monotonic()
        deadline, next_word = now + place.process.ready_seconds, now + _PATIENCE_SECONDS
        while not child.is_ready():
            now = time.monotonic()
            if child.exit_code() is not None or now > deadline:
                raise child.failure()
            if now > next_word:
                self._announce(f"still waiting for {name}\n{child.last_lines(3)}")
                next_word = now + _PATIENCE_SECONDS
            self._tick()
            if self._stop_is_asked:
                raise KeyboardInterrupt
            time.sleep(0.02)

    def run(self) -> None:
        """Keep everything running until a signal asks to stop."""
        while not self._stop_is_asked:
            self._tick()
            time.sleep(_TICK_SECONDS)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let a stop signal interrupt what we do ourselves, by KeyboardInterrupt."""
        if self._stop_is_asked:
            raise KeyboardInterrupt
        self._may_interrupt = True
        try:
            yield
        finally:
            self._may_interrupt = False

    def stop(self) -> None:
        """Stop every process, the last wave first; a second signal cuts their grace short."""
        self._may_interrupt = False
        waves = sorted(
            (each for each in self._places if each.child is not None),
            key=lambda place: -place.process.wave,
        )
        for _, wave in groupby(waves, key=attrgetter("process.wave")):
            self._stop_wave([place.child for place in wave if place.child is not None])
        self._places.clear()
        if self._guardian is not None:
            self._close_guardian(self._guardian)
            self._guardian = None

    def _stop_wave(self, children: list[Child]) -> None:
        for child in children:
            child.ask_to_stop()
        asked_at_seconds = time.monotonic()
        for child in children:
            deadline = asked_at_seconds + child.process.grace_seconds
            while child.exit_code() is None and time.monotonic() < deadline:
                if self._is_hurried and child.process.wave > 0:
                    break
                time.sleep(0.01)
            if child.exit_code() is None:
                self._announce(f"{child.process.name} did not stop when asked; killing it")
            child.kill()
            self._tell_guardian(f"-{child.pid}")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self._stop_is_asked:
            self._stop_is_asked, self._asked_at_seconds = True, now
        elif now - self._asked_at_seconds > _REPEAT_SECONDS:
            self._is_hurried = True
        if self._may_interrupt:
            self._may_interrupt = False
            raise KeyboardInterrupt

    def _tick(self) -> None:
        """Bury who died, restart who is due, and keep the logs short."""
        if self._guardian is not None and self._guardian.poll() is not None:
            self._close_guardian(self._guardian)
            self._start_guardian()
        now = time.monotonic()
        for place in self._places:
            if place.child is not None and place.child.exit_code() is not None:
                self._bury(place, place.child, now)
            elif place.child is None and now >= place.due_at_seconds:
                self._restart(place, now)
            elif place.child is not None:
                _shorten(place.log)

    def _bury(self, place: _Place, child: Child, now: float) -> None:
        child.kill()  # what is left of its group
        self._tell_guardian(f"-{child.pid}")
        place.child = None
        if now - child.started_at_seconds >= HEALTHY_SECONDS:
            place.backoff_seconds = FIRST_BACKOFF_SECONDS
        wait_seconds = self._back_off(place, now)
        self._announce(
            f"{place.process.name} {child.how_it_ended()}; "
            f"starting it again in {wait_seconds:g} s\n{child.last_lines(5)}"
        )

    def _restart(self, place: _Place, now: float) -> None:
        try:
            self._start(place)
        except (OSError, UpkeepError) as error:
            wait_seconds = self._back_off(place, now)
            self._announce(
                f"{place.process.name} cannot start: {error}; trying again in {wait_seconds:g} s"
            )

    @staticmethod
    def _back_off(place: _Place, now: float) -> float:
        wait_seconds = place.backoff_seconds
        place.due_at_seconds = now + wait_seconds
        place.backoff_seconds = min(LONGEST_BACKOFF_SECONDS, 2 * wait_seconds)
        return wait_seconds

    def _start(self, place: _Place) -> None:
        could_interrupt, self._may_interrupt = self._may_interrupt, False  # no child unregistered
        try:
            if self._guardian is None:
                self._start_guardian()
            place.child = Child(place.process, place.log)
            self._tell_guardian(f"+{place.child.pid} {place.process.orphan_seconds}")
        finally:
            self._may_interrupt = could_interrupt

    def _start_guardian(self) -> None:
        self._guardian = subprocess.Popen(  # noqa: S603  # our own file
            [sys.executable, "-I", "-S", guardian.__file__],
            stdin=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        for place in self._places:
            if place.child is not None:
                self._tell_guardian(f"+{place.child.pid} {place.process.orphan_seconds}")

    @staticmethod
    def _close_guardian(process: subprocess.Popen[str]) -> None:
        if process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.close()
        process.wait()

    def _tell_guardian(self, line: str) -> None:
        if self._guardian is None or self._guardian.stdin is None:
            return
        with suppress(BrokenPipeError):  # the next one is told of everyone
            self._guardian.stdin.write(line + "\n")
            self._guardian.stdin.flush()


def _shorten(log: Path) -> None:
    """Keep one older file when a log grows long; its writers append, so they go on at the start."""
    if log.stat().st_size <= _LOG_BYTES:
        return
    older = log.with_suffix(".log.1")
    older.write_bytes(log.read_bytes())
    older.chmod(0o600)
    with log.open("r+b") as file:
        file.truncate(0)
