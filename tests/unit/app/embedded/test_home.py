"""Does a machine's state go where its servers can reach it and others cannot?"""

import os
from pathlib import Path

import pytest

from app.embedded import home
from app.embedded.home import state_home


def test_an_explicit_home_wins_and_is_created(tmp_path: Path) -> None:
    chosen = tmp_path / "a" / "b"
    assert state_home(chosen, tmp_path) == chosen
    assert chosen.is_dir()


def test_an_ordinary_users_home_is_in_the_checkout_and_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = state_home(None, tmp_path)
    assert found == tmp_path / ".upkeep"
    assert found.stat().st_mode & 0o777 == 0o700


def test_roots_home_is_outside_the_checkout_and_lets_the_servers_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(home, "_ROOTS_STATE", tmp_path / "state")
    checkout = tmp_path / "clone"
    checkout.mkdir()
    found = state_home(None, checkout)
    assert found.parent == tmp_path / "state"
    assert found.name.startswith("clone-")
    assert {each.stat().st_mode & 0o777 for each in (found, found.parent)} == {0o711}
    assert list(checkout.iterdir()) == []


def test_two_checkouts_of_one_name_have_two_homes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(home, "_ROOTS_STATE", tmp_path / "state")
    clones = [tmp_path / "one" / "clone", tmp_path / "two" / "clone"]
    for each in clones:
        each.mkdir(parents=True)
    assert len({state_home(None, each) for each in clones}) == 2
    assert state_home(None, clones[0]) == state_home(None, clones[0])


def test_a_home_that_exists_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    state_home(tmp_path / "new", tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o750
