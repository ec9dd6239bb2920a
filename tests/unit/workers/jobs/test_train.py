"""What a worker makes of an error around the training process."""

import errno
import json
from pathlib import Path

import pytest

from app.domain.errors import Invalid
from workers.jobs.train import SHORTAGE, halve_batches, problem_of


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_is_full_for_the_worker_is_named_as_for_the_training_process(
    number: int,
) -> None:
    found = problem_of(OSError(number, "no room"))
    assert found["type"] == "/problems/disk-full"
    assert "free some and retrain" in found["detail"]


def test_an_error_that_was_meant_for_the_user_keeps_its_words() -> None:
    found = problem_of(Invalid("the rows hold one class only"))
    assert (found["type"], found["detail"]) == (
        "/problems/training-failed",
        "the rows hold one class only",
    )


def test_an_error_of_the_code_is_told_with_its_kind() -> None:
    assert problem_of(KeyError("x"))["detail"] == "KeyError('x')"


def test_each_kill_for_memory_halves_the_batches_of_the_next_attempt(tmp_path: Path) -> None:
    found = []
    for _ in range(3):
        halve_batches(tmp_path)
        found.append(json.loads((tmp_path / SHORTAGE).read_text())["least_accumulation"])
    assert found == [2, 4, 8]
