"""Histograms count every value once, on both sides by the same bins."""

import json

import numpy as np
import pytest

from workers.statistics.histograms import AT_MOST_CATEGORIES, N_BINS, OTHERS, histogram


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (np.r_[np.arange(100.0), np.nan], np.r_[1e9, np.arange(50.0)]),
        (np.ones(30), np.ones(20)),
        (np.full(4, np.nan), np.array([])),
        (np.array(["a", "b", None, "a"], dtype=object), np.array(["c", np.nan], dtype=object)),
        (np.array([f"v{i}" for i in range(40)], dtype=object), np.array(["v1"], dtype=object)),
    ],
)
def test_every_value_is_counted_once(before: np.ndarray, after: np.ndarray) -> None:
    found = histogram(before, after)
    json.dumps(found, allow_nan=False)
    assert sum(found["reference"]) + found["missing"][0] == len(before)
    assert sum(found["current"]) + found["missing"][1] == len(after)
    assert len(found["reference"]) == len(found["current"]) <= max(N_BINS, AT_MOST_CATEGORIES + 1)


def test_a_shift_to_the_right_is_seen_in_the_bins() -> None:
    rng = np.random.default_rng(0)
    found = histogram(rng.normal(size=500), rng.normal(3, 1, 500))
    assert np.argmax(found["current"]) > np.argmax(found["reference"]) + 2


def test_rare_categories_are_counted_together() -> None:
    values = np.array(["often"] * 9 + [f"v{i}" for i in range(40)], dtype=object)
    found = histogram(values, values)
    assert found["labels"][0] == "often"
    assert found["labels"][-1] == OTHERS
