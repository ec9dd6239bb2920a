"""Does `make demo` show what it promises, and leave nothing behind?"""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from tests.conftest import redis_database
from tests.servers import fresh_database, passable_home

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def home() -> Iterator[Path]:
    with passable_home() as folder:
        yield folder


@pytest.fixture
def digits() -> ModuleType:
    spec = importlib.util.spec_from_file_location("digits", EXAMPLES / "digits.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def servers_named() -> Iterator[dict[str, str]]:
    """Databases of one's own on the servers that the environment names; nothing where none is."""
    with ExitStack() as stack:
        named = {}
        if url := os.environ.get("DATABASE_URL"):
            named["DATABASE_URL"] = stack.enter_context(fresh_database(url))
        if url := os.environ.get("REDIS_URL"):
            named["REDIS_URL"] = redis_database(url)
        yield named


def start(home: Path, servers: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(EXAMPLES / "demo.py")],
        cwd=home,
        env={**os.environ, **servers, "UPKEEP_HOME": str(home), "DEMO_EXIT": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def left_running(home: Path) -> list[str]:
    """Name the processes that were started for this home."""
    found = []
    for process in psutil.process_iter():
        try:
            words, variables = process.cmdline(), process.environ()
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if any(str(home) in word for word in words) or variables.get("UPKEEP_HOME", "").startswith(
            str(home)
        ):
            found.append(" ".join(words))
    return found


def wait_until_gone(home: Path, *, seconds: float) -> list[str]:
    deadline = time.monotonic() + seconds
    while (left := left_running(home)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_holds_its_claims_draws_a_picture_and_leaves_nothing_running(home, servers_named):
    demo = start(home, servers_named)
    output, _ = demo.communicate()
    assert demo.returncode == 0, output
    assert (home / "demo-digits.png").read_bytes().startswith(b"\x89PNG")
    assert left_running(home) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_demo_that_is_ended_in_the_middle_leaves_nothing_running(home, servers_named, number):
    demo = start(home, servers_named)
    heard = next((line for line in demo.stdout if line.startswith("First HTTP 200")), None)
    demo.send_signal(number)
    demo.communicate()
    assert heard is not None
    assert wait_until_gone(home, seconds=90) == []


def test_no_picture_of_the_stream_comes_twice(digits):
    stream = digits.digits_stream(seed=0, strength=0.0)
    pictures = [row["inputs"]["image"] for row in stream.training]
    pictures += [digits.encode(one) for each in stream.slices for one in each.pictures]
    n_alike_in_the_source = 1797 - len(
        {one.tobytes() for one in digits.load_digits().images.astype("uint8")}
    )
    assert len(pictures) - len(set(pictures)) <= n_alike_in_the_source


def test_a_scanner_of_strength_zero_changes_no_picture(digits):
    stream = digits.digits_stream(seed=0, strength=0.0)
    assert stream.before == stream.after


def test_only_the_drifted_slices_are_drifted(digits):
    still = digits.digits_stream(seed=0, strength=0.0)
    moved = digits.digits_stream(seed=0, strength=1.0)
    differ = [a.pictures != b.pictures for a, b in zip(still.slices, moved.slices, strict=True)]
    assert differ == [one.is_drifted for one in moved.slices]


def test_the_seed_alone_sets_the_order(digits):
    first, same, other = (digits.digits_stream(seed=n, strength=1.0) for n in (1, 1, 2))
    assert first.slices == same.slices
    assert first.slices != other.slices
