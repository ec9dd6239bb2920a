"""A run climbs from one rung that trains layers to the next, only where it must."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

import workers.task_types
from app.domain.registry import scan
from tests.integration.test_training_knobs import changed, rewrite, stops_until_done, trained
from tests.integration.test_training_process import image_job, text_job
from workers.training.errors import OutOfMemory, RecipeError
from workers.training.files import describe, read_json
from workers.training.loop import Loop

scan(workers.task_types)

WHOLE = {
    "rungs": ["probe", "top", "lora", "full"],
    "trainable_layers": 1,
    "lora_rank": 2,
    "validation_share": 0.4,
    "epochs": 2,
}


def names(result: dict[str, Any]) -> list[str]:
    return [rung["name"] for rung in result["rungs"]]


def by_chance(directory: Path) -> Path:
    """Give texts labels that they say nothing of: no rung suffices."""
    chance = np.random.default_rng(0)
    rewrite(directory, "label", chance.choice(["sport", "weather"], 80).tolist())
    return directory


def test_a_rung_that_suffices_is_the_last(tmp_path: Path) -> None:
    result = trained(
        text_job(tmp_path / "job"), **{**WHOLE, "epochs": 10}, sufficient=0.5, head="random"
    )

    assert names(result) == ["top"]  # a head by chance has no probe
    assert result["rung"] == "top"
    assert result["rungs"][0]["is_enough"]
    assert result["rungs"][0]["n"] == result["n_validation"] > 0


def test_every_rung_is_climbed_where_none_suffices_and_the_best_is_the_version(
    tmp_path: Path,
) -> None:
    directory = by_chance(text_job(tmp_path / "job"))
    result = trained(directory, **WHOLE, sufficient=1.0, head="probe")

    assert names(result) == ["probe", "top", "lora", "full"]
    seconds = [rung["cpu_seconds"] for rung in result["rungs"]]
    assert seconds == sorted(seconds)
    assert result["cpu_seconds"] >= seconds[-1]
    of_trained = {rung["name"]: rung["accuracy"] for rung in result["rungs"][1:]}
    assert result["metrics"]["accuracy"] == max(of_trained.values()) == of_trained[result["rung"]]
    kept = [
        json.loads((directory / f"rung-{name}" / "rung.json").read_text())["value"]
        for name in ("top", "lora")
    ]
    assert [result["metrics"]["accuracy"], -result["metrics"]["log_loss"]] >= max(kept)
    AutoModelForSequenceClassification.from_pretrained(directory / "output")


def test_the_version_is_that_of_the_best_rung_where_the_last_is_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = Loop.train

    def spoiled(self: Loop) -> None:
        train(self)
        if self.job.directory.name == "rung-full":
            for parameter in self.learner.model.parameters():
                parameter.data.zero_()

    monkeypatch.setattr(Loop, "train", spoiled)
    directory = text_job(tmp_path / "job")
    recipe = {**WHOLE, "rungs": ["top", "full"], "lora_rank": 0, "head": "random", "epochs": 10}
    result = trained(directory, **recipe, sufficient=1.0)

    assert names(result) == ["top", "full"]
    assert result["rung"] == "top"
    assert describe(directory / "output") == describe(directory / "rung-top" / "version")
    assert result["metrics"]["accuracy"] == result["rungs"][0]["accuracy"]
    assert result["metrics"]["accuracy"] > result["rungs"][1]["accuracy"]


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"validation_share": 0.0}, "set validation_share"),
        ({"trainable_layers": None, "lora_rank": 0}, "top trains all layers already"),
        ({"processes": 2}, "set processes to 1"),
    ],
)
def test_a_ladder_that_cannot_be_climbed_is_refused(
    tmp_path: Path, recipe: dict[str, Any], said: str
) -> None:
    with pytest.raises(RecipeError, match=said):
        trained(text_job(tmp_path / "job"), **{**WHOLE, **recipe})


def test_a_budget_that_is_spent_ends_the_climb(tmp_path: Path) -> None:
    directory = by_chance(text_job(tmp_path / "job"))
    result = trained(directory, **WHOLE, sufficient=1.0, budget_seconds=1e-6, head="probe")

    assert names(result) == ["probe"]
    assert result["metrics"]["accuracy"] > 0


def test_one_rung_needs_no_rows_set_apart(tmp_path: Path) -> None:
    result = trained(text_job(tmp_path / "job"), rungs=["probe", "full"], epochs=1, head="probe")

    assert names(result) == ["probe", "full"]
    assert result["rungs"][1]["accuracy"] is None
    assert result["steps"] > 0


def test_pictures_climb_too(tmp_path: Path) -> None:
    recipe = {**WHOLE, "rungs": ["top", "full"], "trainable_layers": 1, "lora_rank": 0}
    result = trained(image_job(tmp_path / "job"), **recipe, sufficient=1.0)

    assert names(result) == ["top", "full"]


def test_a_rung_that_cannot_be_trained_is_noted_and_the_others_are_climbed(tmp_path: Path) -> None:
    recipe = {**WHOLE, "rungs": ["top", "lora", "full"], "lora_rank": 0}
    result = trained(image_job(tmp_path / "job"), **recipe, sufficient=1.0)  # by convolutions

    assert names(result) == ["top", "lora", "full"]
    assert "no linear layer" in result["rungs"][1]["error"]
    assert result["rungs"][2]["n"] == result["n_validation"]
    assert result["rung"] in {"top", "full"}


def test_a_rung_that_runs_out_of_memory_leaves_the_version_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = Loop.train

    def starved(self: Loop) -> None:
        if self.job.directory.name == "rung-full":
            raise OutOfMemory("one row does not fit")
        train(self)

    monkeypatch.setattr(Loop, "train", starved)
    directory = text_job(tmp_path / "job")
    result = trained(directory, **{**WHOLE, "rungs": ["top", "full"], "head": "random"})

    assert result["rung"] == "top"
    assert result["rungs"][1]["error"] == "one row does not fit"
    assert describe(directory / "output") == describe(directory / "rung-top" / "version")


def test_the_rung_is_that_of_the_head_where_no_layer_was_trained(tmp_path: Path) -> None:
    recipe = {**WHOLE, "rungs": ["probe", "lora", "full"], "head": "probe", "sufficient": 0.3}
    result = trained(text_job(tmp_path / "job"), **recipe)

    assert names(result) == ["probe"]
    assert (result["rung"], result["steps"]) == ("probe", 0)


def test_a_climb_stopped_anywhere_ends_with_the_same_bits(tmp_path: Path) -> None:
    recipe = {**WHOLE, "sufficient": 1.0, "dropout": 0.1, "head": "random"}
    whole = trained(by_chance(text_job(tmp_path / "whole")), **recipe)
    directory = changed(by_chance(text_job(tmp_path / "broken")), validation=None, recipe=recipe)
    n_stops = stops_until_done(directory, every=40)

    assert n_stops >= 3
    assert describe(directory / "output") == describe(tmp_path / "whole" / "output")
    broken = read_json(directory / "result.json")
    assert broken["rung"] == whole["rung"]
    assert broken["metrics"] == whole["metrics"]
    assert names(broken) == names(whole)
    assert whole["resumed_from_step"] is None
    assert broken["resumed_from_step"] > 0


def test_where_the_mix_of_classes_moved_the_bias_alone_follows(tmp_path: Path) -> None:
    first = text_job(tmp_path / "first")
    trained(first, trainable_layers=None)
    directory = text_job(tmp_path / "next")
    more = ["weather"] * 40 + ["sport"] * 2
    rewrite(directory, "label", ["weather", "sport"] * 19 + more)
    start = {"start": str(first / "output"), "start_is_base": False, "n_newest": 42}
    recipe = {"rungs": ["prior", "probe"], "sufficient": 0.5}
    result = trained(changed(directory, **start), **recipe)

    assert names(result) == ["prior"]
    assert result["rungs"][0]["n"] == 42
    before, after = (load_file(one / "output" / "model.safetensors") for one in (first, directory))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"classifier.bias"}
    shift = after["classifier.bias"] - before["classifier.bias"]
    assert shift[1] > shift[0]  # sport, weather


def test_a_new_class_leaves_the_bias_to_the_rungs_above(tmp_path: Path) -> None:
    first = text_job(tmp_path / "first")
    trained(first, epochs=1)
    directory = text_job(tmp_path / "next")
    rewrite(directory, "label", ["weather", "sport"] * 30 + ["storm"] * 20)
    start = {"start": str(first / "output"), "start_is_base": False, "n_newest": 20}
    labels = {"labels": ["sport", "storm", "weather"]}
    result = trained(changed(directory, **start, **labels), rungs=["prior", "centroid"])

    assert names(result) == ["centroid"]
