"""Several processes share the batches of a run, and end together however it ends."""

import atexit
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from bench.runs_support import start
from tests.integration.test_training_process import (
    DEADLINE_SECONDS,
    FORK_SERVER,
    image_job,
    newest_step,
    run,
    span_job,
    table_job,
    text_job,
    wait_until,
)
from workers.training import checkpoints
from workers.training.starting import ForkServer
from workers.training.supervise import Outcome

FAULTY = ForkServer("tests.integration.faulty_ranks")
atexit.register(FAULTY.close)


def with_recipe(directory: Path, **recipe: Any) -> Path:
    """Change a job's recipe."""
    path = directory / "job.json"
    job = json.loads(path.read_text())
    path.write_text(json.dumps({**job, "recipe": {**job["recipe"], **recipe}}))
    return directory


def result_of(outcome: Outcome) -> dict[str, Any]:
    assert outcome.kind == "succeeded", outcome.error
    assert outcome.result is not None
    return outcome.result


def farthest(one: Path, other: Path) -> float:
    """Return the largest gap between the weights, and running statistics, of two outputs."""
    first, second = (load_file(path / "output" / "model.safetensors") for path in (one, other))
    assert first.keys() == second.keys()
    return max(float(np.abs(first[name] - second[name]).max()) for name in first)


def network_job(directory: Path) -> Path:
    path = table_job(directory) / "job.json"
    job = json.loads(path.read_text())
    job |= {"task_type": "neural-tabular-classification", "start": "preset:column-network"}
    path.write_text(json.dumps({**job, "recipe": {"batch_size": 128}}))
    return directory


@pytest.mark.parametrize(
    ("make", "recipe"),
    [
        (text_job, {"epochs": 2, "trainable_layers": None, "token_dropout": 0.2, "mixup": 0.3}),
        (span_job, {"epochs": 1, "trainable_layers": 1, "class_weight_power": 0.5}),
        (image_job, {"epochs": 2, "trainable_layers": None, "batch_size": 31}),
        (network_job, {"epochs": 2}),
    ],
)
def test_two_processes_learn_what_one_does_from_as_many_parts(
    tmp_path: Path, make: Callable[..., Path], recipe: dict[str, Any]
) -> None:
    alone = with_recipe(make(tmp_path / "alone"), **recipe, accumulation=2)
    shared = with_recipe(make(tmp_path / "shared"), **recipe, processes=2)

    expected, found = result_of(run(alone)[0]), result_of(run(shared)[0])

    assert (expected["processes"], found["processes"]) == (1, 2)
    assert found["steps"] == expected["steps"] > 0
    assert farthest(alone, shared) < 1e-4
    assert abs(found["final_loss"] - expected["final_loss"]) < 1e-4


@dataclass(frozen=True)
class Group:
    """A run under way in two processes."""

    directory: Path
    child: Any
    follower: int

    def members(self) -> list[int]:
        """Return the processes of the run's group that have not ended."""
        return [one.pid for one in psutil.process_iter() if _is_of(one, self.child.pid)]


def _is_of(process: psutil.Process, group: int) -> bool:
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


@pytest.fixture
def under_way(tmp_path: Path) -> Iterator[Group]:
    directory = image_job(tmp_path / "job", recipe={"epochs": 12, "processes": 2})
    child = start(directory, FORK_SERVER).child
    wait_until(lambda: newest_step(directory) >= 3, child)
    (follower,) = psutil.Process(child.pid).children()
    yield Group(directory, child, follower.pid)
    child.signal(signal.SIGKILL)
    child.wait()


def test_a_run_stopped_by_sigterm_leaves_nobody_and_goes_on_where_it_was(
    tmp_path: Path, under_way: Group
) -> None:
    whole = image_job(tmp_path / "whole", recipe={"epochs": 12, "processes": 2})
    under_way.child.signal(signal.SIGTERM)
    assert under_way.child.wait(DEADLINE_SECONDS) == 75
    assert under_way.members() == []
    stopped_at = newest_step(under_way.directory)

    resumed = result_of(run(under_way.directory)[0])

    assert resumed["resumed_from_step"] == stopped_at > 3
    assert result_of(run(whole)[0])["files"] == resumed["files"]


def test_a_killed_follower_takes_the_run_along_which_counts_as_killed(under_way: Group) -> None:
    os.kill(under_way.follower, signal.SIGKILL)
    assert under_way.child.wait(DEADLINE_SECONDS) == -signal.SIGKILL
    assert under_way.members() == []
    assert checkpoints.latest(under_way.directory) is not None


def test_the_death_of_rank_0_takes_its_followers_along(under_way: Group) -> None:
    os.kill(under_way.child.pid, signal.SIGKILL)
    assert under_way.child.wait(DEADLINE_SECONDS) == -signal.SIGKILL
    until = time.monotonic() + DEADLINE_SECONDS
    while under_way.members() and time.monotonic() < until:
        os.sched_yield()
    assert under_way.members() == []


def test_an_error_of_the_data_is_told_once_by_all_processes(tmp_path: Path) -> None:
    directory = image_job(tmp_path / "job", labels=["level"] * 8, recipe={"processes": 2})
    outcome, _ = run(directory)
    assert (outcome.kind, outcome.exit_code) == ("failed", 1)
    assert outcome.error is not None
    assert "at least 2 classes" in outcome.error["detail"]


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        ("hangs", 70, "Timed out"),
        ("crashes", 70, "a bug"),
        ("cannot", 1, "a row of rank 1 does not fit"),
    ],
)
def test_what_goes_wrong_in_one_rank_ends_the_run_and_is_told(
    tmp_path: Path, fault: str, status: int, said: str
) -> None:
    directory = image_job(tmp_path / "job", recipe={"processes": 2}, run_id=fault)
    child = start(directory, FAULTY).child
    assert child.wait(DEADLINE_SECONDS) == status
    assert Group(directory, child, 0).members() == []
    assert said in json.loads((directory / "error.json").read_text())["detail"]


def test_all_ranks_cut_their_parts_where_one_has_no_memory(tmp_path: Path) -> None:
    directory = image_job(tmp_path / "job", recipe={"epochs": 1, "processes": 2}, run_id="short")
    child = start(directory, FAULTY).child
    assert child.wait(DEADLINE_SECONDS) == 0
    result = json.loads((directory / "result.json").read_text())
    assert result["accumulation"] == 2
    assert [shortage["said"] for shortage in result["shortages"]] == [
        "the memory of another process ran out"
    ]
