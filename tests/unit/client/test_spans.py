"""Which parts of a text the tags of its tokens name."""

import numpy as np
import pytest

from upkeep.spans import labels_of_tags, spans_of_tags, tags_of_labels, trimmed

PLACES = np.array([[0, 3], [4, 7], [7, 8], [9, 12]])


def spans(*tags, places=PLACES):
    return [tuple(span) for span in spans_of_tags(tags, places)]


def test_a_span_goes_on_through_its_inside_and_ends_where_the_last_token_does():
    assert spans("B-x", "I-x", "O", "B-y") == [(0, 7, "x"), (9, 12, "y")]
    assert spans("B-x", "B-x", "I-x", "I-x") == [(0, 3, "x"), (4, 12, "x")]


def test_an_inside_that_continues_nothing_begins_a_span():
    assert spans("I-x", "I-x", "O", "I-x") == [(0, 7, "x"), (9, 12, "x")]
    assert spans("B-x", "I-y", "O", "O") == [(0, 3, "x"), (4, 7, "y")]


def test_tokens_without_characters_are_passed_over():
    places = np.array([[0, 0], [0, 3], [3, 3], [4, 7]])
    assert spans("B-x", "B-x", "O", "I-x", places=places) == [(0, 7, "x")]


def test_pieces_of_one_character_are_in_one_span_however_they_are_tagged():
    places = np.array([[0, 1], [0, 1], [0, 1], [1, 2]])
    assert spans("B-x", "B-y", "B-x", "I-x", places=places) == [(0, 2, "x")]


def test_places_lose_the_blanks_around_them():
    text = "a  b\n c"
    places = trimmed(np.array([[0, 0], [0, 1], [1, 4], [4, 6], [5, 7]]), text)
    assert [text[start:end] for start, end in places.tolist()] == ["", "a", "b", "", "c"]
    assert trimmed(np.zeros((0, 2)), text).shape == (0, 2)


def test_tags_and_labels_stand_for_each_other_in_any_order_of_the_tags():
    assert tags_of_labels(["x", "a b"]) == ("O", "B-x", "I-x", "B-a b", "I-a b")
    assert labels_of_tags(("I-y", "B-x", "O", "B-y", "I-x")) == ("y", "x")
    assert labels_of_tags(("O",)) == ()


@pytest.mark.parametrize(
    "tags", [("O", "B-x"), ("B-x", "I-x"), ("O", "x"), ("O", "B-x", "I-x", "E-x"), ()]
)
def test_outputs_of_another_scheme_are_refused(tags):
    with pytest.raises(ValueError, match="spans are told by O, and B-x and I-x"):
        labels_of_tags(tags)
