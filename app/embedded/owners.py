"""Whom do the servers run as, which directories are theirs, and who holds them now?"""

import fcntl
import hashlib
import os
import pwd
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.domain.errors import Conflict, Unavailable

_UNPRIVILEGED = ("postgres", "nobody")
_SOCKET_PATH_BYTES = 107  # sun_path of unix(7), less its final zero


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int


def account_of(uid: int) -> Account:
    """Look a user up.

    Raises:
        Unavailable: it has no name, which Postgres insists on.
    """
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise Unavailable(
            f"user id {uid} has no entry in /etc/passwd, which Postgres needs; "
            "add one, or set DATABASE_URL and REDIS_URL to servers of your own"
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def server_account(data: Path) -> Account:
    """Return whom a server over `data` runs as: its owner, else us, else for root a lesser user.

    Raises:
        Unavailable: the data belong to somebody else, or there is no lesser user.
    """
    ours = os.geteuid()
    if data.exists():
        owner = data.stat().st_uid
        if owner == 0 and ours == 0:
            raise Unavailable(f"{data} belongs to root, and no server runs as root; chown it")
        if ours not in (0, owner):
            raise Unavailable(
                f"{data} belongs to user id {owner} and you are {ours}; run as that user, "
                "or set UPKEEP_HOME to a directory of your own"
            )
        return account_of(owner)
    if ours != 0:
        return account_of(ours)
    for name in _UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise Unavailable(f"root needs a lesser user to run servers as: one of {_UNPRIVILEGED}")


def make_private(directory: Path, account: Account) -> Path:
    """Create a directory that only `account` (and root) may enter; never touch its parents."""
    if not directory.exists():
        directory.mkdir(mode=0o700)
        os.chown(directory, account.uid, account.gid)
    return directory


def make_shared(directory: Path) -> Path:
    """Create a directory of ours that a server's account may pass through; parents as they are."""
    mode = 0o711 if os.geteuid() == 0 else 0o700
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=mode, exist_ok=True)
        each.chmod(mode)  # whatever the umask took
    return directory


def can_enter(directory: Path, account: Account) -> bool:
    """Try as `account` whether every directory on the way lets it through."""
    if account.uid == os.geteuid():
        return os.access(directory, os.X_OK)
    tried = subprocess.run(  # noqa: S603  # our own argv
        ["/bin/sh", "-c", 'cd "$1"', "sh", str(directory)],
        user=account.uid,
        group=account.gid,
        extra_groups=[],
        cwd="/",
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return tried.returncode == 0


def require_entry(directory: Path, account: Account) -> None:
    """Insist that `account` can reach a directory; open no door for it.

    Raises:
        Unavailable: it cannot.
    """
    if not can_enter(directory, account):
        raise Unavailable(
            f"the servers run as {account.name}, who cannot enter {directory}; "
            "set UPKEEP_HOME to a directory whose parents let others pass, such as /var/lib/upkeep"
        )


def socket_directory(wanted: Path, socket_name: str, account: Account) -> Path:
    """Return a private directory short enough for a socket: `wanted`, else one in /tmp.

    Raises:
        Unavailable: somebody else sits on the short name.
    """
    if len(os.fsencode(wanted / socket_name)) <= _SOCKET_PATH_BYTES:
        directory = make_private(wanted, account)
    else:
        digest = hashlib.sha256(os.fsencode(wanted)).hexdigest()[:12]
        directory = make_private(Path("/tmp") / f"upkeep-{account.uid}-{digest}", account)  # noqa: S108  # checked below
    found = directory.lstat()
    is_private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
    if not is_private or found.st_uid != account.uid:
        raise Unavailable(f"{directory} must be a directory private to {account.name}; remove it")
    return directory


class DirectoryLock:
    """One supervisor at a time over a directory; the kernel frees it however the holder ends."""

    def __init__(self, path: Path) -> None:
        """Take the lock, or say who has it.

        Raises:
            Conflict: another process holds it.
        """
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._file, 32).decode(errors="replace").strip() or "unknown"
            os.close(self._file)
            raise Conflict(
                f"{path.parent} is in use by process {holder}; stop that one, "
                "or set UPKEEP_HOME to another directory"
            ) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let the next one in; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def processes_inside(directory: Path) -> Iterator[int]:
    """Yield the processes whose working directory this is, the dead but unreaped ones left out."""
    target = directory.stat()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            inside = (entry / "cwd").stat()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:  # it just left, is a zombie, or is another user's and so not of this data
            continue
        if (inside.st_dev, inside.st_ino) == (target.st_dev, target.st_ino) and state not in "ZX":
            yield int(entry.name)
