"""Metrics against values worked out by hand."""

import numpy as np
import pytest

from workers.training.metrics import (
    auc_macro,
    binary_auc,
    by_class,
    class_indices,
    expected_calibration_error,
    log_loss,
    summarise,
)

TRUTH = np.asarray([0, 0, 1, 1])
SCORES = np.asarray([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])


def test_a_summary_agrees_with_a_hand_count() -> None:
    summary = summarise(TRUTH, SCORES, ["a", "b"])
    assert summary["accuracy"] == 0.75
    assert summary["f1_macro"] == pytest.approx((2 / 3 + 0.8) / 2)
    assert summary["precision_macro"] == pytest.approx((1 + 2 / 3) / 2)
    assert summary["recall_macro"] == pytest.approx(0.75)
    assert summary["auc_macro"] == 1.0


def test_each_class_has_its_own_count() -> None:
    rows = by_class(TRUTH, SCORES, ["a", "b"])
    assert rows["a"] == {"n": 2, "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3)}


def test_ties_count_half_in_the_auc() -> None:
    assert binary_auc(np.asarray([True, False]), np.asarray([0.5, 0.5])) == 0.5


def test_the_auc_of_one_class_alone_is_unknown() -> None:
    assert np.isnan(auc_macro(np.asarray([0, 0]), SCORES[:2]))
    assert summarise(np.asarray([0, 0]), SCORES[:2], ["a", "b"])["auc_macro"] is None


def test_a_summary_of_no_rows_knows_nothing() -> None:
    summary = summarise(np.zeros(0, dtype=np.int64), np.zeros((0, 2)), ["a", "b"])
    assert summary["n"] == 0
    assert summary["accuracy"] is None


def test_log_loss_of_a_sure_error_is_finite() -> None:
    assert np.isfinite(log_loss(np.asarray([1]), np.asarray([[1.0, 0.0]])))


def test_scores_as_sure_as_they_are_right_are_calibrated() -> None:
    truth = np.asarray([0] * 3 + [1])
    scores = np.tile([0.75, 0.25], (4, 1))
    assert expected_calibration_error(truth, scores) == pytest.approx(0)


def test_a_label_outside_the_names_is_an_error() -> None:
    with pytest.raises(KeyError):
        class_indices(["z"], ["a"])
