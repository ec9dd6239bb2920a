"""Accuracy is watched at every label, and only a fall below the floor counts."""

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.performance import (
    clopper_pearson,
    confidence_sequence,
    mean_interval,
    watch_accuracy,
)


def answers(n: int, accuracy: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(n) < accuracy


def test_no_answers_are_no_evidence() -> None:
    evidence = watch_accuracy(np.array([], dtype=bool), 0.9, 0.02)
    assert evidence.accuracy is None
    assert evidence.log_e_value == -math.inf
    assert evidence.e_value == 0.0
    assert not evidence.is_decayed(1000)


def test_a_steady_accuracy_is_no_decay() -> None:
    assert not watch_accuracy(answers(5000, 0.9, 1), 0.9, 0.02).is_decayed(10_000)


def test_a_fall_is_dated_and_bounded() -> None:
    stream = np.concatenate([answers(3000, 0.9, 1), answers(1500, 0.78, 2)])
    evidence = watch_accuracy(stream, 0.9, 0.02)
    assert evidence.is_decayed(10_000)
    assert evidence.changed_at is not None
    assert abs(evidence.changed_at - 3000) < 100
    assert evidence.n_since == len(stream) - evidence.changed_at
    assert evidence.lower_since is not None
    assert evidence.upper_since is not None
    assert evidence.lower_since < 0.78 < evidence.upper_since < 0.88
    assert evidence.accuracy_since == pytest.approx(0.78, abs=0.03)


def test_an_improvement_is_no_decay() -> None:
    stream = np.concatenate([answers(1000, 0.8, 4), answers(3000, 0.95, 2)])
    assert not watch_accuracy(stream, 0.8, 0.02).is_decayed(1000)


def test_all_wrong_answers_alarm_within_a_few_rows_and_do_not_overflow() -> None:
    assert watch_accuracy(np.zeros(20, dtype=bool), 0.9, 0.02).is_decayed(10_000)
    assert math.isfinite(watch_accuracy(np.zeros(5000, dtype=bool), 0.99, 0.0).e_value)


@pytest.mark.parametrize(("accepted", "tolerance"), [(0.0, 0.0), (0.01, 0.05), (1.0, 0.0)])
def test_an_accuracy_at_the_edge_is_watched_without_an_error(
    accepted: float, tolerance: float
) -> None:
    evidence = watch_accuracy(answers(200, 0.5, 1), accepted, tolerance)
    assert not math.isnan(evidence.log_e_value)
    assert evidence.is_decayed(1000) == (accepted == 1.0)


def test_a_floor_of_very_low_accuracy_still_has_an_alternative_below() -> None:
    assert watch_accuracy(np.zeros(20_000, dtype=bool), 0.008, 0.0).is_decayed(1000)


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.floats(0.05, 0.99))
def test_the_value_is_the_textbook_recursion(stream: list[bool], accepted: float) -> None:
    evidence = watch_accuracy(np.array(stream), accepted, 0.0, drops=(0.02,))
    ratio = {
        True: (accepted - 0.02) / accepted,
        False: (1 - accepted + 0.02) / (1 - accepted),
    }
    value = highest = 0.0
    for answer in stream:
        value = (1 + value) * ratio[answer]
        highest = max(highest, value)
    assert math.exp(evidence.log_e_value) == pytest.approx(value, rel=1e-9)
    assert math.exp(evidence.log_e_value_max) == pytest.approx(highest, rel=1e-9)


def test_thirty_thousand_answers_take_less_than_half_a_second() -> None:
    stream = answers(30_000, 0.9, 1)
    started = time.process_time()
    watch_accuracy(stream, 0.9, 0.02)
    confidence_sequence(stream)
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize(
    ("n_correct", "n", "alpha", "expected"),
    [
        (0, 10, 0.05, (0.0, 0.30849710781876083)),
        (10, 10, 0.05, (0.6915028921812392, 1.0)),
        (5, 10, 0.05, (0.18708602844739855, 0.8129139715526015)),
        (90, 100, 0.01, (0.7995, 0.9618)),
    ],
)
def test_exact_intervals_are_those_of_the_tables(
    n_correct: int, n: int, alpha: float, expected: tuple[float, float]
) -> None:
    assert clopper_pearson(n_correct, n, alpha) == pytest.approx(expected, abs=2e-3)


def test_an_interval_of_nothing_is_everything() -> None:
    assert clopper_pearson(0, 0, 0.05) == (0.0, 1.0)


def test_the_confidence_sequence_contains_the_mean_and_narrows() -> None:
    stream = answers(2000, 0.9, 3)
    lower, upper = confidence_sequence(stream)
    mean = np.cumsum(stream) / np.arange(1, 2001)
    assert np.all((lower <= mean) & (mean <= upper))
    assert upper[0] - lower[0] > 0.9
    assert upper[-1] - lower[-1] < 0.06
    assert len(confidence_sequence(np.array([], dtype=bool))[0]) == 0


def test_scores_of_0_and_1_are_watched_as_right_and_wrong_answers_are():
    right = np.random.default_rng(0).random(400) < np.repeat([0.9, 0.7], 200)
    one, other = (watch_accuracy(side, 0.9, 0.02) for side in (right, right.astype(float)))
    assert other.log_e_value == pytest.approx(one.log_e_value, rel=1e-12)
    assert (other.accuracy, other.changed_at) == (one.accuracy, one.changed_at)
    assert (other.lower, other.upper) == (one.lower, one.upper)
    assert other.lower_since <= one.lower_since < one.upper_since <= other.upper_since


def test_the_mean_of_scores_lies_in_its_interval_as_often_as_is_promised():
    draw = np.random.default_rng(1)
    samples = draw.beta(8, 2, (400, 60))
    bounds = [mean_interval(float(one.sum()), 60, 0.05) for one in samples]
    assert np.mean([lower <= 0.8 <= upper for lower, upper in bounds]) >= 0.95
    assert mean_interval(0.0, 0, 0.05) == (0.0, 1.0)
    assert mean_interval(5.0, 5, 0.05)[1] == 1.0


def test_a_fall_of_scores_is_proved_and_no_other():
    draw = np.random.default_rng(2)
    steady, fallen = draw.beta(16, 4, 600), draw.beta(10, 5, 300)
    assert not watch_accuracy(steady, 0.8, 0.02).is_decayed(10_000)
    found = watch_accuracy(np.concatenate([steady, fallen]), 0.8, 0.02)
    assert found.is_decayed(10_000)
    assert abs(found.changed_at - 600) < 40
