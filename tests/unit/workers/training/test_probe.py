"""The linear probe and the head it becomes."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from workers.training import probe
from workers.training.errors import RecipeError
from workers.training.layers import choose_trainable, find_head


def blobs(n: int, k: int = 3, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    truth = draw.integers(0, k, n)
    centres = draw.normal(size=(k, 8)) * 3
    return ((centres[truth] + draw.normal(size=(n, 8))) * scale).astype(np.float32), truth


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_probe_separates_blobs_at_any_scale_of_the_features(scale: float) -> None:
    features, truth = blobs(300, scale=scale)
    fitted = probe.fit(features, truth, 3, seed=0)
    scores = fitted.scores(features)
    assert (scores.argmax(axis=1) == truth).mean() > 0.97
    assert scores.max(axis=1).mean() > 0.9


def test_a_class_without_rows_is_hardly_ever_predicted() -> None:
    features, truth = blobs(300)
    scores = probe.fit(features, truth, 4, seed=0).scores(features)
    assert scores[:, 3].max() < 0.2


def test_two_rows_are_enough_for_a_probe() -> None:
    features = np.asarray([[0.0, 1.0], [1.0, 0.0]], dtype=np.float32)
    scores = probe.fit(features, np.asarray([0, 1]), 2, seed=0).scores(features)
    assert scores.argmax(axis=1).tolist() == [0, 1]


def test_features_that_are_all_alike_give_a_flat_probe() -> None:
    features = np.ones((6, 4), dtype=np.float32)
    scores = probe.fit(features, np.asarray([0, 1] * 3), 2, seed=0).scores(features)
    assert np.allclose(scores, 0.5, atol=1e-3)


def test_a_model_that_took_the_probe_says_what_the_probe_says() -> None:
    features, truth = blobs(60)
    fitted = probe.fit(features, truth, 3, seed=0)
    model = nn.Sequential(nn.Identity(), nn.Linear(8, 3))
    probe.put_into(model, fitted)
    with torch.no_grad():
        logits = model(torch.from_numpy(features)).numpy()
    assert probe.disagreement(fitted, features, logits) < 1e-5


def test_the_head_is_the_last_layer_with_one_output_a_label() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3), nn.Linear(3, 7))
    assert find_head(model, 3) is model[1]
    with pytest.raises(RecipeError, match="no linear head of 5"):
        find_head(model, 5)


class Stacked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.Linear(2, 2)
        self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(4))
        self.pooler = nn.Linear(2, 2)
        self.classifier = nn.Linear(2, 3)


@pytest.mark.parametrize(
    ("n_layers", "learning"),
    [
        (0, {"classifier"}),
        (1, {"layers.3", "pooler", "classifier"}),
        (9, {"layers.0", "layers.1", "layers.2", "layers.3", "pooler", "classifier"}),
    ],
)
def test_the_head_and_the_top_layers_learn(n_layers: int, learning: set[str]) -> None:
    model = Stacked()
    choose_trainable(model, 3, n_layers)
    found = {name.rpartition(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert found == learning


def test_no_number_of_layers_means_all_of_them() -> None:
    model = Stacked()
    choose_trainable(model, 3, None)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_weaker_regularisation_is_not_tried_once_the_loss_has_risen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[float] = []
    minimise = probe._minimise

    def counted(*given: Any) -> Any:
        tried.append(given[3])
        return minimise(*given)

    monkeypatch.setattr(probe, "_minimise", counted)
    draw = np.random.default_rng(0)
    features = draw.normal(size=(1200, 8)).astype(np.float32)
    truth = draw.integers(0, 3, 1200)  # nothing can be learned: the strongest is best
    found = probe.choose_strength(features, truth, 3, seed=0)

    assert found.strength == probe.STRENGTHS[0]
    assert tried == list(probe.STRENGTHS[:2])
    assert np.isfinite(found.is_right).sum() == 400
