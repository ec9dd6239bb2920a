"""Label lag against known truth: rows that still wait must not make labels look quick."""

import numpy as np
import pytest

from app.domain.label_lag import measure_lag

pytestmark = pytest.mark.slow

N, N_TRIES = 1500, 150
P50, P95 = 3600 * np.log(2), 3600 * np.log(20)  # of exponential lags with a mean of an hour


def rows(rng, *, followed_hours, share, n=N):
    """Rows that arrived evenly over some hours; labels take an hour on average, if they come."""
    ages = rng.uniform(0, 3600 * followed_hours, n)
    lags = rng.exponential(3600, n)
    has_come = (lags <= ages) & (rng.random(n) < share)
    return ages, np.where(has_come, lags, np.nan)


def tries(seed, **truth):
    rng = np.random.default_rng(seed)
    return [rows(rng, **truth) for _ in range(N_TRIES)]


@pytest.mark.parametrize("share", [1.0, 0.7, 0.2])
def test_quantiles_of_the_labels_that_come_are_right_whatever_share_comes(share):
    found = [measure_lag(*some) for some in tries(1, followed_hours=24, share=share)]

    assert all(lag.is_settled for lag in found)
    assert np.mean([lag.p50_seconds for lag in found]) == pytest.approx(P50, rel=0.03)
    assert np.mean([lag.p95_seconds for lag in found]) == pytest.approx(P95, rel=0.05)


def test_where_most_rows_still_wait_the_naive_median_is_far_off_and_this_is_not():
    seen = tries(2, followed_hours=1.5, share=1.0)
    found = [measure_lag(*some).p50_seconds for some in seen]

    naive = [np.nanmedian(lags) for _, lags in seen]

    assert np.mean(naive) < 0.7 * P50
    assert np.mean(found) == pytest.approx(P50, rel=0.03)


@pytest.mark.parametrize("followed_hours", [0.25, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_what_was_not_followed_for_long_enough_is_not_called_settled(followed_hours, share):
    found = [measure_lag(*some) for some in tries(3, followed_hours=followed_hours, share=share)]

    assert not any(lag.is_settled for lag in found)


@pytest.mark.parametrize("share", [0.9, 0.3])
def test_coverage_lies_in_its_interval_as_often_as_claimed(share):
    found = [measure_lag(*some) for some in tries(4, followed_hours=48, share=share)]

    # of the rows that old a twentieth of a twentieth of the labels is still to come, at the most
    held = [lag.coverage_lower <= share * 0.998 <= lag.coverage_upper for lag in found]

    assert np.mean(held) >= 0.9
    assert np.mean([lag.coverage for lag in found]) == pytest.approx(share, abs=0.01)
