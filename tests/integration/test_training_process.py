"""The training process keeps its exit contract under kills, stops and bad data."""

import atexit
import base64
import contextlib
import io
import json
import multiprocessing
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from bench.runs_support import start
from workers.training import checkpoints
from workers.training.starting import Child, ForkServer
from workers.training.supervise import Outcome, StopReason, run_process

FORK_SERVER = ForkServer()
"""Of all tests of this process: what a run needs is loaded once."""
atexit.register(FORK_SERVER.close)
N_KILLS = 60
DEADLINE_SECONDS = 500
RESNET = {
    "model_type": "resnet",
    "num_channels": 1,
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}
TOPICS = {"weather": ["rain", "sun", "wind", "snow"], "sport": ["goal", "team", "match", "coach"]}
FILLERS = ["the", "a", "in", "on", "won", "lost", "falls", "shines"]
BERT = {
    "model_type": "bert",
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}


def picture(draw: np.random.Generator, label: str) -> str:
    pixels = draw.integers(0, 60, (16, 16), dtype=np.uint8)
    at = int(draw.integers(3, 12))
    pixels[(slice(None), at) if label == "upright" else (at, slice(None))] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def write_rows(path: Path, inputs: Sequence[dict[str, str]], labels: Sequence[str]) -> str:
    ids = [f"row-{n}" for n in range(len(labels))]
    table = {"id": ids, "inputs": [json.dumps(one) for one in inputs], "label": list(labels)}
    pq.write_table(pa.table(table), path)
    return str(path)


def order(directory: Path, **changes: Any) -> Path:
    directory.mkdir(parents=True)
    job = {
        "run_id": "run",
        "seed": 7,
        "start_is_base": True,
        "validation": None,
        "checkpoint_every_seconds": 0.1,
        "threads": 1,
        "output": str(directory / "output"),
        "progress_fd": None,
        "deadline_seconds": None,
        **changes,
    }
    (directory / "job.json").write_text(json.dumps(job))
    return directory


def image_job(directory: Path, labels: Sequence[str] | None = None, **changes: Any) -> Path:
    base = directory.with_name(f"{directory.name}-base")
    base.mkdir(parents=True)
    (base / "config.json").write_text(json.dumps({**RESNET, **changes.pop("config", {})}))
    (base / "preprocessor_config.json").write_text('{"size": {"height": 16, "width": 16}}')
    draw = np.random.default_rng(0)
    chosen = list(labels or ["upright", "level"] * 48)
    inputs = [{"image": picture(draw, label)} for label in chosen]
    rows = write_rows(base.with_suffix(".parquet"), inputs, chosen)
    recipe = {"epochs": 30, "batch_size": 16, "precision": "fp32", **changes.pop("recipe", {})}
    return order(
        directory,
        task_type="image-classification",
        start=str(base),
        labels=["upright", "level"],
        train=changes.pop("train", rows),
        recipe=recipe,
        **changes,
    )


def text_job(directory: Path, **changes: Any) -> Path:
    base = directory.with_name(f"{directory.name}-base")
    base.mkdir(parents=True)
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *TOPICS["weather"],
        *TOPICS["sport"],
        *FILLERS,
    ]
    (base / "vocab.txt").write_text("\n".join(vocabulary))
    (base / "config.json").write_text(json.dumps({**BERT, "vocab_size": len(vocabulary)}))
    (base / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "BertTokenizer", "do_lower_case": true}'
    )
    draw = np.random.default_rng(0)
    labels = ["weather", "sport"] * 40
    inputs = []
    for label in labels:
        words = [*draw.choice(TOPICS[label], 2), *draw.choice(FILLERS, draw.integers(1, 6))]
        inputs.append({"text": " ".join(words)})
    rows = write_rows(base.with_suffix(".parquet"), inputs, labels)
    recipe = {"epochs": 10, "token_budget": 64, "precision": "fp32", "learning_rate": 3e-3}
    recipe["head_learning_rate"] = 3e-3
    return order(
        directory,
        task_type="text-classification",
        start=str(base),
        labels=["sport", "weather"],
        train=rows,
        validation=rows,
        recipe=recipe,
        **changes,
    )


def span_job(directory: Path) -> Path:
    """The job of texts, the words of whose topics are to be marked."""
    job = json.loads((text_job(directory) / "job.json").read_text())
    table = pq.read_table(job["train"])
    places = [
        [
            {"start": word.start(), "end": word.end(), "label": topic}
            for word in re.finditer(r"\w+", json.loads(inputs)["text"])
            for topic, words in TOPICS.items()
            if word.group() in words
        ]
        for inputs in table.column("inputs").to_pylist()
    ]
    labels = pa.array([json.dumps(spans) for spans in places])
    pq.write_table(table.set_column(2, "label", labels), job["train"])
    job |= {"task_type": "token-classification", "validation": None}
    (directory / "job.json").write_text(json.dumps(job))
    return directory


def table_job(directory: Path, labels: Sequence[str] | None = None, **changes: Any) -> Path:
    draw = np.random.default_rng(0)
    chosen = list(labels or ["stays", "leaves"] * 400)
    inputs = [
        {
            "age": float(draw.normal(50 if label == "stays" else 40, 9)),
            "plan": str(draw.choice(["old", "new"] if label == "stays" else ["new", "trial"])),
            **({"paid": bool(draw.random() < 0.5)} if draw.random() < 0.8 else {}),
        }
        for label in chosen
    ]
    directory.parent.mkdir(parents=True, exist_ok=True)
    rows = write_rows(directory.with_name(f"{directory.name}.parquet"), inputs, chosen)
    recipe = {"rounds": 400, "patience": None, "row_share": 0.8, **changes.pop("recipe", {})}
    return order(
        directory,
        task_type="tabular-classification",
        start="preset:boosted-trees",
        labels=["stays", "leaves"],
        train=changes.pop("train", rows),
        recipe=recipe,
        input_contract=[
            {"name": "age", "type": "number"},
            {"name": "plan", "type": "category"},
            {"name": "paid", "type": "boolean"},
        ],
        **changes,
    )


def network_job(directory: Path, **changes: Any) -> Path:
    """The job of columns, for a network."""
    recipe = {"epochs": 6, "patience": None, **changes.pop("recipe", {})}
    job = json.loads((table_job(directory, **changes) / "job.json").read_text())
    job |= {"task_type": "neural-tabular-classification", "recipe": recipe}
    (directory / "job.json").write_text(json.dumps(job | {"start": "preset:column-network"}))
    return directory


def number_job(directory: Path, **changes: Any) -> Path:
    """The same, of numbers: 1 for who stays, 0 for who leaves."""
    job = json.loads((network_job(directory, **changes) / "job.json").read_text())
    table = pq.read_table(job["train"])
    numbers = ["1.0" if label == "stays" else "0.0" for label in table["label"].to_pylist()]
    pq.write_table(table.set_column(2, "label", pa.array(numbers)), job["train"])
    job |= {"task_type": "neural-tabular-regression", "labels": []}
    (directory / "job.json").write_text(json.dumps(job))
    return directory


def run(
    directory: Path, should_stop: Callable[[], StopReason | None] = lambda: None
) -> tuple[Outcome, list[dict[str, Any]]]:
    said: list[dict[str, Any]] = []
    outcome = run_process(
        directory,
        on_progress=said.append,
        should_stop=should_stop,
        poll_seconds=0.02,
        fork_server=FORK_SERVER,
    )
    return outcome, said


WEIGHTS = ("model.safetensors", "model.txt")


def weights(outcome: Outcome) -> str:
    assert outcome.kind == "succeeded", outcome.error
    assert outcome.result is not None
    return next(f["sha256"] for f in outcome.result["files"] if f["path"] in WEIGHTS)


def n_checkpoints(directory: Path) -> int:
    return sum(p.name.removeprefix("ckpt-").isdecimal() for p in directory.glob("ckpt-*"))


def newest_step(directory: Path) -> int:
    steps = [p.name.removeprefix("ckpt-") for p in directory.glob("ckpt-*")]
    return max((int(step) for step in steps if step.isdecimal()), default=-1)


def wait_until(holds: Callable[[], bool], child: Child) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        assert child.poll() is None, f"the process ended with {child.returncode}"
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("make", "is_torn"),
    [
        (image_job, True),
        (text_job, False),
        (span_job, False),
        (table_job, True),
        (network_job, True),
        (number_job, False),
    ],
)
def test_a_run_killed_in_the_middle_ends_with_the_same_bits(
    tmp_path: Path, make: Callable[..., Path], is_torn: bool
) -> None:
    whole, _ = run(make(tmp_path / "whole"))
    broken = make(tmp_path / "broken")
    child = start(broken, FORK_SERVER).child
    wait_until(lambda: newest_step(broken) >= 3 and n_checkpoints(broken) >= 2, child)
    child.signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    last = newest_step(broken)
    if is_torn:
        held = broken / f"ckpt-{last}"
        next(held / name for name in WEIGHTS if (held / name).exists()).write_bytes(b"torn")
    resumed, _ = run(broken)
    assert weights(resumed) == weights(whole)
    assert resumed.result is not None
    resumed_from = resumed.result["resumed_from_step"]
    assert 0 <= resumed_from < last if is_torn else resumed_from >= 1


@pytest.mark.parametrize(
    ("make", "reason", "kind"),
    [
        (image_job, "shutdown", "preempted"),
        (image_job, "cancel", "cancelled"),
        (image_job, "deadline", "failed"),
        (table_job, "cancel", "cancelled"),
        (number_job, "shutdown", "preempted"),
    ],
)
def test_the_supervisor_stops_a_run_for_a_reason(
    tmp_path: Path, make: Callable[..., Path], reason: StopReason, kind: str
) -> None:
    longest = {"rounds": 10_000} if make is table_job else {"epochs": 500}
    directory = make(tmp_path / "job", recipe=longest)
    outcome, _ = run(directory, lambda: reason if newest_step(directory) >= 3 else None)
    assert (outcome.kind, outcome.exit_code) == (kind, 75)


def test_a_whole_run_reports_its_phases_and_writes_its_files_again_where_they_broke(
    tmp_path: Path,
) -> None:
    directory = text_job(tmp_path / "job")
    outcome, said = run(directory)
    assert weights(outcome)
    assert {"prepare", "probe", "train", "keep", "save"} <= {line["phase"] for line in said}
    result = outcome.result
    assert result is not None
    assert result["metrics"]["accuracy"] > 0.9
    assert result["deterministic"] is True
    assert 0 < result["utilisation"] < 2
    assert {"config.json", "tokenizer.json", "upkeep.json"} <= {f["path"] for f in result["files"]}
    again, _ = run(directory)
    assert again.result == result
    (directory / "output" / "model.safetensors").write_bytes(b"")
    mended, _ = run(directory)
    assert weights(mended) == weights(outcome)


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"labels": ["level"] * 8}, "invalid-training-data", "at least 2 classes"),
        ({"labels": ["level", "upright", "round"]}, "invalid-training-data", "'round'"),
        ({"recipe": {"epoch": 3}}, "invalid-recipe", "epoch"),
        ({"recipe": {"learning_rate": 9.0, "head_learning_rate": 9.0, "clip_norm": 1e9,
                     "epochs": 60}}, "training-diverged", "learning_rate"),
        ({"deadline_seconds": 0.01}, "deadline-exceeded", "allow more time"),
        ({"train": "/nowhere/rows.parquet"}, "invalid-training-data", "Parquet"),
    ],
)  # fmt: skip
def test_what_no_retry_mends_is_told_in_error_json(
    tmp_path: Path, changes: dict[str, Any], kind: str, said: str
) -> None:
    directory = image_job(tmp_path / "job", **changes)
    outcome, lines = run(directory)
    assert (outcome.kind, outcome.exit_code) == ("failed", 1)
    assert outcome.error is not None
    assert outcome.error["type"] == f"/problems/{kind}"
    assert said in outcome.error["detail"]
    assert json.loads((directory / "error.json").read_text()) == outcome.error
    assert lines[-1]["phase"] == "error"


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"labels": ["stays"] * 8}, "invalid-training-data", "at least 2 classes"),
        ({"recipe": {"epochs": 3}}, "invalid-recipe", "epochs"),
        ({"deadline_seconds": 0.01}, "deadline-exceeded", "allow more time"),
        ({"input_contract": [{"name": "age", "type": "text"}]}, "invalid-recipe", "no column"),
        ({"input_contract": [{"name": "plan", "type": "number"}]}, "invalid-training-data",
         "'plan' must be a number"),
        ({"input_contract": [{"name": "other", "type": "number"}]}, "invalid-training-data",
         "miss every column"),
    ],
)  # fmt: skip
def test_what_no_retry_mends_of_columns_is_told_too(
    tmp_path: Path, changes: dict[str, Any], kind: str, said: str
) -> None:
    directory = table_job(tmp_path / "job", labels=changes.pop("labels", None))
    job = json.loads((directory / "job.json").read_text())
    (directory / "job.json").write_text(json.dumps(job | changes))
    outcome, _ = run(directory)
    assert (outcome.kind, outcome.exit_code) == ("failed", 1)
    assert outcome.error is not None
    assert outcome.error["type"] == f"/problems/{kind}"
    assert said in outcome.error["detail"]


def test_trees_report_their_phases_and_are_written_again_where_they_broke(tmp_path: Path) -> None:
    directory = table_job(tmp_path / "job", recipe={"patience": 20})
    outcome, said = run(directory)
    assert weights(outcome)
    assert {"prepare", "train", "save"} <= {line["phase"] for line in said}
    trained = [line for line in said if line["phase"] == "train"]
    assert all(0 < line["step"] <= line["total_steps"] for line in trained)
    assert all({"loss", "eta_seconds", "rows_per_second"} <= line.keys() for line in trained)
    (directory / "output" / "model.txt").write_bytes(b"")
    mended, _ = run(directory)
    assert weights(mended) == weights(outcome)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, with room for the order and its rows but for no checkpoint."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_a_full_disk_ends_the_run_and_says_so(tmp_path: Path, small_disk: Path) -> None:
    order_of = json.loads((image_job(tmp_path / "job") / "job.json").read_text())
    directory = small_disk / "job"
    directory.mkdir()
    order_of["output"] = str(directory / "output")
    (directory / "job.json").write_text(json.dumps(order_of))
    outcome, _ = run(directory)
    assert (outcome.kind, outcome.exit_code) == ("failed", 1)
    assert outcome.error is not None
    assert outcome.error["type"] == "/problems/disk-full"
    assert "free some and retrain" in outcome.error["detail"]
    assert not list(directory.glob("ckpt-[0-9]*")) or checkpoints.latest(directory) is not None


def test_a_picture_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    rows = write_rows(
        tmp_path / "rows.parquet", [{"image": "AAAA"}, {"image": "AAAA"}], ["level", "upright"]
    )
    outcome, _ = run(image_job(tmp_path / "job", train=rows))
    assert outcome.error is not None
    assert "input 0: the picture cannot be decoded" in outcome.error["detail"]


def test_a_base_with_a_pickle_is_refused(tmp_path: Path) -> None:
    directory = image_job(tmp_path / "job")
    (tmp_path / "job-base" / "pytorch_model.bin").write_bytes(b"x")
    outcome, _ = run(directory)
    assert outcome.error is not None
    assert "pytorch_model.bin may hold code" in outcome.error["detail"]


def write_for_ever(root: Path, said: Connection) -> None:
    step = 0
    while True:
        step += 1
        tensors = {"model": {"weight": torch.full((64, 1024), float(step))}}
        checkpoints.write(root, step, tensors, {"step": step})
        said.send(step)


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_a_readable_checkpoint(tmp_path: Path) -> None:
    draw = random.Random(0)
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([__name__])
    for number in range(N_KILLS):
        root = tmp_path / str(number)
        ours, its = server.Pipe(duplex=False)
        child = server.Process(target=write_for_ever, args=(root, its))
        child.start()
        its.close()
        last = ours.recv()
        time.sleep(draw.uniform(0, 0.05))  # the moment of the kill
        child.kill()
        child.join()
        with contextlib.suppress(EOFError):
            while True:
                last = ours.recv()
        found = checkpoints.latest(root)
        assert found is not None
        assert found.step in {last, last + 1}
        assert bool((found.tensors["model"]["weight"] == found.step).all())
