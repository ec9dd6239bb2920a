"""A run that was forked is the run that a new interpreter would have been, in life and death."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.runs_support import start
from tests.integration.test_training_process import (
    image_job,
    newest_step,
    text_job,
    wait_until,
    weights,
)
from workers.training import checkpoints
from workers.training.starting import Child, ForkServer, Spawned, started
from workers.training.supervise import Outcome, StopReason, run_process

GONE_SECONDS = 60


@pytest.fixture
def server() -> Iterator[ForkServer]:
    made = ForkServer()
    yield made
    made.close()


@pytest.fixture
def broken() -> Iterator[ForkServer]:
    made = ForkServer("workers.training.no_such_module")
    yield made
    made.close()


def run(
    directory: Path, server: ForkServer | None, *, stop: StopReason | None = None, **more: Any
) -> Outcome:
    return run_process(
        directory,
        on_progress=lambda _: None,
        should_stop=lambda: stop,
        poll_seconds=0.02,
        fork_server=server,
        **more,
    )


def test_it_gives_the_bits_of_a_new_interpreter_and_serves_several_at_once(
    tmp_path: Path, server: ForkServer
) -> None:
    apart = run(text_job(tmp_path / "apart"), None)
    refused = start(image_job(tmp_path / "refused", labels=["level"] * 8), server)
    text, image = (
        start(make(tmp_path / name), server)
        for make, name in [(text_job, "text"), (image_job, "image")]
    )
    for process in (refused, text, image):
        process.end()

    assert [process.child.returncode for process in (refused, text, image)] == [1, 0, 0]
    assert json.loads((tmp_path / "refused" / "error.json").read_text())["detail"]
    assert weights(run(tmp_path / "text", server)) == weights(apart)


def test_its_runs_die_with_it_and_the_next_attempt_goes_on_from_another(
    tmp_path: Path, server: ForkServer
) -> None:
    directory = image_job(tmp_path / "job")
    process = start(directory, server)
    wait_until(lambda: newest_step(directory) >= 3, process.child)
    psutil.Process(server.pid).kill()
    process.end()
    assert process.child.returncode == -signal.SIGKILL

    resumed = run(directory, server)
    assert resumed.result is not None
    assert resumed.result["resumed_from_step"] >= 1
    assert weights(resumed) == weights(run(image_job(tmp_path / "whole"), server))


def test_a_run_that_is_given_up_while_it_loads_never_comes_to_be(
    tmp_path: Path, server: ForkServer
) -> None:
    directory = image_job(tmp_path / "job", recipe={"epochs": 10_000})
    assert run(directory, server, stop="cancel").kind == "cancelled"

    assert run(image_job(tmp_path / "next"), server).kind == "succeeded"  # asked for after it
    assert checkpoints.latest(directory) is None
    assert not psutil.Process(server.pid).children()


def test_where_it_cannot_load_runs_start_as_new_interpreters(
    tmp_path: Path, broken: ForkServer
) -> None:
    broken.start()
    psutil.wait_procs([psutil.Process(broken.pid)], timeout=GONE_SECONDS)

    assert isinstance(started_and_killed(image_job(tmp_path / "job"), None, broken), Spawned)


def test_a_run_that_was_asked_for_while_it_failed_to_load_ends_as_a_crash(
    tmp_path: Path, broken: ForkServer
) -> None:
    outcome = run(image_job(tmp_path / "job"), broken)
    assert (outcome.kind, outcome.exit_code) == ("failed", 70)  # no refusal: it is tried again


def started_and_killed(
    directory: Path, environment: dict[str, str] | None, server: ForkServer
) -> Child:
    child, progress = started(directory, environment, server)
    child.signal(signal.SIGKILL)
    child.wait()
    os.close(progress)
    return child


@pytest.mark.parametrize(
    ("start_from", "environment"), [("some/hub-model", None), (None, {"CUDA_VISIBLE_DEVICES": ""})]
)
def test_what_it_could_not_give_a_run_makes_it_a_new_interpreter(
    tmp_path: Path, server: ForkServer, start_from: str | None, environment: dict[str, str] | None
) -> None:
    directory = image_job(tmp_path / "job")
    job = json.loads((directory / "job.json").read_text())
    (directory / "job.json").write_text(json.dumps(job | {"start": start_from or job["start"]}))

    assert isinstance(started_and_killed(directory, environment, server), Spawned)


PARENT = """
import time
from workers.training.starting import ForkServer
server = ForkServer()
server.start()
print(server.pid, flush=True)
time.sleep(3600)
"""


def test_it_ends_with_the_process_that_started_it() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        server = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    psutil.wait_procs([server], timeout=GONE_SECONDS)
    assert not server.is_running()
