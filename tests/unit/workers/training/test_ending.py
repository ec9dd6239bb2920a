"""What a library's exception means, and that an error is told even with a full disk."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch

from app.domain.errors import UnknownName
from workers.training.ending import as_training_error, report, status_of
from workers.training.errors import DataError
from workers.training.progress import Preempted, Progress

PROBLEM = {"type": "/problems/disk-full", "title": "The disk is full", "detail": "x"}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "/problems/disk-full"),
        (RuntimeError("IoError: No space left on device (os error 28)"), "/problems/disk-full"),
        (torch.OutOfMemoryError("CUDA out of memory"), "/problems/out-of-memory"),
        (MemoryError(), "/problems/out-of-memory"),
        (DataError("no rows"), "/problems/invalid-training-data"),
        (UnknownName("unknown task type"), "/problems/invalid-recipe"),
    ],
)
def test_an_error_that_no_retry_mends_has_a_type(error: Exception, kind: str) -> None:
    known = as_training_error(error)
    assert known is not None
    assert known.as_problem()["type"] == kind


def test_a_bug_has_no_type_and_counts_as_a_crash() -> None:
    assert as_training_error(ZeroDivisionError()) is None


def test_an_error_that_cannot_be_written_is_still_said_on_the_pipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reading, writing = os.pipe()
    report(tmp_path / "absent", Progress(writing), PROBLEM)
    line = json.loads(os.read(reading, 4096))
    assert line["phase"] == "error"
    assert line["error"] == PROBLEM
    assert "The disk is full" in capsys.readouterr().err
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (Preempted(), 75, None),
        (DataError("no rows"), 1, "/problems/invalid-training-data"),
        (ZeroDivisionError("a bug"), 70, "/problems/training-crashed"),
    ],
)
def test_whatever_stops_the_work_has_a_status_and_is_told(
    tmp_path: Path, error: Exception, status: int, kind: str | None
) -> None:
    def work() -> int:
        raise error

    assert status_of(work, tmp_path, Progress(None)) == status
    told = tmp_path / "error.json"
    assert (json.loads(told.read_text())["type"] if told.exists() else None) == kind
