"""Weights between two versions."""

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config

from workers.training.optimiser import add_to_mean, averaged, learned, put_learned, seed_step


@pytest.mark.parametrize(("share", "expected"), [(0.0, 4.0), (0.25, 3.0), (1.0, 0.0)])
def test_weights_lie_between_start_and_end(share: float, expected: float) -> None:
    start = {"weight": torch.zeros(2), "of the start": torch.zeros(1)}
    end = {"weight": torch.full((2,), 4.0), "frozen": torch.ones(1)}
    found = averaged(start, end, share)
    assert found.keys() == {"weight"}
    assert found["weight"].tolist() == pytest.approx([expected, expected])


def test_a_mean_of_steps_is_their_mean_and_counts_are_the_newest() -> None:
    layer = torch.nn.BatchNorm1d(1)
    mean: dict[str, torch.Tensor] = {}
    for n, weight in enumerate([1.0, 4.0, 7.0]):
        torch.nn.init.constant_(layer.weight, weight)
        layer.num_batches_tracked.fill_(n)
        mean = add_to_mean(mean, layer, n)
    assert mean["weight"].item() == pytest.approx(4.0)
    assert mean["num_batches_tracked"].item() == 2


def test_weights_that_layers_share_are_kept_once_and_not_at_all_when_frozen() -> None:
    config = GPT2Config(n_embd=8, n_layer=1, n_head=1, n_positions=8, vocab_size=20)
    model = AutoModelForCausalLM.from_config(config)
    table = model.get_input_embeddings().weight
    kept = learned(model)
    assert len([one for one in kept.values() if one.shape == table.shape]) == 1
    with torch.no_grad():
        table.zero_()
    put_learned(model, kept)
    assert model.get_output_embeddings().weight.abs().sum() > 0

    table.requires_grad = False
    assert not [one for one in learned(model).values() if one.shape == table.shape]


def test_each_part_of_a_step_draws_for_itself_and_the_same_again() -> None:
    def drawn(step: int, part: int) -> tuple[float, float]:
        source = seed_step(7, step, part)
        return float(source.random()), float(torch.rand(()))

    assert drawn(3, 1) == drawn(3, 1)
    assert len({drawn(step, part) for step in range(3) for part in range(3)}) == 9
