"""Weights between two versions."""

import pytest
import torch

from workers.training.optimiser import add_to_mean, averaged, seed_step


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


def test_each_part_of_a_step_draws_for_itself_and_the_same_again() -> None:
    def drawn(step: int, part: int) -> tuple[float, float]:
        source = seed_step(7, step, part)
        return float(source.random()), float(torch.rand(()))

    assert drawn(3, 1) == drawn(3, 1)
    assert len({drawn(step, part) for step in range(3) for part in range(3)}) == 9
