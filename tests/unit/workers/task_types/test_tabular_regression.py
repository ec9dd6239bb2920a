"""Trees that tell a number: what they learn, and what cannot be learned."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workers.task_types.tabular_regression import TabularRegression
from workers.training.errors import DataError, Diverged, RecipeError, TrainingError
from workers.training.files import write_json
from workers.training.job import read_job
from workers.training.progress import Progress, Stop
from workers.training.run import execute

TASK = TabularRegression()
FIELDS = [{"name": "x", "type": "number"}, {"name": "kind", "type": "category"}]
Row = tuple[dict[str, Any], Any]


def table(n: int, seed: int = 0, *, slope: float = 3.0, level: float = 100.0) -> list[Row]:
    draw = np.random.default_rng(seed)
    rows: list[Row] = []
    for _ in range(n):
        x, kind = float(draw.normal()), str(draw.choice(["u", "v"]))
        told = level + slope * x + (5.0 if kind == "u" else 0.0) + float(draw.normal(0, 0.5))
        rows.append(({"x": x, "kind": kind}, told))
    return rows


def learn(
    directory: Path,
    rows: list[Row],
    *,
    start: Path | None = None,
    n_newest: int | None = None,
    **recipe: Any,
) -> tuple[Path, dict[str, Any]]:
    directory.mkdir()
    path = directory / "rows.parquet"
    columns = {
        "id": [str(n) for n in range(len(rows))],
        "inputs": [json.dumps(shown) for shown, _ in rows],
        "label": pa.array([str(label) for _, label in rows], pa.string()),
    }
    pq.write_table(pa.table(columns), path)
    job = {
        "run_id": "r",
        "task_type": TASK.name,
        "start": str(start or "preset:boosted-trees"),
        "start_is_base": start is None,
        "labels": [],
        "train": str(path),
        "validation": None,
        "recipe": {"rounds": 80, "learning_rate": 0.1, **recipe},
        "seed": 5,
        "threads": 1,
        "output": str(directory / "output"),
        "input_contract": FIELDS,
        "n_newest": n_newest,
    }
    write_json(directory / "job.json", job)
    execute(read_job(directory), TASK, Progress(None), Stop())
    return directory / "output", json.loads((directory / "result.json").read_text())


def errors(version: Path, rows: list[Row]) -> np.ndarray:
    said = TASK.load(version).values([shown for shown, _ in rows])
    return said - np.array([label for _, label in rows])


def rmse(version: Path, rows: list[Row]) -> float:
    return float(np.sqrt(np.mean(errors(version, rows) ** 2)))


def test_a_number_is_learned_from_columns(tmp_path: Path) -> None:
    version, result = learn(tmp_path / "job", table(600))
    assert rmse(version, table(400, 1)) < 1.0
    assert result["n_held_out"] > 50
    assert {one["trees"] for one in result["history"]} == {"fresh"}
    assert result["final_loss"] == result["history"][0]["squared_error"]
    config = json.loads((version / "config.json").read_text())
    assert "id2label" not in config
    assert json.loads((version / "upkeep.json").read_text())["task_type"] == TASK.name


def test_where_the_world_turned_over_old_rows_are_left_behind(tmp_path: Path) -> None:
    champion, _ = learn(tmp_path / "first", table(500))
    rows = [*table(500), *table(400, 1, slope=-3.0)]
    version, result = learn(tmp_path / "next", rows, start=champion, n_newest=400)
    assert result["chosen"]["history"] == "newest"
    assert rmse(version, table(300, 2, slope=-3.0)) < 1.5


def test_trees_are_continued_from_those_of_the_start(tmp_path: Path) -> None:
    champion, _ = learn(tmp_path / "first", table(300), rounds=20)
    version, result = learn(
        tmp_path / "next", table(300, 1), start=champion, trees="continue", rounds=30
    )
    assert result["epochs"] > 0
    assert rmse(version, table(300, 2)) < rmse(champion, table(300, 2))


def test_absolute_errors_are_not_led_astray_by_labels_far_out(tmp_path: Path) -> None:
    rows = [(shown, label * 50 if n % 20 == 0 else label) for n, (shown, label) in
            enumerate(table(600))]  # fmt: skip
    squared, _ = learn(tmp_path / "squared", rows)
    absolute, result = learn(tmp_path / "absolute", rows, loss="absolute")
    judged = table(300, 1)
    assert np.median(np.abs(errors(absolute, judged))) < 5
    assert np.median(np.abs(errors(absolute, judged))) < np.median(np.abs(errors(squared, judged)))
    assert "absolute_error" in result["history"][0]


@pytest.mark.parametrize(
    ("change", "recipe", "error", "said"),
    [
        (lambda label: 7.0, {}, DataError, "all 120 training rows have the label 7"),
        (lambda label: "dear", {}, DataError, "120 of 120 labels are no finite numbers"),
        (lambda label: np.nan, {}, DataError, "no finite numbers of single precision"),
        (lambda label: np.inf, {}, DataError, "has 'inf'"),
        (lambda label: 1e300, {}, DataError, "single precision"),
        (lambda label: label, {"learning_rate": 9, "patience": None}, Diverged, "learning_rate"),
        (lambda label: label, {"class_weight_power": 1}, RecipeError, "class_weight_power"),
    ],
)
def test_what_cannot_be_learned_is_said(
    tmp_path: Path, change: Any, recipe: dict[str, Any], error: type[TrainingError], said: str
) -> None:
    rows = [(shown, change(label)) for shown, label in table(120)]
    with pytest.raises(error, match=said):
        learn(tmp_path / "job", rows, **recipe)


def test_no_rows_teach_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is empty"):
        learn(tmp_path / "job", [])


def test_labels_cannot_be_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="answers with numbers"):
        TASK.create("preset:boosted-trees", ["a"], tmp_path / "v", seed=0, input_contract=FIELDS)
