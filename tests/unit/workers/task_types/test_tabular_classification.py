"""A tabular version is made from a preset or from files, or refused in words."""

import json
from pathlib import Path

import lightgbm
import numpy as np
import pytest

from app.domain.errors import UnsafeArtifact
from workers.task_types.tabular_classification import TabularClassification
from workers.training.errors import RecipeError

TASK = TabularClassification()
LABELS = ("no", "yes")
COLUMNS = [{"name": "x", "type": "number"}, {"name": "y", "type": "number"}]


def deployed(directory: Path, **config: object) -> Path:
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(200, 2))
    data = lightgbm.Dataset(rows, rows[:, 0] > 0)
    settings = {"objective": "binary", "verbosity": -1, "num_threads": 1}
    directory.mkdir()
    lightgbm.train(settings, data, 5).save_model(directory / "model.txt")
    stated = {"columns": COLUMNS, "id2label": {"0": "no", "1": "yes"}, **config}
    (directory / "config.json").write_text(json.dumps(stated))
    return directory


def test_a_preset_takes_the_columns_of_the_contract(tmp_path):
    TASK.create("preset:boosted-trees", LABELS, tmp_path / "v", seed=0, input_contract=COLUMNS)
    untrained = TASK.load(tmp_path / "v")
    assert untrained.column_names == ("x", "y")
    assert untrained.scores([{"x": 1.0}]).tolist() == [[0.5, 0.5]]
    assert not (tmp_path / "v" / "model.txt").exists()


@pytest.mark.parametrize(
    ("base", "said"),
    [("preset:boosted-trees", "no column"), ("preset:forest", "neither"), ("/nowhere", "neither")],
)
def test_a_base_that_is_none_is_refused(tmp_path, base, said):
    with pytest.raises(RecipeError, match=said):
        TASK.create(base, LABELS, tmp_path / "v", seed=0)


def test_a_base_with_trees_is_a_version_as_it_is(tmp_path):
    base = deployed(tmp_path / "base")
    TASK.create(str(base), LABELS, tmp_path / "v", seed=0)
    said = TASK.load(tmp_path / "v").scores([{"x": 2.0, "y": 0.0}, {"x": -2.0, "y": 0.0}])
    assert said.argmax(axis=1).tolist() == [1, 0]
    with pytest.raises(RecipeError, match=r"remove its model.txt"):
        TASK.create(str(base), ("no", "maybe"), tmp_path / "w", seed=0)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"columns": COLUMNS[:1]}, "2 features"),
        ({"columns": None}, "columns"),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, "3 labels need 3"),
        ({"id2label": None}, "id2label"),
    ],
)
def test_files_that_contradict_each_other_are_refused(tmp_path, config, said):
    with pytest.raises(RecipeError, match=said):
        TASK.load(deployed(tmp_path / "v", **config))


def test_trees_that_lead_astray_are_refused_before_they_are_followed(tmp_path):
    directory = deployed(tmp_path / "v")
    path = directory / "model.txt"
    path.write_text(path.read_text().replace("split_feature=0", "split_feature=9"))
    with pytest.raises(RecipeError, match="feature"):
        TASK.load(directory)


def test_a_pickle_beside_the_trees_is_refused(tmp_path):
    directory = deployed(tmp_path / "v")
    (directory / "model.pkl").write_bytes(b"x")
    with pytest.raises(UnsafeArtifact, match=r"model.pkl"):
        TASK.load(directory)
