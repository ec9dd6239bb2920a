"""Networks over columns that tell classes: what they learn, start from, and make of the unseen."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from upkeep.predictors import open_predictor
from workers.task_types.neural_tabular_classification import NeuralTabularClassification
from workers.training.errors import DataError, Diverged, RecipeError
from workers.training.files import describe, write_json
from workers.training.job import Job, read_job
from workers.training.progress import Preempted, Progress, Stop
from workers.training.run import execute

TASK = NeuralTabularClassification()
BASE = "preset:column-network"
LABELS = ("no", "yes")
FIELDS = [
    {"name": "x", "type": "number"},
    {"name": "noise", "type": "number"},
    {"name": "kind", "type": "category"},
    {"name": "paid", "type": "boolean"},
]
SHORT = {"epochs": 25, "patience": 10}
Row = tuple[dict[str, Any], str]


def table(n: int, seed: int = 0, kinds: str = "uvw") -> list[Row]:
    """Return rows whose class no column tells alone: the sign of x, the other way round for u."""
    draw = np.random.default_rng(seed)
    rows: list[Row] = []
    for _ in range(n):
        x, kind = float(draw.normal()), str(draw.choice(list(kinds)))
        shown = {"x": x, "noise": float(draw.normal()), "kind": kind, "paid": bool(x > 1)}
        gone = [name for name in ("noise", "paid") if draw.random() < 0.2]
        inputs = {name: value for name, value in shown.items() if name not in gone}
        rows.append((inputs, LABELS[int((x > 0) == (kind != "u"))]))
    return rows


def ordered(
    directory: Path,
    rows: list[Row],
    *,
    start: Path | str = BASE,
    fields: list[dict[str, Any]] | None = None,
    **recipe: Any,
) -> Job:
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
        "start": str(start),
        "start_is_base": not isinstance(start, Path),
        "labels": LABELS,
        "train": str(path),
        "validation": None,
        "recipe": {**SHORT, **recipe},
        "seed": 5,
        "threads": 1,
        "output": str(directory / "output"),
        "input_contract": fields or FIELDS,
    }
    write_json(directory / "job.json", job)
    return read_job(directory)


def learn(directory: Path, rows: list[Row], **asked: Any) -> tuple[Path, dict[str, Any]]:
    execute(ordered(directory, rows, **asked), TASK, Progress(None), Stop())
    return directory / "output", json.loads((directory / "result.json").read_text())


class StopAfter(Stop):
    """Asks for a stop at the n-th chance."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self._left = n

    def check(self) -> None:
        self._left -= 1
        self.is_requested = self._left < 0
        super().check()


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    return learn(tmp_path_factory.mktemp("champion") / "job", table(600))


def right_share(version: Path, rows: list[Row]) -> float:
    said = TASK.load(version).scores([shown for shown, _ in rows]).argmax(axis=1)
    return float(np.mean([LABELS[k] == label for k, (_, label) in zip(said, rows, strict=True)]))


def test_classes_that_columns_tell_together_are_learned(champion):
    version, result = champion
    assert right_share(version, table(400, seed=1)) > 0.85
    assert result["n_validation"] > 0
    assert result["cleaning"]["missing_share"].keys() == {"noise", "paid"}
    assert result["history"][0].keys() == {"epoch", "accuracy", "log_loss"}


def test_the_best_epoch_is_kept_and_the_run_ends_when_none_is_better(tmp_path):
    noise = [({"x": shown["x"]}, LABELS[n % 2]) for n, (shown, _) in enumerate(table(120))]
    _, result = learn(tmp_path / "job", noise, epochs=60, patience=4)
    history = result["history"]
    best = max(history, key=lambda line: (line["accuracy"], -line["log_loss"]))
    assert result["best_epoch"] == best["epoch"]
    assert result["epochs"] == best["epoch"] + 4 < 60
    assert result["metrics"]["log_loss"] == pytest.approx(best["log_loss"], abs=1e-5)


def test_an_unseen_category_is_answered_as_a_missing_one(champion):
    network = TASK.load(champion[0])
    given = [{"x": 1.5, "kind": "never"}, {"x": 1.5}, {"x": 1.5, "kind": "u"}]
    unseen, missing, known = network.scores(given)
    assert unseen.tolist() == missing.tolist()
    assert abs(known[1] - missing[1]) > 0.1


def test_the_client_answers_bit_for_bit_what_the_workers_score(champion):
    inputs = [shown for shown, _ in table(50, seed=2)]
    inputs += [{"x": 1e300, "kind": "never"}, {"paid": None, "x": -1e300}]
    predictor = open_predictor(champion[0], device="cpu")
    assert np.array_equal(predictor.scores(inputs), TASK.load(champion[0]).scores(inputs))
    with pytest.raises(ValueError, match="input 0 has none of the columns kind, noise, paid, x"):
        predictor.scores([{"y": 1.0}])


def test_a_run_from_a_champion_starts_at_what_it_knows(tmp_path, champion):
    rows = table(200, seed=3)
    version, result = learn(tmp_path / "job", rows, start=champion[0], head="keep", epochs=0)
    assert right_share(version, rows) == right_share(champion[0], rows) > 0.85
    assert result["history"][0]["accuracy"] > 0.8


def test_new_categories_get_rows_of_their_own_and_known_ones_keep_theirs(tmp_path, champion):
    rows = table(400, seed=4, kinds="uvwyz")
    kept, _ = learn(tmp_path / "kept", rows, start=champion[0], head="keep", epochs=0)
    known = [{"x": 0.5, "kind": kind, "paid": True} for kind in "uvw"]
    before, after = TASK.load(champion[0]), TASK.load(kept)
    assert np.array_equal(before.scores(known), after.scores(known))
    assert np.array_equal(before.scores([{"kind": "y"}]), after.scores([{"kind": "y"}]))
    assert len(after.network.columns[2].categories) == 5
    grown, result = learn(tmp_path / "grown", rows, start=champion[0], epochs=8)
    assert result["cleaning"]["new_categories"] == {"kind": 2}
    table_of = load_file(grown / "model.safetensors")["categories.weight"]
    assert table_of.shape == (1 + 5 + 1 + 2, 16)
    assert bool((table_of[4] != table_of[0]).any())


def test_a_run_from_a_champion_that_is_stopped_ends_with_the_same_bits(tmp_path, champion):
    asked = {"start": champion[0], "rungs": ["top"], "epochs": 2, "dropout": 0.2, "patience": None}
    rows = table(300, seed=5, kinds="uvwyz")
    whole, _ = learn(tmp_path / "whole", rows, **asked)
    job = ordered(tmp_path / "broken", rows, **asked)
    with pytest.raises(Preempted):
        execute(job, TASK, Progress(None), StopAfter(16))
    execute(job, TASK, Progress(None), Stop())
    assert json.loads((job.directory / "result.json").read_text())["resumed_from_step"] > 0
    assert describe(job.output) == describe(whole)


def test_what_a_champion_reads_numbers_by_stays_where_the_rows_move(tmp_path, champion):
    moved = [({**shown, "x": shown["x"] * 50 + 900}, label) for shown, label in table(100, seed=6)]
    version, _ = learn(tmp_path / "job", moved, start=champion[0], epochs=1)
    before, after = TASK.load(champion[0]).network, TASK.load(version).network
    assert after.columns[0] == before.columns[0]


def test_layers_below_the_head_may_stay_as_they_are(tmp_path, champion):
    rows = table(200, seed=7)
    version, _ = learn(tmp_path / "job", rows, start=champion[0], epochs=1, trainable_layers=1)
    before, after = (load_file(one / "model.safetensors") for one in (champion[0], version))
    changed = {name for name, value in after.items() if bool((value != before[name]).any())}
    assert changed == {"layers.1.weight", "layers.1.bias", "head.weight", "head.bias"}


@pytest.mark.parametrize("fields", [FIELDS[:2], FIELDS[2:], FIELDS[3:]])
def test_columns_of_one_kind_suffice(tmp_path, fields):
    names = {field["name"] for field in fields}
    rows = [
        ({name: value for name, value in shown.items() if name in names}, label)
        for shown, label in table(80)
    ]
    version, _ = learn(tmp_path / "job", rows, fields=fields, epochs=2)
    assert np.isfinite(TASK.load(version).scores([{}, rows[0][0]])).all()


def test_a_column_of_one_value_or_none_does_no_harm(tmp_path):
    rows = [({"x": shown["x"], "noise": 7.0}, label) for shown, label in table(80)]
    version, result = learn(tmp_path / "job", rows, epochs=2)
    assert result["cleaning"]["constant_columns"] == ["noise"]
    assert set(result["cleaning"]["empty_columns"]) == {"kind", "paid"}
    assert np.isfinite(TASK.load(version).scores([{"noise": 1e9}, {"kind": "u"}])).all()


def test_a_run_that_diverges_ends_with_its_reason(tmp_path):
    with pytest.raises(Diverged, match="lower learning_rate"):
        learn(tmp_path / "job", table(300), learning_rate=9.0, head_learning_rate=9.0, dropout=0.0,
              clip_norm=1e9, epochs=60, patience=None)  # fmt: skip


def test_early_stopping_without_rows_to_judge_by_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="set validation_share"):
        learn(tmp_path / "job", table(40), validation_share=0.0)


def test_a_value_of_another_type_is_refused_by_its_place(tmp_path):
    with pytest.raises(DataError, match="input 1: 'x' must be a number, not str"):
        learn(tmp_path / "job", [({"x": 1.0}, "no"), ({"x": "1"}, "yes")] * 20)


@pytest.mark.parametrize("base", [BASE, "preset:forest", "/nowhere"])
def test_a_base_that_is_none_is_refused(tmp_path, base):
    with pytest.raises(RecipeError, match="no column" if base == BASE else "neither"):
        TASK.create(base, LABELS, tmp_path / "v", seed=0)


def test_a_base_with_weights_is_a_version_as_it_is(tmp_path, champion):
    TASK.create(str(champion[0]), LABELS, tmp_path / "v", seed=0, input_contract=FIELDS)
    given = [shown for shown, _ in table(20, seed=8)]
    assert np.array_equal(
        TASK.load(tmp_path / "v").scores(given), TASK.load(champion[0]).scores(given)
    )
    with pytest.raises(RecipeError, match=r"remove its model.safetensors"):
        TASK.create(str(champion[0]), ("no", "maybe"), tmp_path / "w", seed=0)


def test_a_base_of_columns_alone_may_state_other_sizes(tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    config = {"columns": FIELDS, "embedding_size": 3, "n_bins": 4, "hidden_sizes": [5, 6, 7]}
    write_json(base / "config.json", config)
    TASK.create(str(base), LABELS, tmp_path / "v", seed=0)
    shapes = {k: tuple(v.shape) for k, v in load_file(tmp_path / "v" / "model.safetensors").items()}
    assert shapes["numbers.weight"] == (2, 6, 3)
    assert shapes["layers.2.weight"] == (7, 6)
    write_json(base / "config.json", config | {"hidden_sizes": []})
    with pytest.raises(RecipeError, match="hidden_sizes"):
        TASK.create(str(base), LABELS, tmp_path / "w", seed=0)
