"""The judgement of whole windows keeps its promises: false alarms and power, counted."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

import workers.detectors
from app.domain.registry import scan
from workers.detectors import DEFAULTS, detectors
from workers.detectors.measure import measure_window
from workers.statistics.marginals import cauchy_combination

scan(workers.detectors)
pytestmark = pytest.mark.slow

Window = dict[str, dict[str, Any]]


def mixed(n: int, rng: np.random.Generator) -> Window:
    """Ten columns as they come: skewed, tied, zero-inflated, with holes, long-tailed."""
    tail = 1 / np.arange(1, 41) ** 1.2
    names = np.array([f"c{i}" for i in range(40)], dtype=object)
    holes = rng.normal(size=n)
    holes[rng.random(n) < 0.05] = np.nan
    return {
        "numeric": {
            "normal": rng.normal(size=n),
            "skewed": rng.lognormal(size=n),
            "rounded": np.round(rng.normal(size=n), 1),
            "count": rng.poisson(2.0, n).astype(float),
            "zeros": rng.exponential(size=n) * (rng.random(n) < 0.4),
            "binary": (rng.random(n) < 0.2).astype(float),
            "holes": holes,
        },
        "categorical": {
            "tail": rng.choice(names, n, p=tail / tail.sum()),
            "few": rng.choice(names[:3], n),
            "skewed": rng.choice(names[:4], n, p=[0.94, 0.04, 0.01, 0.01]),
        },
    }


@pytest.mark.parametrize(("n", "m"), [(2000, 200), (300, 300), (200, 40)])
def test_a_quiet_window_of_ten_columns_alarms_in_five_percent_of_checks(n: int, m: int) -> None:
    n_windows = 100 if m > 100 else 50  # few rows are resampled, which costs
    n_alarms = 0
    for i in range(n_windows):
        rng = np.random.default_rng([n, m, i])
        scores = measure_window(mixed(n, rng), mixed(m, rng), DEFAULTS, fdr=0.05, seed=i)
        n_alarms += any(score.drifted for score in scores)
    assert n_alarms <= binom.ppf(1 - 1e-3, n_windows, 0.05)


@pytest.mark.parametrize("name", ["ks", "spread"])
@pytest.mark.parametrize("column", ["rounded", "count", "zeros", "binary"])
def test_ties_neither_raise_false_alarms_nor_silence_the_test(name: str, column: str) -> None:
    n_windows = 150
    n_alarms = 0
    for i in range(n_windows):
        rng = np.random.default_rng([7, i])
        before, after = (mixed(size, rng)["numeric"][column] for size in (400, 200))
        p_value = detectors.get(name).measure(before, after, seed=i).p_value
        n_alarms += p_value is not None and p_value <= 0.1
    assert n_alarms <= binom.ppf(1 - 1e-4, n_windows, 0.1)
    assert n_alarms >= binom.ppf(1e-4, n_windows, 0.05)


def test_the_combination_holds_its_level_for_independent_and_for_equal_p_values() -> None:
    rng = np.random.default_rng(1)
    p_values = rng.random((4000, 3))
    for level in (0.01, 0.05):
        for together in (p_values, p_values[:, [0, 0, 1]], p_values[:, [0, 0, 0]]):
            rate = np.mean(cauchy_combination(together) <= level)
            assert rate <= 1.15 * level + 0.008


CHANGES = {
    "mean +0.5 sd": lambda x, rng: x + 0.5,
    "sd x1.5": lambda x, rng: x * 1.5,
    "2 % missing": lambda x, rng: np.where(rng.random(len(x)) < 0.02, np.nan, x),
    "30 % mixture": lambda x, rng: np.where(rng.random(len(x)) < 0.3, x + 2, x),
}


@pytest.mark.parametrize("change", CHANGES)
def test_one_changed_column_of_ten_is_named_in_nearly_every_window(change: str) -> None:
    n_windows, n_named, n_wrong = 25, 0, 0
    for i in range(n_windows):
        rng = np.random.default_rng([11, i])
        reference, current = mixed(4000, rng), mixed(500, rng)
        current["numeric"]["normal"] = CHANGES[change](current["numeric"]["normal"], rng)
        scores = measure_window(reference, current, DEFAULTS, fdr=0.05, seed=i)
        named = {(score.feature, score.kind) for score in scores if score.drifted}
        n_named += any(feature == "normal" for feature, _ in named)
        n_wrong += any(feature != "normal" for feature, _ in named)
    assert n_named >= 0.9 * n_windows
    assert n_wrong <= binom.ppf(1 - 1e-3, n_windows, 0.1)


def test_a_tenfold_window_of_the_same_distribution_reaches_the_same_verdict() -> None:
    flips = 0
    for i in range(20):
        rng = np.random.default_rng([13, i])
        reference = mixed(5000, rng)
        verdicts = [
            any(
                s.drifted
                for s in measure_window(reference, mixed(m, rng), DEFAULTS, fdr=0.05, seed=i)
            )
            for m in (300, 3000)
        ]
        flips += verdicts[0] != verdicts[1]
    assert flips <= 3


def topics(n: int, rng: np.random.Generator, *, share_new: float = 0.0) -> Window:
    """Unit embeddings of sixteen topics, and a share of rows from four that are new."""
    centres = np.random.default_rng(0).normal(size=(20, 128)) * 0.6
    topic = rng.integers(0, 16, n)
    is_new = rng.random(n) < share_new
    topic[is_new] = rng.integers(16, 20, int(is_new.sum()))
    rows = centres[topic] + rng.normal(size=(n, 128)) * 0.5
    return {"embedding": {"features": rows / np.linalg.norm(rows, axis=1, keepdims=True)}}


@pytest.mark.parametrize(
    ("share_new", "least", "most"), [(0.0, 0.0, 0.2), (0.2, 0.9, 1.0)], ids=["quiet", "new topics"]
)
def test_new_topics_are_seen_in_embeddings(share_new: float, least: float, most: float) -> None:
    alarms = []
    for i in range(10):
        rng = np.random.default_rng([17, i])
        reference, current = topics(1000, rng), topics(300, rng, share_new=share_new)
        scores = measure_window(reference, current, DEFAULTS, fdr=0.05, seed=i)
        alarms.append(scores[0].drifted)
    assert least <= np.mean(alarms) <= most
