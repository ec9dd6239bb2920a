"""Progress never blocks, and a stop is heard."""

import json
import os

import pytest

from workers.training.errors import DeadlineExceeded
from workers.training.progress import Preempted, Progress, Stop


def test_at_most_two_lines_a_second_are_written() -> None:
    reading, writing = os.pipe()
    now = [0.0]
    progress = Progress(writing, clock=lambda: now[0])
    for tenth in range(20):
        now[0] = tenth / 10
        progress.say("train", step=tenth)
    steps = [json.loads(line)["step"] for line in os.read(reading, 1 << 16).splitlines()]
    assert steps == [0, 5, 10, 15]
    os.close(reading)
    os.close(writing)


def test_a_new_phase_and_an_error_are_said_at_once() -> None:
    reading, writing = os.pipe()
    progress = Progress(writing, clock=lambda: 0.0)
    progress.say("prepare")
    progress.say("train", loss=float("nan"))
    progress.say("train", at_once=True, error={"title": "x"})
    lines = [json.loads(line) for line in os.read(reading, 1 << 16).splitlines()]
    assert [line["phase"] for line in lines] == ["prepare", "train", "train"]
    assert "loss" not in lines[1]
    os.close(reading)
    os.close(writing)


def test_a_reader_that_is_behind_or_gone_is_no_error() -> None:
    reading, writing = os.pipe()
    progress = Progress(writing)
    for step in range(5000):
        progress.say("train", at_once=True, step=step)
    os.close(reading)
    progress.say("train", at_once=True)
    progress.say("train", at_once=True)
    os.close(writing)


def test_a_wish_to_stop_is_raised_at_the_next_check() -> None:
    stop = Stop()
    stop.check()
    stop.is_requested = True
    with pytest.raises(Preempted):
        stop.check()


def test_time_spent_in_earlier_attempts_counts_towards_the_deadline() -> None:
    stop = Stop(deadline_seconds=100)
    stop.check()
    stop.spent_before_seconds = 101
    with pytest.raises(DeadlineExceeded, match="100 s were given"):
        stop.check()
