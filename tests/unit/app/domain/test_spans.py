"""What spans of a text are, and how well two readings of it agree."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.answers import Spans, answer_of
from app.domain.errors import Fault
from app.domain.spans import Span, added_up, matched, rarest_label

DEAL = Spans(("price", "date"), about="clause")
TEXT = "9 EUR by May"


def span(start, end, label="price"):
    return {"start": start, "end": end, "label": label}


@st.composite
def readings(draw):
    """Draw spans without overlaps, in any order."""
    edges = sorted(draw(st.sets(st.integers(0, 40), max_size=12)))
    pairs = zip(edges[::2], edges[1::2], strict=False)
    return draw(st.permutations([span(a, b, draw(st.sampled_from(DEAL.labels))) for a, b in pairs]))


@pytest.mark.parametrize(
    ("value", "pointer", "said"),
    [
        ("price", "", "must be a list of spans, not str"),
        ({"start": 0}, "", "must be a list of spans, not dict"),
        (["price"], "/0", "must be an object with start, end and label, and nothing else"),
        ([{**span(0, 5), "score": 1}], "/0", "must be an object with start, end and label, and"),
        ([span(0, 5), {"start": 9, "end": 12}], "/1", "must be an object with start, end and"),
        ([span(0.0, 5)], "/0/start", "must be a whole number of characters"),
        ([span(0, True)], "/0/end", "must be a whole number of characters"),
        ([span(-1, 5)], "/0/start", "must be at least 0"),
        ([span(5, 5)], "/0/end", "must be beyond the start, 5"),
        ([span(9, 13)], "/0/end", "must be at most 12, the length of the text"),
        ([span(0, 5, "name")], "/0/label", "must be one of the model's labels: date, price"),
        ([span(9, 12), span(0, 5), span(4, 6)], "/2", "must not overlap span 1"),
        ([span(0, 1)] * 10_001, "", "must hold at most 10000 spans, not 10001"),
    ],
)
def test_a_fault_of_spans_says_where_it_is_and_what_would_work(value, pointer, said):
    found = DEAL.fault(value, is_label=True, text=TEXT)
    assert found.pointer == pointer
    assert found.detail.startswith(said)


def test_characters_are_code_points_and_the_end_is_not_in_the_span():
    assert DEAL.fault([span(0, 2)], is_label=True, text="😀é") is None
    assert DEAL.fault([span(0, 3)], is_label=True, text="😀é") is not None
    assert DEAL.fault([span(0, 5), span(5, 9)], is_label=False, text=TEXT) is None
    assert DEAL.fault([span(0, 500)], is_label=True) is None  # no text to hold it against


@given(readings())
def test_equal_spans_have_one_text_that_reads_back_as_they_are(value):
    kept = DEAL.stored(value)
    assert DEAL.fault(value, is_label=True) is None
    assert kept == DEAL.stored(list(reversed(value))) == DEAL.stored(json.loads(kept))
    assert DEAL.shown(kept) == sorted(value, key=lambda one: one["start"])


@given(readings(), readings())
def test_the_score_of_a_row_is_a_share_and_1_for_exactly_the_true_spans(said, true):
    said, true = DEAL.stored(said), DEAL.stored(true)
    (score,) = DEAL.scores([said], [true])
    assert 0 <= score <= 1
    assert (score == 1) == (said == true)
    assert DEAL.scores([true], [said]) == score


def test_the_score_is_f1_and_the_rows_together_have_micro_averages():
    true = DEAL.stored([span(0, 5), span(9, 12, "date")])
    said = DEAL.stored([span(0, 5), span(9, 11, "date"), span(6, 8)])
    nothing = DEAL.stored([])
    assert DEAL.scores([said, nothing], [true, nothing]).tolist() == [pytest.approx(0.4), 1.0]
    assert DEAL.errors([said, nothing], [true, nothing]) == {
        "precision_micro": pytest.approx(1 / 3),
        "recall_micro": pytest.approx(1 / 2),
        "f1_micro": pytest.approx(0.4),
        "exact_match": 0.5,
    }


def test_a_span_of_another_label_is_both_missed_and_wrong():
    found = matched([Span(0, 5, "date")], [Span(0, 5, "price")])
    assert (found.found, found.predicted, found.true) == (0, 1, 1)
    assert added_up([]).f1 == 1.0


def test_a_row_belongs_to_the_rarest_of_its_labels_so_that_held_out_rows_have_all():
    often = (Span(0, 1, "price"),)
    assert rarest_label([often, often, (*often, Span(2, 3, "date")), ()]) == [
        "price",
        "price",
        "date",
        "",
    ]


def test_spans_are_read_back_from_what_is_kept_and_faults_hold_no_label_of_others():
    assert answer_of(DEAL.labels, DEAL.document()) == DEAL
    assert DEAL.direction_of("log_loss") == "minimize"
    assert DEAL.direction_of("f1_micro") == "maximize"
    assert DEAL.fault([span(0, 1, "\x00")], is_label=True) == Fault(
        "/0/label", "must be one of the model's labels: date, price"
    )
