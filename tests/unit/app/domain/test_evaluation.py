"""Two versions on the same rows: what is gained, and how sure that is."""

import math

import numpy as np
import pytest

from app.domain.evaluation import (
    count_pairs,
    gain_interval,
    pair_losses,
    pair_scores,
    student_quantile,
    student_tail,
)


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


def scored(ours, theirs, nothing=0.0):
    ours, theirs = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    return pair_scores(ours, theirs, np.full(len(ours), nothing), score="f1_samples")


def test_scores_of_0_and_1_have_the_interval_of_accuracies():
    draw = np.random.default_rng(0)
    ours, theirs = draw.random(60) < 0.9, draw.random(60) < 0.7
    found = scored(ours, theirs)
    assert found.interval(0.9) == pytest.approx(
        gain_interval(count_pairs(ours, theirs), confidence=0.9)
    )
    assert found.gain == pytest.approx(ours.mean() - theirs.mean())
    assert found.p_value < 0.05


def test_two_versions_that_agree_on_few_rows_are_not_shown_to_be_alike():
    low, high = scored([1.0] * 5, [1.0] * 5).interval(0.9)
    assert low == -high < -0.1
    assert scored([1.0] * 5, [1.0] * 5).p_value == 1.0
    assert scored([1.0], [0.0]).p_value == 1.0


def test_who_does_no_better_than_saying_nothing_is_idle_unless_nothing_is_all_there_is_to_say():
    assert scored([0.8, 0.8], [0.1, 0.1], nothing=0.8).is_idle(0.01)
    assert not scored([0.9, 0.9], [0.1, 0.1], nothing=0.8).is_idle(0.01)
    assert not scored([1.0, 1.0], [1.0, 1.0], nothing=1.0).is_idle(0.01)
    assert scored([1.0, 0.0], [1.0, 1.0], nothing=1.0).is_idle(0.01)
