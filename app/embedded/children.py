"""How does one child process start, and how is it made sure that it does not outlive us?"""

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from app.domain.errors import Unavailable
from app.embedded.owners import Account

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Process:
    """What to run, as whom, and how to tell that it works or make it leave.

    Attributes:
        environment: the whole environment; nothing is inherited.
        account: whom to run it as; None is ourselves.
        grace_seconds: between `stop_signal` and SIGKILL.
        orphan_seconds: what it may take to leave after our own sudden death.
        wave: waves stop one after the other, the highest first.
        before_start: runs before every start, the restarts included.
        is_ready: tells that it works; None is ready as soon as it runs.
    """

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    account: Account | None = None
    directory: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    grace_seconds: float = 15.0
    orphan_seconds: float = 3.0
    wave: int = 0
    before_start: Callable[[], None] | None = None
    is_ready: Callable[[], bool] | None = None
    ready_seconds: float = 60.0


class Child:
    """A running `Process`: leader of its own session, told to leave when its parent dies."""

    def __init__(self, process: Process, log: Path) -> None:
        """Start it from the main thread, its output appended to `log`.

        The kernel ties a child to the thread that forked it, not to the process, so a child
        started from a passing thread would be told to leave at once.

        Raises:
            RuntimeError: this is not the main thread.
            OSError: the program cannot be run.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(f"start {process.name} from the main thread")
        self.process = process
        self.log = log
        if process.before_start is not None:
            process.before_start()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        output = os.open(log, flags, 0o600)
        try:
            self._log_offset_bytes = os.fstat(output).st_size
            self._popen = self._spawn(process, output)
        finally:
            os.close(output)
        self.started_at_seconds = time.monotonic()

    @staticmethod
    def _spawn(process: Process, output: int) -> subprocess.Popen[bytes]:
        account = process.account
        changes_user = account is not None and account.uid != os.geteuid()
        return subprocess.Popen(  # noqa: S603  # our own argv, no shell
            list(process.argv),
            env=dict(process.environment),
            cwd=process.directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            user=account.uid if account and changes_user else None,
            group=account.gid if account and changes_user else None,
            extra_groups=[] if changes_user else None,
            preexec_fn=dies_with(os.getpid(), process.stop_signal),  # noqa: PLW1509  # runs after setuid, which would clear it; one C call
        )

    @property
    def pid(self) -> int:
        """The process id, which is also its group's and session's."""
        return self._popen.pid

    def exit_code(self) -> int | None:
        """Return how it ended as `subprocess` says it (negative: a signal), None while it runs."""
        return self._popen.poll()

    def ask_to_stop(self) -> None:
        """Send its stop signal, to it alone: it knows best how to take its own children down."""
        if self._popen.poll() is None:
            self._popen.send_signal(self.process.stop_signal)

    def kill(self) -> None:
        """Kill whatever is left of its group, itself included, and reap it."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()

    def stop(self) -> None:
        """Ask it to leave, wait its grace, then kill what is left."""
        self.ask_to_stop()
        deadline = time.monotonic() + self.process.grace_seconds
        while self._popen.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        self.kill()

    def wait_until_ready(self) -> None:
        """Wait until it works.

        Raises:
            Unavailable: it ended, or was not ready in time; with its last lines.
        """
        deadline = time.monotonic() + self.process.ready_seconds
        while not self.is_ready():
            if self.exit_code() is not None or time.monotonic() > deadline:
                raise self.failure()
            time.sleep(0.02)

    def failure(self) -> Unavailable:
        """Return the error of one that ended, or that still is not ready, with its last lines."""
        late = f"was not ready within {self.process.ready_seconds:.0f} s"
        what = late if self.exit_code() is None else self.how_it_ended()
        return Unavailable(f"{self.process.name} {what}\n{self.last_lines()}")

    def is_ready(self) -> bool:
        """Tell whether it runs and says that it works."""
        if self.exit_code() is not None:
            return False
        return self.process.is_ready is None or self.process.is_ready()

    def how_it_ended(self) -> str:
        """Say how it ended, to follow its name in a sentence."""
        code = self.exit_code()
        if code is None:
            return "still runs"
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with status {code}"

    def last_lines(self, n_lines: int = 15) -> str:
        """Return what it last wrote since this start, indented, and where the rest is."""
        with self.log.open("rb") as log:
            size_bytes = log.seek(0, os.SEEK_END)
            start = self._log_offset_bytes if self._log_offset_bytes <= size_bytes else 0
            log.seek(max(start, size_bytes - 16_384))
            lines = log.read().decode(errors="replace").splitlines()[-n_lines:]
        return "\n".join([*(f"  | {line}" for line in lines), f"  (all of it: {self.log})"])


def dies_with(parent_pid: int, stop_signal: signal.Signals) -> Callable[[], None]:
    """Return what a fresh child calls to be sent `stop_signal` when `parent_pid` ends."""

    def prepare() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(stop_signal))
        if os.getppid() != parent_pid:  # it ended before the kernel was told
            os._exit(1)
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_DFL)  # a shell's `&` and nohup leave them ignored

    return prepare
