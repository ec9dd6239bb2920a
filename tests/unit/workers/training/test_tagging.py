"""Spans become tags of tokens, and what does not fit the tokens is counted."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.domain.spans import Reading, Span
from upkeep.spans import spans_of_tags, tags_of_labels
from workers.training.tagging import Fit, tags_of_spans
from workers.training.targets import IGNORED

TAGS = tags_of_labels(["x", "y"])
OUTPUTS = {tag: place for place, tag in enumerate(TAGS)}
PLACES = np.array([[0, 0], [0, 3], [4, 7], [7, 8], [9, 12], [0, 0]])  # as between [CLS] and [SEP]


@st.composite
def texts(draw: st.DrawFn) -> tuple[np.ndarray, Reading]:
    """Draw places of tokens in order, and spans that begin and end where tokens do."""
    edges = np.cumsum(draw(st.lists(st.integers(1, 3), min_size=2, max_size=16)))
    places = edges[: len(edges) // 2 * 2].reshape(-1, 2)
    cuts = sorted(draw(st.sets(st.integers(0, len(places)), max_size=6)))
    spans = [
        Span(int(places[a, 0]), int(places[b - 1, 1]), draw(st.sampled_from("xy")))
        for a, b in zip(cuts[::2], cuts[1::2], strict=False)
    ]
    return places, tuple(spans)


@given(texts())
def test_spans_that_end_where_tokens_do_are_read_back_from_their_tags(
    text: tuple[np.ndarray, Reading],
) -> None:
    places, spans = text
    fit = Fit()
    tags = tags_of_spans(spans, places, OUTPUTS, fit)
    read = spans_of_tags([TAGS[tag] for tag in tags], places)
    assert tuple(map(tuple, read)) == tuple(map(tuple, spans))
    assert (fit.n_spans, fit.n_beyond, fit.n_inexact) == (len(spans), 0, 0)


def test_tokens_without_characters_have_no_tag_to_learn() -> None:
    tags = tags_of_spans([Span(0, 8, "x")], PLACES, OUTPUTS, Fit())
    assert tags.tolist() == [IGNORED, 1, 2, 2, 0, IGNORED]


def test_spans_beyond_the_tokens_and_within_one_are_counted() -> None:
    fit = Fit()
    spans = [Span(1, 3, "x"), Span(4, 8, "y"), Span(9, 20, "x"), Span(30, 40, "y")]
    tags = tags_of_spans(spans, PLACES, OUTPUTS, fit)
    assert tags.tolist() == [IGNORED, 1, 3, 4, 1, IGNORED]
    assert (fit.n_spans, fit.n_beyond, fit.n_inexact) == (4, 1, 2)
