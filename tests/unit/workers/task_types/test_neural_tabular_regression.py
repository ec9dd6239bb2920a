"""Networks over columns that tell a number: what they learn, and in which unit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from upkeep.predictors import open_predictor
from workers.task_types.neural_tabular_regression import NeuralTabularRegression
from workers.training.errors import RecipeError
from workers.training.files import write_json
from workers.training.job import read_job
from workers.training.progress import Progress, Stop
from workers.training.run import execute

TASK = NeuralTabularRegression()
BASE = "preset:column-network"
FIELDS = [{"name": "x", "type": "number"}, {"name": "kind", "type": "category"}]
Row = tuple[dict[str, Any], float]


def table(n: int, seed: int = 0, *, slope: float = 300.0, level: float = 1e6) -> list[Row]:
    draw = np.random.default_rng(seed)
    rows: list[Row] = []
    for _ in range(n):
        x, kind = float(draw.normal()), str(draw.choice(["u", "v"]))
        told = level + slope * abs(x) + (500.0 if kind == "u" else 0.0) + float(draw.normal(0, 20))
        shown: dict[str, Any] = {"x": x, "kind": kind}
        rows.append(({**shown, "x": None} if draw.random() < 0.05 else shown, told))
    return rows


def learn(
    directory: Path, rows: list[Row], *, start: Path | None = None, **recipe: Any
) -> tuple[Path, dict[str, Any]]:
    directory.mkdir()
    path = directory / "rows.parquet"
    columns = {
        "id": [str(n) for n in range(len(rows))],
        "inputs": [json.dumps(shown) for shown, _ in rows],
        "label": pa.array([repr(label) for _, label in rows], pa.string()),
    }
    pq.write_table(pa.table(columns), path)
    job = {
        "run_id": "r",
        "task_type": TASK.name,
        "start": str(start or BASE),
        "start_is_base": start is None,
        "labels": [],
        "train": str(path),
        "validation": None,
        "recipe": {"epochs": 30, "patience": 10, **recipe},
        "seed": 5,
        "threads": 1,
        "output": str(directory / "output"),
        "input_contract": FIELDS,
    }
    write_json(directory / "job.json", job)
    execute(read_job(directory), TASK, Progress(None), Stop())
    return directory / "output", json.loads((directory / "result.json").read_text())


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    return learn(tmp_path_factory.mktemp("champion") / "job", table(600))


def rmse(version: Path, rows: list[Row]) -> float:
    said = TASK.load(version).values([shown for shown, _ in rows])
    return float(np.sqrt(np.mean((said - [label for _, label in rows]) ** 2)))


def test_a_number_far_from_zero_is_learned_in_its_unit(champion):
    version, result = champion
    fresh = table(400, seed=1)
    guessing = float(np.std([label for _, label in fresh]))
    assert rmse(version, fresh) < guessing / 2
    assert result["history"][-1].keys() == {"epoch", "rmse"}
    assert 0 < result["metrics"]["rmse"] < guessing / 2
    assert [(rung["name"], rung["accuracy"]) for rung in result["rungs"]] == [("top", None)]


def test_the_client_answers_bit_for_bit_what_the_workers_score(champion):
    inputs = [shown for shown, _ in table(50, seed=2)] + [{"kind": "never"}, {"x": 1e300}]
    predictor = open_predictor(champion[0], device="cpu")
    assert predictor.labels == ()
    assert np.array_equal(predictor.values(inputs), TASK.load(champion[0]).values(inputs))


def test_a_version_is_opened_by_its_config_alone(tmp_path, champion):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((champion[0] / name).read_bytes())
    inputs = [{"x": 0.5, "kind": "u"}]
    found = open_predictor(tmp_path, device="cpu").values(inputs)
    assert found.tolist() == TASK.load(champion[0]).values(inputs).tolist()


def test_a_run_from_a_champion_counts_in_its_unit_and_follows_moved_labels(tmp_path, champion):
    moved = table(300, seed=3, level=1e6 + 3000)
    kept, _ = learn(tmp_path / "kept", moved, start=champion[0], head="keep", epochs=0)
    assert rmse(kept, moved) == rmse(champion[0], moved) > 2000
    version, _ = learn(tmp_path / "job", moved, start=champion[0], epochs=40)
    assert TASK.load(version).network.target == TASK.load(champion[0]).network.target
    assert rmse(version, moved) < 1000


def test_absolute_errors_are_not_led_astray_by_labels_far_out(tmp_path):
    rows = table(400)
    spoiled = [(shown, 3e6 if n % 12 == 0 else label) for n, (shown, label) in enumerate(rows)]
    squared, _ = learn(tmp_path / "squared", spoiled)
    absolute, result = learn(tmp_path / "absolute", spoiled, loss="absolute")
    fresh = table(200, seed=4)
    assert rmse(absolute, fresh) < rmse(squared, fresh)
    assert result["history"][0].keys() == {"epoch", "mae"}


def test_a_recipe_without_a_step_must_say_that_the_head_is_kept(tmp_path):
    with pytest.raises(RecipeError, match="learns nothing"):
        learn(tmp_path / "job", table(40), epochs=0)


@pytest.mark.parametrize("knob", [{"rungs": ["probe"]}, {"sampling": "oversample"}])
def test_knobs_of_classes_are_refused(tmp_path, knob):
    with pytest.raises(RecipeError):
        learn(tmp_path / "job", table(40), **knob)
