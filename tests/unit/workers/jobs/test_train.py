"""What a worker makes of an error around the training process."""

import errno
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.adapters.artifacts import FileArtifacts
from app.domain.errors import Invalid
from workers.jobs.train import SHORTAGE, features_of, halve_batches, keep_features, problem_of
from workers.training.job import FEATURES


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


def context_of(store: Path) -> Any:
    return SimpleNamespace(artifacts=FileArtifacts(store))


def run_with(result: dict[str, Any] | None) -> Any:
    return SimpleNamespace(result=result)


def test_what_a_run_kept_is_laid_out_for_the_next(tmp_path: Path) -> None:
    context, job_dir = context_of(tmp_path / "store"), tmp_path / "job"
    job_dir.mkdir()
    (job_dir / FEATURES).write_bytes(b"features")
    result = keep_features(context, job_dir, {"steps": 3, "features": {"n_rows": 2}})
    assert (result["steps"], result["features"]["n_rows"]) == (3, 2)
    assert result["features"]["size_bytes"] == 8

    place = features_of(context, run_with(result), job_dir)
    assert place is not None
    assert Path(place).read_bytes() == b"features"
    assert Path(place) != job_dir / FEATURES


@pytest.mark.parametrize("result", [None, {}, {"features": None}])
def test_a_run_that_kept_nothing_leaves_nothing(
    tmp_path: Path, result: dict[str, Any] | None
) -> None:
    context = context_of(tmp_path / "store")
    assert features_of(context, run_with(result), tmp_path) is None
    assert features_of(context, None, tmp_path) is None
    assert keep_features(context, tmp_path, result or {}) == (result or {})


def test_features_that_are_lost_or_damaged_are_gone_without(tmp_path: Path) -> None:
    context, job_dir = context_of(tmp_path / "store"), tmp_path / "job"
    job_dir.mkdir()
    missing = {"features": {"n_rows": 1}}
    assert keep_features(context, job_dir, missing)["features"] is None
    (job_dir / FEATURES).write_bytes(b"features")
    kept = keep_features(context, job_dir, missing)
    context.artifacts.path(kept["features"]["sha256"]).write_bytes(b"rust")
    assert features_of(context, run_with(kept), job_dir) is None
    shutil.rmtree(tmp_path / "store")
    assert features_of(context, run_with(kept), job_dir) is None
