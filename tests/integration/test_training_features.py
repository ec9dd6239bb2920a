"""What a run's layers said of its rows is there for the next run, and changes nothing it learns."""

import errno
import inspect
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import workers.task_types
from app.domain.registry import scan
from tests.integration.test_training_knobs import changed, scores, trained
from tests.integration.test_training_process import image_job, text_job
from workers.task_types import task_types
from workers.training.files import describe, read_json
from workers.training.job import FEATURES, read_job
from workers.training.kept_features import KeptFeatures
from workers.training.progress import Preempted, Progress, Stop
from workers.training.row_features import N_CHECKED
from workers.training.run import execute

scan(workers.task_types)


def after(
    directory: Path, first: Path, features: Path | None, *, n_new: int = 20, kind: Any = text_job
) -> Path:
    """Return a job that goes on from another's version, with more rows that look like its own."""
    kind(directory)
    train = Path(json.loads((directory / "job.json").read_text())["train"])
    old = pq.read_table(train)
    more = pa.table(
        {
            "id": [f"new-{n}" for n in range(n_new)],
            "inputs": [changed_inputs(old["inputs"][n].as_py()) for n in range(n_new)],
            "label": old["label"].slice(0, n_new),
        },
        schema=old.schema,
    )
    pq.write_table(pa.concat_tables([old, more]), train)
    return changed(
        directory,
        start=str(first / "output"),
        start_is_base=False,
        n_newest=n_new,
        features=None if features is None else str(features),
    )


def changed_inputs(inputs: str) -> str:
    """Return other inputs that a version reads alike."""
    found = json.loads(inputs)
    return json.dumps(
        {**found, "text": found["text"] + " the"} if "text" in found else {**found, "extra": 1}
    )


def n_different(directory: Path) -> int:
    rows = pq.read_table(json.loads((directory / "job.json").read_text())["train"])
    return len(set(rows["inputs"].to_pylist()))


def values(directory: Path) -> KeptFeatures:
    found = KeptFeatures.read(directory / FEATURES)
    assert found is not None
    return found


def questions(directory: Path) -> list[dict[str, Any]]:
    return [
        dict(one)
        for one in map(json.loads, pq.read_table(read_job(directory).train)["inputs"].to_pylist())
    ]


@pytest.mark.parametrize("kind", [text_job, image_job])
def test_the_next_run_computes_no_row_twice(tmp_path: Path, kind: Any) -> None:
    first = kind(tmp_path / "first")
    result = trained(first, head="probe", epochs=2)
    assert result["steps"] > 0
    assert result["n_features_taken"] == 0
    assert result["features"] == {"n_rows": n_different(first)}

    probe = {"rungs": ["probe"], "epochs": 0}
    plain = after(tmp_path / "plain", first, None, kind=kind)
    next_one = after(tmp_path / "next", first, first / FEATURES, kind=kind)
    assert trained(plain, **probe)["n_features_taken"] == 0
    n_rows = pq.read_metadata(read_job(first).train).num_rows
    assert trained(next_one, **probe)["n_features_taken"] == n_rows - N_CHECKED
    asked = questions(next_one)
    np.testing.assert_allclose(scores(next_one, asked), scores(plain, asked), atol=0.01)
    mine, other = values(next_one), values(plain)
    assert mine.digests.tolist() == other.digests.tolist()
    np.testing.assert_allclose(mine.values, other.values, atol=0.01)


def test_features_of_other_layers_are_left_alone(tmp_path: Path) -> None:
    first, other = text_job(tmp_path / "text"), text_job(tmp_path / "other")
    trained(first, head="probe", epochs=2)
    trained(changed(other, seed=8), head="probe", epochs=2)
    probe = {"rungs": ["probe"], "epochs": 0}
    plain = after(tmp_path / "plain", first, None)
    trained(plain, **probe)
    misled = after(tmp_path / "misled", first, other / FEATURES)
    assert trained(misled, **probe)["n_features_taken"] == 0
    asked = questions(misled)
    np.testing.assert_allclose(scores(misled, asked), scores(plain, asked), atol=1e-3)


def test_layers_that_move_are_asked_again(tmp_path: Path) -> None:
    first = text_job(tmp_path / "text")
    trained(first, head="probe", epochs=2)
    further = after(tmp_path / "further", first, first / FEATURES, n_new=0)
    result = trained(further, epochs=2, sufficient=1.0, start_share=0.0)
    assert result["n_features_taken"] > 0
    assert result["steps"] > 0
    before, now = values(first), values(further)
    assert before.digests.tolist() == now.digests.tolist()
    assert float(np.abs(before.values.astype(float) - now.values).max()) > 0.01
    nothing = after(tmp_path / "nothing", further, None, n_new=0)
    trained(nothing, rungs=["probe"], epochs=0)
    np.testing.assert_allclose(values(nothing).values, now.values, atol=0.01)


def test_a_recipe_may_keep_nothing_and_take_nothing(tmp_path: Path) -> None:
    first = text_job(tmp_path / "text")
    trained(first, head="probe", epochs=1)
    quiet = after(tmp_path / "quiet", first, first / FEATURES)
    result = trained(quiet, rungs=["probe"], epochs=0, keep_features=False)
    assert (result["n_features_taken"], result["features"]) == (0, None)
    assert not (quiet / FEATURES).exists()


class Counting(Stop):
    """Stops a run at a chance of the test's choice, and counts them all."""

    def __init__(self, at: float = math.inf) -> None:
        super().__init__()
        self._at, self.n_chances = at, 0

    def check(self) -> None:
        self.n_chances += 1
        self.is_requested = self.n_chances >= self._at
        super().check()


class InEpoch(Stop):
    """Stops a run before the third step of its first epoch."""

    def __init__(self) -> None:
        super().__init__()
        self._n_steps = 0

    def check(self) -> None:
        caller = inspect.stack()[1].function
        self._n_steps += caller == "_train_epoch"
        self.is_requested = self._n_steps == 3
        super().check()


def executed(directory: Path, stop: Stop, **recipe: Any) -> None:
    whole = {"epochs": 1, "sufficient": 1.0, **recipe}
    job = read_job(changed(directory, validation=None, recipe=whole))
    execute(job, task_types.get(job.task_type), Progress(None), stop)


def wide(directory: Path, **changes: Any) -> Path:
    """Return a job over texts whose layers are so wide that the order of sums shows."""
    config = directory.with_name(f"{directory.name}-base") / "config.json"
    text_job(directory, **changes)
    size = {"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 12}
    config.write_text(json.dumps({**json.loads(config.read_text()), **size}))
    return directory


@pytest.mark.parametrize(
    ("rungs", "takes"),
    [
        (["probe", "top"], True),
        (["prior", "probe", "top"], True),
        (["prior", "probe", "top"], False),
    ],
)
def test_a_run_stopped_within_an_epoch_ends_with_the_same_bits(
    tmp_path: Path, rungs: list[str], takes: bool
) -> None:
    recipe = {"rungs": rungs, "trainable_layers": 1, "learning_rate": 1e-4, "token_budget": 256}
    first = wide(tmp_path / "first")
    trained(first, **recipe, head="probe", epochs=1)
    features = first / FEATURES if takes else None
    whole, counting = after(tmp_path / "whole", first, features, kind=wide), Counting()
    executed(whole, counting, **recipe)
    result = read_json(whole / "result.json")
    assert result is not None
    assert (result["n_features_taken"] > 0) is takes

    broken = after(tmp_path / "broken", first, features, kind=wide)
    with pytest.raises(Preempted):
        executed(broken, InEpoch(), **recipe)
    executed(broken, Stop(), **recipe)
    assert describe(broken / "output") == describe(whole / "output")
    assert (broken / FEATURES).read_bytes() == (whole / FEATURES).read_bytes()


def test_a_run_stopped_while_it_takes_or_keeps_ends_with_the_same_bits(tmp_path: Path) -> None:
    first = text_job(tmp_path / "text")
    trained(first, head="probe", epochs=1)
    whole, counting = after(tmp_path / "whole", first, first / FEATURES), Counting()
    executed(whole, counting)
    broken = after(tmp_path / "broken", first, first / FEATURES)
    n = counting.n_chances
    for at in (8, n - 1):  # among the rows to learn from, and among those to keep
        with pytest.raises(Preempted):
            executed(broken, Counting(at))
    executed(broken, Stop())
    result = read_json(broken / "result.json")
    assert result is not None
    assert result["resumed_from_step"] == result["steps"] > 0
    assert describe(broken / "output") == describe(whole / "output")
    assert (broken / FEATURES).read_bytes() == (whole / FEATURES).read_bytes()


def test_a_rung_that_suffices_keeps_what_its_layers_say_whichever_attempt_did_it(
    tmp_path: Path,
) -> None:
    climb: dict[str, Any] = {
        "rungs": ["top", "full"],
        "trainable_layers": 1,
        "validation_share": 0.4,
    }
    climb |= {"epochs": 10, "sufficient": 0.5, "head": "random"}
    directory = text_job(tmp_path / "job")
    result = trained(directory, **climb)
    assert [rung["name"] for rung in result["rungs"]] == ["top"]
    kept = values(directory)
    (directory / "result.json").unlink()
    (directory / FEATURES).unlink()
    again = trained(directory, **climb)
    assert again["features"] == result["features"]
    assert values(directory).values.tolist() == kept.values.tolist()


def test_a_full_disk_costs_what_was_to_be_kept_and_not_the_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: KeptFeatures, path: Path) -> None:
        path.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(KeptFeatures, "write", full)
    directory = text_job(tmp_path / "job")
    assert trained(directory, epochs=1)["features"] is None
    assert (directory / "output" / "model.safetensors").exists()
    assert not (directory / FEATURES).exists()
