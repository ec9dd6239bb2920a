"""Confidence becomes a chance of being right."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from app.domain.calibration import calibrated

ROWS = st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=60)


@given(ROWS)
def test_the_steps_are_the_isotonic_fit(rows):
    confidence = np.array([value / 20 for value, _ in rows])
    correct = np.array([right for _, right in rows])
    expected = IsotonicRegression().fit_transform(confidence, correct.astype(float))

    assert calibrated(confidence, correct).chance(confidence) == pytest.approx(expected)


@given(ROWS)
def test_the_mean_over_its_own_rows_is_their_accuracy(rows):
    confidence = np.array([value / 20 for value, _ in rows])
    correct = np.array([right for _, right in rows])
    fitted = calibrated(confidence, correct)

    assert fitted.chance(confidence).mean() == pytest.approx(correct.mean())
    assert fitted.accuracy == pytest.approx(correct.mean())
    assert fitted.n == len(rows)


def test_an_unknown_confidence_gets_the_accuracy_and_a_far_one_the_nearest_step():
    fitted = calibrated(np.array([0.5, 0.9]), np.array([False, True]))

    assert fitted.chance(np.array([np.nan, 0.1, 1.0])).tolist() == [0.5, 0.0, 1.0]
