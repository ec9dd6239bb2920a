"""Checkpoints survive kills and damage."""

from pathlib import Path

import pytest
import torch

from workers.training import checkpoints


def write(root: Path, step: int) -> None:
    tensors = {"model": {"weight": torch.full((64, 1024), float(step))}}
    checkpoints.write(root, step, tensors, {"step": step})


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", "MANIFEST.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "remove"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, name: str, damage: str
) -> None:
    write(tmp_path, 1)
    write(tmp_path, 2)
    path = tmp_path / "ckpt-2" / name
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        path.write_bytes(content[:-2] + bytes([content[-2] ^ 1, content[-1]]))
    else:
        path.unlink()
    found = checkpoints.latest(tmp_path)
    assert found is not None
    assert found.step == 1 or (name == "MANIFEST.json" and damage == "flip")


def test_without_any_checkpoint_there_is_none(tmp_path: Path) -> None:
    assert checkpoints.latest(tmp_path) is None


def test_only_the_last_two_are_kept_and_no_drafts(tmp_path: Path) -> None:
    (tmp_path / "ckpt-9.tmp-dead").mkdir()
    for step in (1, 2, 3):
        write(tmp_path, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ckpt-2", "ckpt-3"]


def test_writing_a_step_again_replaces_it(tmp_path: Path) -> None:
    write(tmp_path, 1)
    checkpoints.write(tmp_path, 1, {"model": {"weight": torch.zeros(1)}}, {"again": True})
    found = checkpoints.latest(tmp_path)
    assert found is not None
    assert found.state == {"again": True}
