"""Tests of all classes' scores keep their level, and see what answers and confidence do not."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

import workers.detectors
from app.domain.registry import scan
from workers.detectors import DEFAULTS
from workers.detectors.measure import measure_window
from workers.jobs.class_scores import SIGNAL, chosen_for, comparable

scan(workers.detectors)
pytestmark = pytest.mark.slow

OWN = {SIGNAL: chosen_for(DEFAULTS["embedding"])}
LEVEL = 0.05


def softmax(n: int, n_classes: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Scores of n rows, sure to very different degrees, (n, k)."""
    logits = rng.normal(size=(n, n_classes))
    logits[np.arange(n), rng.integers(0, n_classes, n)] += rng.gamma(2.0, 2.0, n)
    odds = np.exp(logits)
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def with_one_second_choice(
    scores: NDArray[np.float64], share: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Give the second place of a share of the rows to class 0, where it is not the first."""
    found = scores.copy()
    second = np.argsort(-scores, axis=1)[:, 1]
    chosen = np.flatnonzero((rng.random(len(scores)) < share) & (scores.argmax(axis=1) != 0))
    found[chosen, 0], found[chosen, second[chosen]] = (
        scores[chosen, second[chosen]],
        scores[chosen, 0],
    )
    return found


def signals(scores: NDArray[np.float64]) -> dict[str, dict[str, Any]]:
    return {
        "numeric": {"confidence": scores.max(axis=1)},
        "categorical": {"prediction": scores.argmax(axis=1).astype(str).astype(object)},
        "embedding": {SIGNAL: scores},
    }


def drifted(before: NDArray[np.float64], after: NDArray[np.float64], seed: int) -> set[str]:
    sides = comparable(signals(before), signals(after))
    scores = measure_window(*sides, DEFAULTS, fdr=LEVEL, seed=seed, own=OWN)
    return {score.feature for score in scores if score.drifted}


@pytest.mark.parametrize("n_classes", [3, 10, 77])
def test_quiet_scores_alarm_no_more_often_than_promised(n_classes: int) -> None:
    n_windows, n_alarms, n_of_scores = 80, 0, 0
    for i in range(n_windows):
        rng = np.random.default_rng([n_classes, i])
        found = drifted(softmax(800, n_classes, rng), softmax(200, n_classes, rng), i)
        n_alarms += bool(found)
        n_of_scores += SIGNAL in found
    assert n_alarms <= binom.ppf(1 - 1e-3, n_windows, LEVEL)
    assert n_of_scores <= binom.ppf(1 - 1e-3, n_windows, LEVEL)


@pytest.mark.parametrize("n_classes", [3, 10, 77])
def test_a_changed_second_choice_is_found_by_the_scores_alone(n_classes: int) -> None:
    n_windows, n_found, n_others = 20, 0, 0
    for i in range(n_windows):
        rng = np.random.default_rng([n_classes, 1, i])
        before = softmax(800, n_classes, rng)
        after = with_one_second_choice(softmax(300, n_classes, rng), 1.0, rng)
        found = drifted(before, after, i)
        n_found += SIGNAL in found
        n_others += bool(found - {SIGNAL})
    assert n_found >= 0.9 * n_windows
    assert n_others <= binom.ppf(1 - 1e-3, n_windows, LEVEL)
