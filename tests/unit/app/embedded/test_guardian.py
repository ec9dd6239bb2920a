"""Does the guardian kill what outlives its supervisor, and only that?"""

import subprocess
import sys

import pytest

from app.embedded import guardian

pytestmark = pytest.mark.timeout(30)


def guard(*lines: str) -> None:
    """Run a guardian over these lines until it ends."""
    subprocess.run(
        [sys.executable, "-I", "-S", guardian.__file__],
        input="".join(f"{line}\n" for line in lines),
        text=True,
        check=True,
        timeout=20,
    )


def sleeper() -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["/bin/sleep", "60"], start_new_session=True)


def test_a_group_left_behind_is_killed_after_its_seconds() -> None:
    with sleeper() as left:
        guard(f"+{left.pid} 0.1")
        assert left.wait(5) == -9


def test_a_group_that_was_taken_off_the_list_is_left_alone() -> None:
    with sleeper() as other:
        guard(f"+{other.pid} 0.0", f"-{other.pid}")
        assert other.poll() is None
        other.kill()


def test_groups_that_are_gone_are_not_waited_for() -> None:
    with sleeper() as gone:
        gone.kill()
    guard(f"+{gone.pid} 15")
