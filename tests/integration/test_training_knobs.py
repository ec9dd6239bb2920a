"""Each knob of a recipe does what it is for, and a run with all of them turned can be stopped."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

import workers.task_types
from app.domain.registry import scan
from tests.integration.test_training_process import (
    image_job,
    picture,
    span_job,
    table_job,
    text_job,
)
from workers.task_types import task_types
from workers.training import checkpoints, loop
from workers.training.errors import RecipeError
from workers.training.files import describe
from workers.training.job import read_job
from workers.training.optimiser import learned
from workers.training.progress import Preempted, Progress, Stop
from workers.training.run import execute

scan(workers.task_types)


def changed(directory: Path, **changes: Any) -> Path:
    path = directory / "job.json"
    job = json.loads(path.read_text())
    recipe = {**job["recipe"], **changes.pop("recipe", {})}
    path.write_text(json.dumps({**job, **changes, "recipe": recipe}))
    return directory


def trained(directory: Path, **recipe: Any) -> dict[str, Any]:
    job = read_job(changed(directory, validation=None, recipe=recipe))
    execute(job, task_types.get(job.task_type), Progress(None), Stop())
    found: dict[str, Any] = json.loads((directory / "result.json").read_text())
    return found


def scores(directory: Path, inputs: list[dict[str, Any]]) -> np.ndarray:
    job = read_job(directory)
    version: Any = task_types.get(job.task_type).load(job.output)
    found: np.ndarray = version.scores(inputs)
    return found


def pictures(n: int) -> list[dict[str, Any]]:
    draw = np.random.default_rng(1)
    return [{"image": picture(draw, ["upright", "level"][k % 2])} for k in range(n)]


def test_epochs_of_spans_are_judged_on_the_rows_set_apart(tmp_path: Path) -> None:
    knobs = {"validation_share": 0.2, "epochs": 3, "trainable_layers": None}
    found = trained(span_job(tmp_path / "job"), **knobs)
    assert (found["n_validation"], found["n_train"]) == (15, 65)  # of 80, in whole blocks
    assert [set(move) for move in found["history"]] == 4 * [{"epoch", "token_accuracy", "log_loss"}]
    assert found["metrics"]["f1_micro"] > 0.9


def test_a_run_stops_early_and_its_version_is_the_best_epoch(tmp_path: Path) -> None:
    directory = text_job(tmp_path / "job")
    chance = np.random.default_rng(0)  # labels that the texts say nothing of are learned by heart
    rewrite(directory, "label", chance.choice(["sport", "weather"], 80).tolist())
    result = trained(directory, epochs=25, validation_share=0.25, patience=2, head="random")

    history = result["history"]
    assert result["epochs"] == result["best_epoch"] + 2 < 25
    assert result["n_train"] + result["n_validation"] == 80
    assert [line["epoch"] for line in history] == list(range(result["epochs"] + 1))
    best = max(history, key=lambda line: (line["accuracy"], -line["log_loss"]))
    assert best["epoch"] == result["best_epoch"]
    assert result["metrics"]["log_loss"] == pytest.approx(best["log_loss"], abs=1e-5)


def test_patience_without_rows_to_judge_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="set validation_share"):
        trained(text_job(tmp_path / "job"), patience=3)


@pytest.mark.parametrize(("made", "right"), [(text_job, "accuracy"), (span_job, "token_accuracy")])
def test_lora_learns_by_narrow_matrices_and_leaves_plain_layers(
    tmp_path: Path, made: Callable[[Path], Path], right: str
) -> None:
    directory = made(tmp_path / "job")
    knobs = {"lora_rank": 4, "epochs": 25, "trainable_layers": None, "learning_rate": 5e-3}
    found = trained(directory, **knobs, validation_share=0.2, start_share=0.1)
    assert found["metrics"][right] > 0.9
    names = load_file(directory / "output" / "model.safetensors").keys()
    assert not [name for name in names if "lora" in name]


@pytest.mark.parametrize(("made", "rank"), [(text_job, 500), (image_job, 4)])
def test_a_rank_that_no_layer_is_wider_than_is_refused(
    tmp_path: Path, made: Callable[[Path], Path], rank: int
) -> None:
    with pytest.raises(RecipeError, match=f"wider than lora_rank {rank}; take a smaller rank"):
        trained(made(tmp_path / "job"), lora_rank=rank)


@pytest.mark.parametrize("sampling", ["oversample", "undersample"])
def test_sampling_takes_a_rare_class_out_of_the_shadow_of_the_common_one(
    tmp_path: Path, sampling: str
) -> None:
    def share_of_rare(name: str, **recipe: Any) -> float:
        labels = ["level" if k % 8 == 0 else "upright" for k in range(96)]
        directory = image_job(tmp_path / name, labels=labels)
        blank = json.dumps({"image": picture(np.random.default_rng(0), "level")})
        rewrite(directory, "inputs", [blank] * 96)  # how often a class comes is all to learn
        trained(directory, augmentation="none", **recipe)
        return float(scores(directory, [json.loads(blank)])[0, 1])

    assert share_of_rare("plain", epochs=12) < 0.25
    assert share_of_rare(sampling, sampling=sampling, epochs=20) == pytest.approx(0.5, abs=0.1)


def rewrite(directory: Path, column: str, values: list[str]) -> None:
    """Give all rows of a job other inputs or labels."""
    path = json.loads((directory / "job.json").read_text())["train"]
    table = pq.read_table(path)
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array(values)), path)


@pytest.mark.parametrize("make", [image_job, text_job])
def test_mixup_keeps_a_version_from_being_too_sure(
    tmp_path: Path, make: Callable[..., Path]
) -> None:
    def doubt(name: str, **recipe: Any) -> float:
        directory = make(tmp_path / name)
        epochs = 30 if make is image_job else 10
        trained(directory, head="random", epochs=epochs, start_share=0.0, **recipe)
        texts = [{"text": "rain the sun"}, {"text": "goal in match"}]
        inputs = pictures(8) if make is image_job else texts
        return 1.0 - float(scores(directory, inputs).max(axis=1).mean())

    assert doubt("mixed", mixup=1.0) > 2 * doubt("plain")


def test_a_version_is_the_mean_of_its_last_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[dict[str, torch.Tensor]] = []
    step = loop.Loop._step

    def watched(self: loop.Loop, rows: Any) -> float:
        loss = step(self, rows)
        steps.append(learned(self.learner.model))
        return loss

    monkeypatch.setattr(loop.Loop, "_step", watched)
    directory = image_job(tmp_path / "job")
    result = trained(directory, epochs=2, average_share=0.5)

    saved = load_file(directory / "output" / "model.safetensors")
    name = next(name for name in saved if name.startswith("classifier") and "weight" in name)
    late = torch.stack([one[name] for one in steps[len(steps) // 2 :]])
    assert result["steps"] == len(steps) == 12
    assert torch.allclose(saved[name], late.mean(dim=0), atol=1e-6)
    assert not torch.allclose(saved[name], late[-1], atol=1e-6)


class StopAt(Stop):
    """Asks for a stop at the n-th chance."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self._left = n

    def check(self) -> None:
        self._left -= 1
        self.is_requested = self._left < 0
        super().check()


def stops_until_done(directory: Path, *, every: int) -> int:
    """Run a job to its end, stopped at every so many chances; return how often it was."""
    job, n_stops = read_job(directory), 0
    while not (directory / "result.json").exists():
        try:
            execute(job, task_types.get(job.task_type), Progress(None), StopAt(every))
        except Preempted:
            n_stops += 1
            assert n_stops < 40
    return n_stops


def test_a_run_with_all_knobs_turned_ends_with_the_same_bits_wherever_it_is_stopped(
    tmp_path: Path,
) -> None:
    turned = {
        "head": "random",
        "epochs": 5,
        "sampling": "oversample",
        "mixup": 0.3,
        "average_share": 0.6,
        "validation_share": 0.2,
        "patience": 3,
        "token_dropout": 0.2,
        "token_swap": 0.2,
        "label_smoothing": 0.1,
        "dropout": 0.1,
    }
    trained(text_job(tmp_path / "whole"), **turned)
    directory = changed(text_job(tmp_path / "broken"), validation=None, recipe=turned)
    n_stops = stops_until_done(directory, every=24)

    assert n_stops >= 3
    assert checkpoints.latest(directory) is not None
    assert describe(directory / "output") == describe(tmp_path / "whole" / "output")


def test_a_job_sets_newest_rows_apart_for_a_trainer_of_its_own_too(tmp_path: Path) -> None:
    directory = changed(table_job(tmp_path / "job"), validation_share=0.2, n_newest=200)
    result = trained(directory, rounds=20)

    assert result["n_validation"] == 40
    assert result["n_train"] == 760
    assert result["n_newest"] == 160
    assert 0.5 < result["metrics"]["accuracy"] < 1


def test_numbers_are_set_apart_by_the_quarters_of_their_range(tmp_path: Path) -> None:
    directory = table_job(tmp_path / "job")
    rewrite(directory, "label", [str(float(k)) for k in range(800)])
    numbers = {"task_type": "tabular-regression", "labels": [], "validation_share": 0.2}
    result = trained(changed(directory, **numbers), rounds=5)

    assert result["n_validation"] == pytest.approx(160, abs=10)
    assert result["metrics"]["rmse"] == pytest.approx(231, rel=0.4)
