"""The estimate of accuracy keeps its promises: wrong withdrawals, power, coverage, counted."""

from datetime import UTC, datetime

import numpy as np
import pytest
from scipy.stats import binom

from app.domain.estimation import after_labels, calibrated_on, over_window

pytestmark = pytest.mark.slow
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def rows(rng, n, shift=0.0):
    confidence = rng.uniform(0.5, 1.0, n)
    return confidence, rng.random(n) < confidence - shift


def after(rng, n, *, shift, run_length):
    estimate = calibrated_on(*rows(rng, 2000), reference="r", tolerance=0.02)
    return after_labels(estimate, *rows(rng, n, shift), through=n, run_length=run_length, now=NOW)


@pytest.mark.parametrize("shift", [0.0, 0.02, -0.02])
def test_an_estimate_within_its_tolerance_is_withdrawn_no_sooner_than_promised(shift):
    # E[M_t] <= t within the tolerance, so t labels withdraw with a chance of at most t / N.
    rng, n, run_length, n_streams = np.random.default_rng(1), 300, 3000, 400

    n_withdrawn = sum(
        not after(rng, n, shift=shift, run_length=run_length).stands for _ in range(n_streams)
    )

    assert n_withdrawn <= binom.ppf(1 - 1e-4, n_streams, n / run_length)


def test_a_bias_of_fifteen_points_withdraws_it_within_two_hundred_labels():
    rng = np.random.default_rng(2)

    withdrawn = [not after(rng, 200, shift=0.15, run_length=10_000).stands for _ in range(100)]

    assert np.mean(withdrawn) >= 0.5


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_the_corrected_accuracy_is_covered_nine_times_in_ten(shift):
    rng, covered = np.random.default_rng(3), []
    for _ in range(300):
        estimate = after(rng, 300, shift=shift, run_length=10_000)
        confidence, correct = rows(rng, 1000, shift)
        found = over_window(estimate, confidence, np.full(1000, np.nan), floor=None)
        covered.append(found.accuracy.lower <= correct.mean() <= found.accuracy.upper)

    assert np.mean(covered) >= 0.9


def test_the_estimate_without_labels_is_covered_as_it_says():
    rng, covered = np.random.default_rng(4), []
    for _ in range(400):
        estimate = calibrated_on(*rows(rng, 500), reference="r", tolerance=0.02)
        confidence, correct = rows(rng, 1000)
        found = over_window(estimate, confidence, np.full(1000, np.nan), floor=None)
        covered.append(found.without_labels.lower <= correct.mean() <= found.without_labels.upper)

    assert np.sum(~np.array(covered)) <= binom.ppf(1 - 1e-4, 400, 0.05)
