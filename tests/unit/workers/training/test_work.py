"""What a run uses of the machine is counted from its own batches."""

import pytest
import torch

from workers.training.device import Device
from workers.training.work import Utilisation, operations_of, peak_of


def test_the_operations_of_a_learning_layer_are_six_for_each_weight_and_row():
    layer = torch.nn.Linear(8, 4)
    rows = torch.ones(5, 8, requires_grad=True)
    assert operations_of(lambda: layer(rows)) == 2 * 5 * 8 * 4
    assert operations_of(lambda: layer(rows).sum().backward()) == 6 * 5 * 8 * 4


def test_the_share_is_of_all_steps_so_far_and_unknown_before_the_first():
    used = Utilisation(peak=100.0, operations_per_cost=2.0)
    assert used.share is None
    used.add(10, 1.0)
    used.add(30, 1.0)
    assert used.share == pytest.approx(80 / 2 / 100)


def test_the_peak_is_measured_at_the_precision_of_the_run():
    assert all(peak_of(Device("cpu", 1, precision)) > 0 for precision in ("fp32", "bf16"))
