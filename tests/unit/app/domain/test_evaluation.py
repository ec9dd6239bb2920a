"""Two versions on the same rows: what is gained, and how sure that is."""

import math

import numpy as np
import pytest

from app.domain.evaluation import pair_losses, student_quantile, student_tail


def paired(ours, theirs, truth, *, is_squared=True):
    arrays = (np.asarray(one, dtype=float) for one in (ours, theirs, truth))
    return pair_losses(*arrays, is_squared=is_squared, scale=1.0)


@pytest.mark.parametrize(
    ("probability", "degrees", "value"),
    [(0.95, 1, 6.313752), (0.95, 9, 1.833113), (0.975, 30, 2.042272), (0.95, 1e6, 1.644857)],
)
def test_students_quantiles_are_those_of_the_tables(probability, degrees, value):
    assert student_quantile(probability, degrees) == pytest.approx(value, abs=2e-6)
    assert student_tail(value, degrees) == pytest.approx(1 - probability, abs=1e-6)
    assert student_tail(-value, degrees) == pytest.approx(probability, abs=1e-6)


def test_the_gain_of_squared_errors_is_the_difference_of_what_is_explained():
    truth = np.tile([0.0, 1.0, 2.0, 3.0], 10)
    found = paired(truth, np.full(40, 1.5), truth)
    assert found.gain == pytest.approx(1.0)  # R2 of 1 against 0
    assert found.constant == pytest.approx(1.25)
    assert found.interval(0.9)[0] > 0
    assert found.p_value < 0.05


def test_the_gain_of_absolute_errors_is_a_share_of_the_medians():
    truth = np.array([0.0, 0.0, 0.0, 100.0])
    found = paired(np.full(4, 10.0), np.zeros(4), truth, is_squared=False)
    assert found.constant == 25.0
    assert found.gain == pytest.approx((25 - 30) / 25)


def test_versions_that_answer_alike_gain_nothing_surely():
    found = paired([1, 2, 3], [1, 2, 3], [2, 2, 2])
    assert (found.gain, found.interval(0.9), found.p_value) == (0.0, (0.0, 0.0), 1.0)
    assert found.constant == 1.0  # all labels are one number: the scale stands in


def test_one_row_proves_nothing():
    found = paired([1], [5], [1])
    assert found.interval(0.9) == (-math.inf, math.inf)
    assert found.p_value == 1.0
