"""A training process whose memory runs out for real goes on with smaller batches."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from tests.integration.test_training_process import FILLERS, TOPICS, run, text_job, write_rows
from workers.training import checkpoints

LIMITED = """
import re, resource, sys
from pathlib import Path
from workers.training.process import main

warm_up, directory, more = sys.argv[1:]
assert main([warm_up]) == 0  # whatever is loaded, or started, at its first use
used = int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + int(more), used + int(more)))
sys.exit(main([directory]))
"""
MIB = 1 << 20
LONG = 240
N_ROWS = 96
WIDE = 256
"""Of the layers between, so that a whole batch needs some 300 MiB, and one row 3."""
ROOM = 150
"""MiB: far from what a whole batch needs, and from the 40 that all else does."""


def resize(directory: Path, **config: int) -> None:
    """Change the base of a run."""
    path = directory.with_name(f"{directory.name}-base") / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))


def long_job(directory: Path, *, n_long: int = 1, **recipe: Any) -> Path:
    """Lay out a run in which one batch of all rows is padded to the length of a long one."""
    made = text_job(directory)
    resize(directory, max_position_embeddings=256, intermediate_size=WIDE)
    draw = np.random.default_rng(0)
    labels = ["weather", "sport"] * (N_ROWS // 2)
    inputs = [
        {"text": " ".join([*draw.choice(TOPICS[label], 2), *draw.choice(FILLERS, words)])}
        for label, words in zip(labels, [LONG] * n_long + [2] * (N_ROWS - n_long), strict=True)
    ]
    job = json.loads((made / "job.json").read_text())
    job["train"] = write_rows(directory.with_name(f"{directory.name}.parquet"), inputs, labels)
    job["validation"] = None
    job["recipe"] |= {
        "token_budget": 1_000_000, "dropout": 0.0, "epochs": 3, "trainable_layers": None, **recipe
    }  # fmt: skip
    (made / "job.json").write_text(json.dumps(job))
    return made


def start_limited(directory: Path, megabytes: int) -> subprocess.Popen[bytes]:
    """Start a job that has so much more memory than a small one needs."""
    warm_up = directory.with_name(f"{directory.name}-warm-up")
    text_job(warm_up)
    more = [str(warm_up), str(directory), str(megabytes * MIB)]
    # Arrow's own pool reserves a gigabyte at its first use; and the limit is on addresses, which
    # malloc gives back for large blocks alone.
    ours = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_MMAP_THRESHOLD_": str(1 << 16)}
    environment = {**os.environ, **ours}
    with (directory / "process.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", LIMITED, *more], stdout=log, stderr=log, env=environment
        )


def limited(directory: Path, megabytes: int) -> int:
    """Run a job with so much more memory than a small one needs; return its exit status."""
    return start_limited(directory, megabytes).wait(300)


def told_by(directory: Path) -> str:
    """Return what a job said, to explain a failure."""
    files = (directory / "process.log", directory / "error.json")
    return "\n".join(file.read_text() for file in files if file.exists())


def result_of(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "result.json").read_text())
    return found


def weights_of(directory: Path) -> dict[str, Any]:
    return load_file(directory / "output" / "model.safetensors")


def farthest(one: Path, other: Path) -> float:
    first, second = weights_of(one), weights_of(other)
    return max(float(np.abs(first[name] - second[name]).max()) for name in first)


def test_a_batch_that_does_not_fit_is_cut_until_it_does_and_the_result_stays(
    tmp_path: Path,
) -> None:
    whole, small = long_job(tmp_path / "whole"), long_job(tmp_path / "small")
    run(whole)

    assert limited(small, ROOM) == 0, told_by(small)

    expected, found = result_of(whole), result_of(small)
    assert expected["shortages"] == []
    assert (expected["accumulation"], found["steps"]) == (1, expected["steps"])
    assert found["accumulation"] > 1
    said = found["shortages"]
    assert {"probe", "train"} >= {shortage["phase"] for shortage in said} >= {"train"}
    assert all("memory" in shortage["said"] for shortage in said)
    assert farthest(whole, small) < 1e-4


def test_what_was_cut_stays_cut_in_the_next_attempt(tmp_path: Path) -> None:
    directory = long_job(tmp_path / "job", epochs=40)
    child = start_limited(directory, ROOM)
    while accumulation_of(directory) < 2:
        assert child.poll() is None, told_by(directory)
        time.sleep(0.05)
    child.terminate()
    assert child.wait(60) == 75
    before = accumulation_of(directory)

    run(directory)

    found = result_of(directory)
    assert found["accumulation"] == before
    assert {shortage["phase"] for shortage in found["shortages"]} >= {"train"}


def accumulation_of(directory: Path) -> int:
    """Return the parts of a batch by the newest checkpoint; 0 before the first."""
    checkpoint = checkpoints.latest(directory)
    return int(checkpoint.state["position"]["accumulation"]) if checkpoint else 0


def test_accumulation_is_a_knob_that_leaves_the_result_as_it_is(tmp_path: Path) -> None:
    one, four = long_job(tmp_path / "one"), long_job(tmp_path / "four", accumulation=4)
    run(one)
    run(four)

    assert result_of(four)["accumulation"] == 4
    assert farthest(one, four) < 1e-4


def test_weighted_classes_count_the_same_in_parts(tmp_path: Path) -> None:
    knobs = {"class_weight_power": 1.0, "label_smoothing": 0.1, "head": "random"}
    one = long_job(tmp_path / "one", **knobs)
    many = long_job(tmp_path / "many", accumulation=N_ROWS, **knobs)
    run(one)
    run(many)

    assert farthest(one, many) < 1e-4


def test_a_row_that_does_not_fit_alone_is_told_with_what_would_work(tmp_path: Path) -> None:
    directory = long_job(tmp_path / "job", n_long=N_ROWS, head="random", precision="bf16")
    resize(directory, hidden_size=256, num_attention_heads=128)

    assert limited(directory, 100) == 1, told_by(directory)

    error = json.loads((directory / "error.json").read_text())
    assert error["type"] == "/problems/out-of-memory"
    assert "1 rows of cost" in error["detail"]
    assert "give the worker more memory" in error["detail"]


def test_an_attempt_after_a_kill_for_memory_starts_with_smaller_batches(tmp_path: Path) -> None:
    directory = long_job(tmp_path / "job")
    path = directory / "job.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "least_accumulation": 4}))

    run(directory)

    found = result_of(directory)
    assert found["accumulation"] == 4
    assert [shortage["phase"] for shortage in found["shortages"]] == ["killed"]


def test_memory_that_runs_out_beside_the_batches_is_told_as_such(tmp_path: Path) -> None:
    directory = long_job(tmp_path / "job")
    resize(directory, hidden_size=2048)

    assert limited(directory, 80) == 1, told_by(directory)

    assert json.loads((directory / "error.json").read_text())["type"] == "/problems/out-of-memory"
