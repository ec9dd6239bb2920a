"""Features that were kept come back to the rows that they are of, and to no others."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from workers.training.data import Rows
from workers.training.kept_features import KeptFeatures, agree, digests_of


def rows(*texts: str) -> Rows:
    return Rows(
        [str(n) for n in range(len(texts))], [{"text": t} for t in texts], ["a"] * len(texts)
    )


def kept(*texts: str) -> KeptFeatures:
    features = np.asarray([[len(text), 0.1] for text in texts], dtype=np.float32)
    found = KeptFeatures.of(digests_of(rows(*texts), np.arange(len(texts))), features)
    assert found is not None
    return found


def test_features_come_back_from_a_file_by_the_content_of_their_row(tmp_path: Path) -> None:
    kept("four", "a", "two").write(tmp_path / "kept")
    found = KeptFeatures.read(tmp_path / "kept")
    assert found is not None
    asked = rows("a", "unseen", "four", "a")
    places = found.places(digests_of(asked, np.arange(4)))
    assert places[1] == -1
    assert found.values[places[[0, 2, 3]], 0].tolist() == [1, 4, 1]


def test_only_chosen_rows_are_recognised() -> None:
    both = rows("a", "b", "c")
    alone = digests_of(both, np.asarray([1]))
    assert alone.tolist() == digests_of(rows("b"), np.asarray([0])).tolist()


def test_rows_of_the_same_content_are_kept_once() -> None:
    assert len(kept("a", "b", "a")) == 2


def test_no_rows_are_kept_as_none() -> None:
    nothing = KeptFeatures.of(digests_of(rows(), np.arange(0)), np.zeros((0, 2), dtype=np.float32))
    assert nothing is not None
    assert nothing.places(digests_of(rows("a"), np.arange(1))).tolist() == [-1]


@pytest.mark.parametrize("value", [1e6, np.nan, np.inf])
def test_what_half_precision_cannot_hold_is_not_kept(value: float) -> None:
    features = np.asarray([[value]], dtype=np.float32)
    assert KeptFeatures.of(digests_of(rows("a"), np.arange(1)), features) is None


def test_a_file_of_something_else_is_no_error(tmp_path: Path) -> None:
    assert KeptFeatures.read(tmp_path / "absent") is None
    (tmp_path / "torn").write_bytes(b"\x40\x00\x00\x00")
    assert KeptFeatures.read(tmp_path / "torn") is None
    save_file({"digests": np.zeros((2, 16), dtype=np.uint8)}, tmp_path / "half")
    assert KeptFeatures.read(tmp_path / "half") is None
    wrong = {"digests": np.zeros((3, 16), np.uint8), "values": np.zeros((2, 4), np.float16)}
    save_file(wrong, tmp_path / "wrong")
    assert KeptFeatures.read(tmp_path / "wrong") is None


def test_kept_features_agree_with_fresh_ones_that_differ_by_their_rounding_alone() -> None:
    fresh = np.random.default_rng(0).normal(3, 1, (64, 32)).astype(np.float32)
    assert agree(fresh.astype(np.float16), fresh)
    noisy = fresh * (1 + np.random.default_rng(1).normal(0, 2**-8, fresh.shape))
    assert agree(noisy.astype(np.float16), fresh)
    other = np.random.default_rng(2).normal(3, 1, (64, 32))
    assert not agree(other.astype(np.float16), fresh)
    assert not agree(np.zeros((64, 16), np.float16), fresh)
