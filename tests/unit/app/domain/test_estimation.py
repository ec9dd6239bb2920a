"""Accuracy with few labels: what is said, from what, and when it is taken back."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from app.domain.estimation import EstimateState, after_labels, calibrated_on, over_window
from app.services.documents import document
from app.services.performance import read_estimate, shown_estimate

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
UNKNOWN = np.full(400, np.nan)


def rows(n, seed, *, shift=0.0):
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.5, 1.0, n)
    return confidence, rng.random(n) < confidence - shift


def fresh(n=2000):
    return calibrated_on(*rows(n, 1), reference="r", tolerance=0.02)


def after(estimate, n, *, shift, seed=2, now=NOW):
    return after_labels(estimate, *rows(n, seed, shift=shift), through=n, run_length=1000, now=now)


def test_the_estimate_without_labels_is_the_mean_calibrated_confidence():
    confidence, _ = rows(400, 3)

    found = over_window(fresh(), confidence, UNKNOWN, floor=None)

    assert found.without_labels.value == pytest.approx(confidence.mean(), abs=0.03)
    assert found.without_labels.lower < found.without_labels.value < found.without_labels.upper
    assert (found.without_labels.n_rows, found.accuracy.n_labels) == (400, 0)


def test_too_few_reference_rows_give_no_estimate_and_say_how_many_are_needed():
    estimate = calibrated_on(*rows(49, 1), reference="r", tolerance=0.02)
    found = over_window(after(estimate, 100, shift=0.3), rows(400, 3)[0], UNKNOWN, floor=0.5)

    assert found.state is EstimateState.INSUFFICIENT
    assert "49 labelled reference rows of the 50" in found.reason
    assert (found.without_labels, found.accuracy, found.through) == (None, None, 100)


@pytest.mark.parametrize(("shift", "side"), [(0.2, "less"), (-0.25, "more")])
def test_labels_that_contradict_it_withdraw_it_from_either_side(shift, side):
    found = after(fresh(), 400, shift=shift)

    assert (found.state, found.since) == (EstimateState.WITHDRAWN, NOW)
    assert f"right {side} often" in found.reason
    assert over_window(found, rows(400, 3)[0], UNKNOWN, floor=None).without_labels is None


def test_a_withdrawn_estimate_stays_withdrawn_whatever_comes():
    withdrawn = after(fresh(), 400, shift=0.2)

    found = after(withdrawn, 3000, shift=0.0, seed=5, now=NOW + timedelta(days=1))

    assert (found.state, found.since) == (EstimateState.WITHDRAWN, NOW)
    assert found.n_labels == 3400


def test_labels_that_agree_leave_it_standing():
    found = after(fresh(), 2000, shift=0.0)

    assert found.stands
    assert found.n_labels == 2000


def test_labels_of_other_rows_correct_what_is_said_of_these():
    before = over_window(fresh(), rows(400, 3)[0], UNKNOWN, floor=0.7)
    found = over_window(after(fresh(), 400, shift=0.2), rows(400, 3)[0], UNKNOWN, floor=0.7)

    assert before.harm < 0.05
    assert found.harm > 0.95
    assert found.accuracy.value == pytest.approx(before.accuracy.value - 0.2, abs=0.05)


def test_where_every_row_is_labelled_the_labels_alone_count():
    confidence, correct = rows(400, 4, shift=0.3)

    found = over_window(fresh(), confidence, correct.astype(float), floor=None)

    assert found.accuracy.value == pytest.approx(correct.mean())


def test_labels_on_every_row_are_a_sample_all_the_same():
    confidence, correct = rows(400, 4, shift=0.3)
    error = (correct.mean() * (1 - correct.mean()) / 400) ** 0.5

    found = over_window(fresh(), confidence, correct.astype(float), floor=correct.mean())

    width = found.accuracy.upper - found.accuracy.lower
    assert width == pytest.approx(2 * 1.96 * error, rel=0.02)
    assert found.harm == pytest.approx(0.5, abs=0.01)


def test_an_estimate_survives_its_report_and_a_reader_sees_no_machinery():
    found = over_window(after(fresh(), 400, shift=0.2), rows(400, 3)[0], UNKNOWN, floor=0.7)

    kept = document(found)

    assert document(read_estimate(kept)) == kept
    shown = shown_estimate(kept)
    assert (shown["n_calibration"], shown["state"]) == (2000, "withdrawn")
    assert not {"wealth", "bias", "calibration"} & set(shown)
