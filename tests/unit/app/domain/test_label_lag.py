"""How long labels take, on rows so few that one can count along."""

import numpy as np
import pytest

from app.domain.label_lag import (
    LabelLag,
    coverage_in_words,
    kaplan_meier,
    lag_in_words,
    lasting,
    measure_lag,
)

MISSING = float("nan")


def lag_of(*rows):
    ages, lags = np.array(rows, dtype=float).reshape(-1, 2).T
    return measure_lag(ages, lags)


def test_a_row_that_waits_counts_until_it_is_as_old_as_it_is():
    # The worked example of the estimate: deaths at 1, 3, 4 and losses at 2, 5.
    times, share = kaplan_meier(np.array([1.0, 2, 3, 4, 5]), np.array([1, 0, 1, 1, 0], dtype=bool))

    assert times.tolist() == [1, 2, 3, 4, 5]
    assert share == pytest.approx([1 / 5, 1 / 5, 1 - 4 / 5 * 2 / 3, 1 - 4 / 15, 1 - 4 / 15])


def test_without_rows_or_labels_nothing_is_known():
    assert lag_of() == LabelLag(0, 0)
    assert lag_of((5, MISSING), (9, MISSING)) == LabelLag(2, 0)


def test_where_every_row_has_its_label_the_quantiles_are_those_of_the_rows():
    lag = lag_of(*((1000, second) for second in range(1, 101)))

    assert (lag.p50_seconds, lag.p95_seconds) == (50, 95)
    assert (lag.n_due, lag.n_due_labelled, lag.coverage) == (100, 100, 1.0)


def test_labels_that_never_come_lower_the_coverage_and_not_the_lag():
    lag = lag_of(*((1000, second) for second in range(1, 61)), *[(1000, MISSING)] * 40)

    assert lag.is_settled
    assert (lag.p50_seconds, lag.p95_seconds) == (30, 57)
    assert (lag.n_due, lag.coverage) == (100, 0.6)
    assert lag.coverage_lower < 0.6 < lag.coverage_upper


def test_rows_too_young_for_a_label_do_not_lower_the_coverage():
    labelled = [(1000, second) for second in range(1, 61)]

    lag = lag_of(*labelled, *[(2, MISSING)] * 500)

    assert (lag.n_due, lag.coverage) == (60, 1.0)


def test_a_label_from_before_its_observation_took_no_time():
    assert lag_of((60, -5)).p50_seconds == 0


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.5, "0.5 s"), (90, "1.5 min"), (9000, "2.5 h"), (273_000, "3.16 d")]
)
def test_a_duration_is_told_in_the_unit_that_fits(seconds, words):
    assert lasting(seconds) == words


def test_the_words_say_as_much_as_is_known():
    known = lag_of(*((1000, second) for second in range(1, 101)))

    assert lag_in_words(known) == "half of the labels come within 50 s, 95 % within 1.58 min"
    assert coverage_in_words(known) == "100 of 100 answers old enough have a label"
    assert "not known yet" in lag_in_words(None)
    assert "not known yet" in coverage_in_words(LabelLag(5, 0))
