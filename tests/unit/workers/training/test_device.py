"""Threads come from the real quota."""

import os
from pathlib import Path

import pytest
import torch

from workers.training import device
from workers.training.device import choose, cpu_quota


def test_without_a_quota_the_affinity_counts(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("written", "cores"), [("100000 100000", 1), ("20000 100000", 1)])
def test_a_control_group_limits_the_cores(tmp_path: Path, written: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(written)
    assert cpu_quota(tmp_path) == cores


def test_a_group_without_a_limit_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("max 100000")
    assert cpu_quota(tmp_path) == len(os.sched_getaffinity(0))


def test_the_first_version_of_control_groups_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("100000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cpu_quota(tmp_path) == 1


def test_the_precision_asked_for_is_taken() -> None:
    assert choose(threads=1, precision="fp32").precision == "fp32"
    assert choose(threads=1, precision="auto").precision in {"fp32", "bf16"}


@pytest.mark.parametrize(("times_faster", "pays"), [(0.5, False), (1.0, False), (1.5, True)])
def test_bf16_is_used_where_it_multiplies_faster(
    monkeypatch: pytest.MonkeyPatch, times_faster: float, pays: bool
) -> None:
    speeds = {torch.float32: 1e11, torch.bfloat16: times_faster * 1e11}
    monkeypatch.setattr(device, "multiplications_per_second", lambda _, dtype: speeds[dtype])
    assert device.bf16_pays("cpu") is pays
    assert choose(threads=1, precision="auto").precision == ("bf16" if pays else "fp32")


def test_the_speed_of_a_product_counts_what_is_done_between_two_looks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = iter([10.0, 10.5, 11.0, 11.5])
    monkeypatch.setattr(device, "now", lambda _: next(looks))
    found = device.multiplications_per_second("cpu", torch.float32, shape=(2, 3, 4), seconds=1.0)
    assert found == 2 * 2 * 3 * 4 * 2 * device.N_AT_ONCE / 1.0
