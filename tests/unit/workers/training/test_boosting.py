"""Trees learn from columns, in the way that held-out newest rows speak for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workers.task_types.tabular_classification import TabularClassification
from workers.training.errors import DataError, Diverged, RecipeError, TrainingError
from workers.training.files import write_json
from workers.training.job import read_job
from workers.training.progress import Progress, Stop
from workers.training.run import execute

TASK = TabularClassification()
FIELDS = [
    {"name": "x", "type": "number"},
    {"name": "kind", "type": "category"},
    {"name": "flag", "type": "boolean"},
]
Row = tuple[dict[str, Any], str]


def table(n: int, seed: int = 0, *, flipped: bool = False, labels: tuple[str, ...] = ("a", "b")):
    """Return n rows whose class hangs on x and kind; flipped ones mean the opposite."""
    draw = np.random.default_rng(seed)
    rows: list[Row] = []
    for _ in range(n):
        x, kind = float(draw.normal()), str(draw.choice(["u", "v", "w"]))
        score = x + (1.5 if kind == "u" else 0.0)
        place = int(np.clip(score + 0.5, 0, len(labels) - 1)) if len(labels) > 2 else score > 0.5
        label = labels[int(place) if not flipped else len(labels) - 1 - int(place)]
        inputs = {"x": x, "kind": kind, "flag": bool(draw.random() < 0.5)}
        rows.append(({k: v for k, v in inputs.items() if draw.random() > 0.1}, label))
    return rows


def learn(
    directory: Path,
    rows: list[Row],
    *,
    labels: tuple[str, ...] = ("a", "b"),
    start: Path | None = None,
    n_newest: int | None = None,
    **recipe: Any,
) -> tuple[Path, dict[str, Any]]:
    directory.mkdir()
    path = directory / "rows.parquet"
    columns = {
        "id": [str(n) for n in range(len(rows))],
        "inputs": [json.dumps(shown) for shown, _ in rows],
        "label": [label for _, label in rows],
    }
    pq.write_table(pa.table(columns), path)
    job = {
        "run_id": "r",
        "task_type": TASK.name,
        "start": str(start or "preset:boosted-trees"),
        "start_is_base": start is None,
        "labels": labels,
        "train": str(path),
        "validation": None,
        "recipe": {"rounds": 60, "learning_rate": 0.1, **recipe},
        "seed": 5,
        "threads": 1,
        "output": str(directory / "output"),
        "input_contract": FIELDS,
        "n_newest": n_newest,
    }
    write_json(directory / "job.json", job)
    execute(read_job(directory), TASK, Progress(None), Stop())
    return directory / "output", json.loads((directory / "result.json").read_text())


def accuracy(version: Path, rows: list[Row]) -> float:
    classifier = TASK.load(version)
    said = classifier.scores([shown for shown, _ in rows]).argmax(axis=1)
    return float(
        np.mean([classifier.labels[k] == label for k, (_, label) in zip(said, rows, strict=True)])
    )


@pytest.mark.parametrize("labels", [("a", "b"), ("a", "b", "c")])
def test_columns_with_gaps_are_learned(tmp_path, labels):
    version, result = learn(tmp_path / "job", table(600, labels=labels), labels=labels)
    assert accuracy(version, table(400, 1, labels=labels)) > 0.8
    assert result["n_held_out"] > 50
    assert 0 < result["epochs"] <= 60
    assert set(result["cleaning"]["missing_share"]) == {"x", "kind", "flag"}
    assert result["library_versions"].keys() == {"lightgbm", "numpy"}


def test_an_unseen_category_is_answered_as_a_missing_one(tmp_path):
    version, _ = learn(tmp_path / "job", table(300))
    scores = TASK.load(version).scores([{"x": 0.3, "kind": "never"}, {"x": 0.3}])
    assert scores[0].tolist() == scores[1].tolist()


def test_where_the_world_turned_over_old_rows_are_left_behind(tmp_path):
    old, new = table(600), table(500, 1, flipped=True)
    champion, _ = learn(tmp_path / "first", old)
    version, result = learn(tmp_path / "next", [*old, *new], start=champion, n_newest=500)
    assert result["chosen"]["history"] == "newest"
    assert accuracy(version, table(400, 2, flipped=True)) > 0.8
    assert len(result["history"]) == 4


def test_rows_fade_within_the_newest_ones_too_where_a_recipe_says_how_fast(tmp_path):
    champion, _ = learn(tmp_path / "first", table(300))
    rows = [*table(500), *table(500, 1, flipped=True)]  # it turned over amid the newest
    fading = {"start": champion, "n_newest": 700, "trees": "fresh", "history": "fading"}
    alike, _ = learn(tmp_path / "alike", rows, **fading)
    fast, result = learn(tmp_path / "fast", rows, **fading, fading_rows=60)
    later = table(400, 2, flipped=True)
    assert result["chosen"] == {"trees": "fresh", "history": "fading"}
    assert accuracy(fast, later) > max(0.8, accuracy(alike, later))


def test_where_the_world_stayed_old_rows_are_kept(tmp_path):
    old, new = table(600), table(200, 1)
    champion, _ = learn(tmp_path / "first", old)
    _, result = learn(tmp_path / "next", [*old, *new], start=champion, n_newest=200)
    assert result["chosen"] == {"trees": "fresh", "history": "all"}


def test_continued_trees_stand_on_those_of_the_start(tmp_path):
    champion, _ = learn(tmp_path / "first", table(300))
    flipped = table(300, 1, flipped=True)
    new = [({**shown, "kind": "new"}, label) for shown, label in flipped]
    version, result = learn(
        tmp_path / "next", [*table(300), *new], start=champion, n_newest=300, trees="continue",
        history="newest",
    )  # fmt: skip
    before, after = (TASK.load(one) for one in (champion, version))
    grown = after.trees.booster.num_trees() - before.trees.booster.num_trees()
    assert grown == result["epochs"] > 0
    known = before.version.columns[1].categories
    assert after.version.columns[1].categories == (*known, "new")


def test_newest_rows_of_one_class_teach_only_beside_older_ones(tmp_path):
    rows = [*table(200), *((shown, "a") for shown, _ in table(80, 1))]
    with pytest.raises(DataError, match="hold one class alone"):
        learn(tmp_path / "newest", rows, n_newest=80, history="newest")
    _, result = learn(tmp_path / "auto", rows, n_newest=80)
    assert result["chosen"]["history"] in {"all", "fading"}
    assert [one["log_loss"] for one in result["history"] if one["history"] == "newest"] == [None]


def test_sampled_trees_are_alike_for_one_seed(tmp_path):
    drawn = {"row_share": 0.6, "column_share": 0.7}
    one, _ = learn(tmp_path / "one", table(300), **drawn)
    again, _ = learn(tmp_path / "again", table(300), **drawn)
    assert (one / "model.txt").read_bytes() == (again / "model.txt").read_bytes()


def test_rare_classes_weigh_more_when_asked(tmp_path):
    rows = table(900)
    kept = [row for n, row in enumerate(rows) if row[1] == "a" or n % 12 == 0]
    judged = [row for row in table(400, 1) if row[1] == "b"]
    plain, _ = learn(tmp_path / "plain", kept)
    weighted, _ = learn(tmp_path / "weighted", kept, class_weight_power=1.0)
    assert accuracy(weighted, judged) > accuracy(plain, judged)


@pytest.mark.parametrize(
    ("change", "recipe", "error", "said"),
    [
        (lambda rows: [(shown, "a") for shown, _ in rows], {}, DataError, "at least 2 classes"),
        (lambda rows: [(shown, "z") for shown, _ in rows], {}, DataError, "outside the label set"),
        (lambda rows: [({}, label) for _, label in rows], {}, DataError, "miss every column"),
        (lambda rows: [({"x": "1"}, label) for _, label in rows], {}, DataError, "input 0: 'x'"),
        (lambda _: [], {}, DataError, "is empty"),
        (lambda rows: rows, {"learning_rate": 3, "patience": None}, Diverged, "learning_rate"),
        (lambda rows: rows, {"epochs": 3}, RecipeError, "epochs"),
    ],
)
def test_what_cannot_be_learned_is_said(
    tmp_path: Path, change: Any, recipe: dict[str, Any], error: type[TrainingError], said: str
):
    rows = [(shown, "ab"[n % 2]) for n, (shown, _) in enumerate(table(120))]
    with pytest.raises(error, match=said):
        learn(tmp_path / "job", change(rows), **recipe)
