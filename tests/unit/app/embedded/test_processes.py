"""Do processes start in order, come back when they die, and leave when told?"""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.domain.errors import Unavailable
from app.embedded import processes
from app.embedded.children import Child
from app.embedded.processes import Process, Supervisor

pytestmark = pytest.mark.timeout(60)

_SLEEP = ["/bin/sleep", "600"]


def shell(name: str, script: str, **more: object) -> Process:
    return Process(name, ["/bin/sh", "-c", script], {"PATH": "/usr/bin:/bin"}, **more)  # type: ignore[arg-type]


def turn_until(supervisor: Supervisor, holds: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        supervisor._tick()
        time.sleep(0.01)


def test_a_process_that_dies_is_started_again_ever_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "FIRST_BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(processes, "LONGEST_BACKOFF_SECONDS", 0.04)
    said: list[str] = []
    with Supervisor(tmp_path, said.append) as supervisor:
        supervisor.start(shell("short", "echo why; exit 3"))
        supervisor._places[0].backoff_seconds = 0.01
        turn_until(supervisor, lambda: len(said) == 4)
    assert [each.splitlines()[0] for each in said] == [
        f"short ended with status 3; starting it again in {seconds} s"
        for seconds in ("0.01", "0.02", "0.04", "0.04")
    ]
    assert all("| why" in each for each in said)


def test_a_long_healthy_life_is_forgiven_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "HEALTHY_SECONDS", 0.0)
    said: list[str] = []
    with Supervisor(tmp_path, said.append) as supervisor:
        supervisor.start(shell("long", "exit 0"))
        turn_until(supervisor, lambda: len(said) == 2)
    assert all("again in 0.5 s" in each for each in said)


def test_waves_stop_in_reverse_and_each_is_gone_before_the_next_is_asked(tmp_path: Path) -> None:
    order = tmp_path / "order"
    script = "trap 'sleep 0.2; echo {0} >> " + str(order) + "; exit' TERM; touch " + str(tmp_path)
    with Supervisor(tmp_path, print) as supervisor:
        for wave, name in enumerate(("servers", "api", "workers")):
            ready = tmp_path / f"ready-{name}"
            command = script.format(name) + f"/ready-{name}; while :; do sleep 0.01; done"
            supervisor.start(shell(name, command, wave=wave, is_ready=ready.exists))
            supervisor.wait_until_ready(name)
    assert order.read_text().split() == ["workers", "api", "servers"]


def test_one_that_ignores_the_stop_is_killed_after_its_grace_with_its_children(
    tmp_path: Path,
) -> None:
    child = tmp_path / "child"
    said: list[str] = []
    with Supervisor(tmp_path, said.append) as supervisor:
        script = f"trap '' TERM; sleep 600 & echo $! > {child}.new; mv {child}.new {child}; wait"
        supervisor.start(shell("deaf", script, grace_seconds=0.1, is_ready=child.exists))
        supervisor.wait_until_ready("deaf")
    assert said == ["deaf did not stop when asked; killing it"]
    turn_until(supervisor, lambda: not is_running(int(child.read_text())))


def test_one_that_ends_before_it_is_ready_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    with Supervisor(tmp_path, print) as supervisor:
        supervisor.start(shell("broken", "echo no port; exit 2", is_ready=lambda: False))
        with pytest.raises(Unavailable, match=r"(?s)broken ended with status 2.*\| no port"):
            supervisor.wait_until_ready("broken")


def test_one_that_is_never_ready_is_an_error_in_time(tmp_path: Path) -> None:
    with Supervisor(tmp_path, print) as supervisor:
        supervisor.start(Process("slow", _SLEEP, is_ready=lambda: False, ready_seconds=0.05))
        with pytest.raises(Unavailable, match="slow was not ready within 0 s"):
            supervisor.wait_until_ready("slow")


def test_a_signal_ends_the_run_and_the_handlers_are_given_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Supervisor(tmp_path, print) as supervisor:
        supervisor.start(Process("sleeper", _SLEEP))
        os.kill(os.getpid(), signal.SIGTERM)
        supervisor.run()
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_signal_interrupts_what_may_be_interrupted(tmp_path: Path) -> None:
    with Supervisor(tmp_path, print) as supervisor:
        with pytest.raises(KeyboardInterrupt), supervisor.interruptible():
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), supervisor.interruptible():
            pytest.fail("a stop that was asked for before is forgotten")


def test_a_guardian_that_dies_is_replaced(tmp_path: Path) -> None:
    with Supervisor(tmp_path, print) as supervisor:
        supervisor.start(Process("sleeper", _SLEEP))
        first = supervisor._guardian
        assert first is not None
        first.kill()
        turn_until(supervisor, lambda: supervisor._guardian is not first)


def test_a_child_is_started_from_the_main_thread_or_not_at_all(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def start() -> None:
        try:
            Child(Process("late", _SLEEP), tmp_path / "log")
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in str(errors[0])


def test_a_child_inherits_nothing_of_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "1")
    log = tmp_path / "log"
    child = Child(Process("env", ["/usr/bin/env"], {"A": "b"}), log)
    turn_until_ended(child)
    assert log.read_text() == "A=b\n"


def test_a_log_that_grew_long_is_cut_and_its_writer_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_LOG_BYTES", 1000)
    log = tmp_path / "talker.log"
    with Supervisor(tmp_path, print) as supervisor:
        supervisor.start(shell("talker", "while :; do echo 0123456789; sleep 0.001; done"))
        turn_until(supervisor, (tmp_path / "talker.log.1").exists)
        turn_until(supervisor, lambda: 0 < log.stat().st_size <= 1000)
    assert b"\0" not in log.read_bytes()


def test_a_child_that_cannot_be_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Child(Process("none", [str(tmp_path / "none")]), tmp_path / "log")


def turn_until_ended(child: Child) -> None:
    deadline = time.monotonic() + 10
    while child.exit_code() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
