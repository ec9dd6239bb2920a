"""Where answers are numbers: the watch over closeness and the paired test keep their promises."""

import numpy as np
import pytest
from scipy.stats import binom

from app.domain.answers import closeness
from app.domain.evaluation import pair_losses
from app.domain.performance import anytime_interval, watch_accuracy

pytestmark = pytest.mark.slow
ERRORS = {
    "normal": lambda rng, n: rng.normal(0, 1, n),
    "heavy": lambda rng, n: rng.standard_t(3, n),
    "mostly none": lambda rng, n: np.where(rng.random(n) < 0.9, 0.0, rng.normal(0, 4, n)),
}


def scores(errors):
    return closeness(errors, np.zeros(len(errors)), 4.0)


@pytest.mark.parametrize("kind", list(ERRORS))
def test_false_alarms_come_no_earlier_than_once_in_the_average_run_length(kind) -> None:
    rng = np.random.default_rng(1)
    floor = float(scores(ERRORS[kind](rng, 400_000)).mean())
    n_streams, n, run_length = 800, 300, 3000
    n_alarms = sum(
        watch_accuracy(scores(ERRORS[kind](rng, n)), floor, 0.0).is_decayed(run_length)
        for _ in range(n_streams)
    )
    assert n_alarms <= binom.ppf(1 - 1e-4, n_streams, n / run_length)


def test_errors_that_double_are_seen_within_three_hundred_labels() -> None:
    rng = np.random.default_rng(2)
    accepted = float(scores(rng.normal(0, 1, 400_000)).mean())
    seen = []
    for _ in range(60):
        errors = np.concatenate([rng.normal(0, 1, 1000), rng.normal(0, 2, 300)])
        seen.append(watch_accuracy(scores(errors), accepted, 0.02).is_decayed(10_000))
    assert np.mean(seen) >= 0.9


@pytest.mark.parametrize("kind", list(ERRORS))
def test_the_anytime_interval_of_mean_closeness_covers(kind) -> None:
    rng = np.random.default_rng(3)
    truth = float(scores(ERRORS[kind](rng, 400_000)).mean())
    n_missed = 0
    for _ in range(200):
        sums = scores(ERRORS[kind](rng, 800)).cumsum()
        bounds = [anytime_interval(float(sums[n - 1]), n, 0.1) for n in (10, 50, 200, 800)]
        n_missed += not all(lower <= truth <= upper for lower, upper in bounds)
    assert n_missed <= binom.ppf(1 - 1e-4, 200, 0.1)


@pytest.mark.parametrize("kind", list(ERRORS))
@pytest.mark.parametrize("n", [60, 250])
def test_versions_that_are_alike_are_rarely_told_apart(kind, n) -> None:
    rng = np.random.default_rng(4)
    n_missed = 0
    for _ in range(600):
        truth = rng.normal(0, 5, n)
        answers = [truth + ERRORS[kind](rng, n) for _ in range(2)]
        lower, upper = pair_losses(*answers, truth, is_squared=True, scale=1.0).interval(0.9)
        n_missed += not lower <= 0 <= upper
    assert n_missed <= binom.ppf(1 - 1e-4, 600, 0.1)


def test_a_challenger_that_errs_a_third_less_is_told_on_two_hundred_rows() -> None:
    rng = np.random.default_rng(5)
    seen = []
    for _ in range(200):
        truth = rng.normal(0, 5, 200)
        answers = [truth + rng.normal(0, size, 200) for size in (2.0, 3.0)]
        found = pair_losses(*answers, truth, is_squared=True, scale=1.0)
        seen.append(found.interval(0.9)[0] > -0.01)
    assert np.mean(seen) >= 0.95
