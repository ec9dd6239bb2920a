"""What a label is, and how right an answer: of classes, of numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.answers import (
    LARGEST,
    MOST_CHARACTERS,
    Classes,
    Number,
    Text,
    answer_of,
    scale_of,
    strata_of,
)
from app.domain.errors import Fault
from app.domain.holdout import held_out

CLASSES = Classes(("a", "b"))
RENT = Number("EUR", minimum=0.0, maximum=5000.0, scale=200.0)
FINITE = st.floats(-LARGEST, LARGEST)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("700", "must be a number, not str"),
        (True, "must be a number, not bool"),
        (None, "must be a number, not NoneType"),
        ([7], "must be a number, not list"),
        (math.nan, "must be a finite number of single precision"),
        (-math.inf, "must be a finite number of single precision"),
        (10**400, "must be a finite number of single precision"),
        (1e39, "must be a finite number of single precision"),
        (-0.01, "must be at least 0"),
        (5001, "must be at most 5000"),
    ],
)
def test_a_label_that_is_no_number_within_bounds_is_a_fault(value, said):
    assert RENT.fault(value, is_label=True) == Fault("", said)


def test_a_prediction_beyond_the_bounds_is_an_error_and_no_fault():
    assert RENT.fault(-20.5, is_label=False) is None
    assert RENT.fault(700, is_label=True) is None


@given(FINITE)
def test_a_number_is_kept_as_a_text_that_reads_back_as_itself(number):
    kept = RENT.stored(number)
    assert RENT.shown(kept) == number
    assert kept == RENT.stored(RENT.shown(kept))


def test_equal_numbers_have_one_text():
    assert RENT.stored(7) == RENT.stored(7.0)
    assert RENT.stored(-0.0) == RENT.stored(0)


@given(st.lists(st.tuples(FINITE, FINITE), min_size=1))
def test_closeness_is_a_share_and_1_for_the_right_answer_alone(pairs):
    said, labels = ([repr(one) for one in side] for side in zip(*pairs, strict=True))
    scores = RENT.scores(said, labels)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (RENT.scores(labels, labels) == 1).all()


def test_an_error_as_large_as_the_scale_is_entirely_wrong():
    assert RENT.scores(["700", "700", "700"], ["700", "800", "950"]).tolist() == [1.0, 0.5, 0.0]
    errors = RENT.errors(["700", "700"], ["700", "800"])
    assert errors == {"rmse": pytest.approx(math.sqrt(5000)), "mae": 50.0, "bias": -50.0}


def test_a_class_is_right_or_wrong():
    assert CLASSES.scores(["a", "b"], ["a", "a"]).tolist() == [1.0, 0.0]
    found = CLASSES.fault("c", is_label=True)
    assert found == Fault("", "must be one of the model's labels: a, b")
    assert CLASSES.document() is None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", None),
        ("x" * MOST_CHARACTERS, None),
        ("x" * (MOST_CHARACTERS + 1), "at most 20,000 characters, not 20,001"),
        (7, "must be a text, not int"),
        ("a\x00b", "neither the NUL character"),  # which no text of Postgres holds
        ("half \ud83d", "nor half a surrogate pair"),
    ],
)
def test_a_text_is_one_that_can_be_kept(value, said):
    found = Text().fault(value, is_label=True)
    assert (found is None) == (said is None)
    assert said is None or said in found.detail


@pytest.mark.parametrize("answer", [CLASSES, RENT, Number(), Text()])
def test_an_answer_is_read_back_from_what_is_kept(answer):
    assert answer_of(answer.labels, answer.document()) == answer


def test_errors_are_minimized_and_what_is_explained_is_maximized():
    directions = {name: RENT.direction_of(name) for name in ("rmse", "mae", "r2")}
    assert directions == {"rmse": "minimize", "mae": "minimize", "r2": "maximize"}
    assert CLASSES.direction_of("accuracy") == "maximize"


def test_the_scale_is_the_range_of_the_middle_half_and_hardly_moved_by_what_is_far_out():
    labels = np.linspace(0, 100, 101)
    assert scale_of(labels) == 50.0
    assert scale_of(np.append(labels, 1e9)) < 52
    assert scale_of(np.array([0.0] * 9 + [10.0])) == pytest.approx(3.0)
    assert scale_of(np.array([5.0, 5.0])) is None
    assert scale_of(np.empty(0)) is None


def test_held_out_numbers_are_of_every_quarter_of_them_whatever_their_order():
    labels = np.arange(400.0)
    for order in (labels, labels[::-1], np.random.default_rng(0).permutation(labels)):
        mask = held_out(strata_of(order), share=0.25)
        assert mask.mean() == pytest.approx(0.25, abs=0.02)
        quarters = np.digitize(order[mask], [100, 200, 300])
        assert np.bincount(quarters, minlength=4).min() >= 15
