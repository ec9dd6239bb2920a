"""Presets of picture models."""

from pathlib import Path

import pytest

from workers.task_types.image_classification import PRESETS, ImageClassification
from workers.training.errors import RecipeError

KIND = ImageClassification()


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_makes_a_version_that_loads(name: str, tmp_path: Path) -> None:
    KIND.create(f"preset:{name}", ["a", "b"], tmp_path / "v", seed=0)
    learner = KIND.open(tmp_path / "v")
    assert learner.labels == ("a", "b")
    assert not learner.is_pretrained
    assert learner.preprocessing.n_channels == (1 if name.endswith("gray") else 3)


def test_an_unknown_preset_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="preset:resnet-tiny"):
        KIND.create("preset:resnet-huge", ["a", "b"], tmp_path / "v", seed=0)


def test_a_base_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text('{"model_type": "no-such-model"}')
    with pytest.raises(RecipeError, match="cannot be loaded"):
        KIND.create(str(tmp_path / "base"), ["a", "b"], tmp_path / "v", seed=0)
