"""The watch over accuracy keeps its promises: false alarms, delay and coverage, counted."""

import numpy as np
import pytest
from scipy.stats import binom

from app.domain.performance import confidence_sequence, watch_accuracy

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("accuracy", [0.88, 0.9])
def test_false_alarms_come_no_earlier_than_once_in_the_average_run_length(accuracy: float) -> None:
    # E[M_t] <= t with no decay, so a run of t answers alarms with a chance of at most t / N.
    rng = np.random.default_rng(1)
    n_streams, n, run_length = 800, 300, 3000
    n_alarms = sum(
        watch_accuracy(rng.random(n) < accuracy, 0.9, 0.02).is_decayed(run_length)
        for _ in range(n_streams)
    )
    assert n_alarms <= binom.ppf(1 - 1e-4, n_streams, n / run_length)


def test_the_mean_run_length_with_an_accuracy_at_the_floor_is_as_claimed() -> None:
    rng = np.random.default_rng(2)
    run_length = 300
    lengths = []
    for _ in range(150):
        stream = rng.random(6000) < 0.88
        alarmed = False
        for n in (50, 100, 200, 400, 800, 1600, 3200, 6000):
            if watch_accuracy(stream[:n], 0.9, 0.02).is_decayed(run_length):
                lengths.append(n // 2)  # it alarmed after the former n, at the earliest
                alarmed = True
                break
        if not alarmed:
            lengths.append(6000)
    error = np.std(lengths) / np.sqrt(len(lengths))
    assert np.mean(lengths) + 3 * error >= run_length


def test_a_fall_of_six_points_is_seen_within_a_thousand_labels() -> None:
    rng = np.random.default_rng(3)
    seen = []
    for _ in range(60):
        stream = np.concatenate([rng.random(1000) < 0.9, rng.random(1200) < 0.84])
        seen.append(watch_accuracy(stream, 0.9, 0.02).is_decayed(10_000))
    assert np.mean(seen) >= 0.75


def test_a_fall_of_twelve_points_is_seen_within_three_hundred_labels() -> None:
    rng = np.random.default_rng(4)
    seen = []
    for _ in range(60):
        stream = np.concatenate([rng.random(1000) < 0.9, rng.random(300) < 0.78])
        seen.append(watch_accuracy(stream, 0.9, 0.02).is_decayed(10_000))
    assert np.mean(seen) >= 0.9


@pytest.mark.parametrize("accuracy", [0.5, 0.9, 0.99])
def test_the_confidence_sequence_covers_at_every_time_at_once(accuracy: float) -> None:
    rng = np.random.default_rng(5)
    n_streams, alpha = 120, 0.1
    n_missed = 0
    for _ in range(n_streams):
        lower, upper = confidence_sequence(rng.random(1500) < accuracy, alpha)
        n_missed += not np.all((lower <= accuracy) & (accuracy <= upper))
    assert n_missed <= binom.ppf(1 - 1e-4, n_streams, alpha)


def test_the_interval_since_the_change_covers_although_the_change_was_searched_for() -> None:
    rng = np.random.default_rng(6)
    n_missed = 0
    for _ in range(300):
        evidence = watch_accuracy(rng.random(800) < 0.9, 0.9, 0.02, alpha=0.1)
        if evidence.lower_since is not None and evidence.upper_since is not None:
            n_missed += not evidence.lower_since <= 0.9 <= evidence.upper_since
    assert n_missed <= binom.ppf(1 - 1e-4, 300, 0.1)
