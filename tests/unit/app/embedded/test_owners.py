"""Is a directory held by one at a time, and is a socket's private and short enough?"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.domain.errors import Conflict, Unavailable
from app.embedded.owners import (
    DirectoryLock,
    account_of,
    processes_inside,
    server_account,
    socket_directory,
)

_US = account_of(os.geteuid())


def test_a_lock_names_its_holder_to_the_next_one(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path / "lock")
    with pytest.raises(Conflict, match=f"in use by process {os.getpid()}"):
        DirectoryLock(tmp_path / "lock")
    lock.release()
    DirectoryLock(tmp_path / "lock").release()


def test_a_lock_is_not_followed_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        DirectoryLock(tmp_path / "lock")


def test_a_short_socket_path_is_used_as_it_is(tmp_path: Path) -> None:
    assert socket_directory(tmp_path / "run", "s", _US) == tmp_path / "run"
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700


def test_a_long_socket_path_becomes_a_short_private_one_that_stays_the_same(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 110)
    found = socket_directory(long, "s", _US)
    try:
        assert len(str(found)) < 60
        assert found.stat().st_mode & 0o777 == 0o700
        assert socket_directory(long, "s", _US) == found
    finally:
        shutil.rmtree(found)


@pytest.mark.parametrize("mode", [0o777, 0o755, 0o710])
def test_a_socket_directory_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(mode)
    with pytest.raises(Unavailable, match="must be a directory private to"):
        socket_directory(tmp_path / "run", "s", _US)


def test_a_link_in_place_of_a_socket_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "run").symlink_to(tmp_path / "real")
    with pytest.raises(Unavailable, match="must be a directory private to"):
        socket_directory(tmp_path / "run", "s", _US)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_servers_over_existing_data_run_as_the_owner_of_the_data(tmp_path: Path) -> None:
    os.chown(tmp_path, 1, 1)
    assert server_account(tmp_path).uid == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a lesser user to choose")
def test_roots_servers_run_as_a_lesser_user(tmp_path: Path) -> None:
    assert server_account(tmp_path / "new").uid != 0
    with pytest.raises(Unavailable, match="belongs to root"):
        server_account(tmp_path)


def test_data_of_somebody_else_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(Unavailable, match="belongs to user id"):
        server_account(tmp_path)


def test_a_process_is_seen_in_its_directory_until_it_ends(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "input()"]
    with subprocess.Popen(argv, cwd=tmp_path, stdin=subprocess.PIPE) as process:
        assert list(processes_inside(tmp_path)) == [process.pid]
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert list(processes_inside(tmp_path)) == []  # a zombie still, and nobody
