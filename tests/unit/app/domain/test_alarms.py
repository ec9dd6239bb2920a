"""The measured rate of false alarms is stated with what it counts and how sure it is."""

import pytest

from app.domain.alarms import AlarmRecord, poisson_interval


@pytest.mark.parametrize(  # Garwood (1936), as in any table of it
    ("count", "lower", "upper"), [(0, 0.0, 3.689), (1, 0.0253, 5.572), (10, 4.795, 18.39)]
)
def test_the_interval_of_a_count_is_the_exact_one(count, lower, upper):
    assert poisson_interval(count) == pytest.approx((lower, upper), rel=1e-3, abs=1e-9)


def test_alarms_are_counted_for_as_many_rows_as_one_is_promised_for():
    record = AlarmRecord(
        n_rows=40_000, n_alarms=5, n_confirmed=2, n_refuted=2, promised_rows=10_000.0
    )

    assert (record.n_unjudged, record.n_unconfirmed) == (1, 3)
    rate, lower, upper = record.rate(record.n_refuted)
    assert rate == 0.5
    assert lower < 0.5 < upper


def test_before_any_row_there_is_no_rate():
    assert AlarmRecord(0, 0, 0, 0, 10_000.0).rate(0) is None
