"""Weights between two versions."""

import pytest
import torch

from workers.training.optimiser import averaged


@pytest.mark.parametrize(("share", "expected"), [(0.0, 4.0), (0.25, 3.0), (1.0, 0.0)])
def test_weights_lie_between_start_and_end_and_counts_are_the_ends(
    share: float, expected: float
) -> None:
    start = {"weight": torch.zeros(2), "count": torch.tensor(3)}
    end = {"weight": torch.full((2,), 4.0), "count": torch.tensor(7)}
    found = averaged(start, end, share)
    assert found["weight"].tolist() == pytest.approx([expected, expected])
    assert int(found["count"]) == 7
