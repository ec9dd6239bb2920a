"""Weights between two versions."""

import pytest
import torch

from workers.training.optimiser import averaged


@pytest.mark.parametrize(("share", "expected"), [(0.0, 4.0), (0.25, 3.0), (1.0, 0.0)])
def test_weights_lie_between_start_and_end(share: float, expected: float) -> None:
    start = {"weight": torch.zeros(2), "of the start": torch.zeros(1)}
    end = {"weight": torch.full((2,), 4.0), "frozen": torch.ones(1)}
    found = averaged(start, end, share)
    assert found.keys() == {"weight"}
    assert found["weight"].tolist() == pytest.approx([expected, expected])
