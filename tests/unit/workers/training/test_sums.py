"""What ranks add up, by a group of one; that of two is tested in tests/integration."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from workers.training import sums


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    sums.meet(tmp_path / "store", rank=0, size=1, device="cpu")
    yield
    dist.destroy_process_group()


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2), nn.Linear(1, 1))


@pytest.mark.usefixtures("group")
def test_a_rank_alone_keeps_its_gradients_and_running_statistics(model: nn.Module) -> None:
    added = sums.Sums(model, rank=0, size=1)
    added.begin()
    for _ in range(2):
        model[:3](torch.randn(5, 3)).sum().backward()
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]

    told = added.add_up([0.5, 3.0])

    assert told.tolist() == [[0.5, 3.0]]
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, expected[name])
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        if gradient is None:
            assert parameter.grad is None
        else:
            torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.usefixtures("group")
def test_what_rank_0_sends_is_what_it_has(model: nn.Module) -> None:
    sent = sums.sent(dict(model.state_dict()))
    assert all(torch.equal(sent[name], value) for name, value in model.state_dict().items())


def test_a_message_holds_tensors_of_one_kind_until_it_is_large() -> None:
    large = torch.zeros(sums.BUCKET_BYTES // 4)
    small, double = torch.zeros(2), torch.zeros(2, dtype=torch.float64)
    sizes = [len(bucket) for bucket in sums._buckets([small, small, double, small, large, small])]
    assert sizes == [2, 1, 2, 1]
