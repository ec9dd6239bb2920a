"""How good spans are, and what whoever knows words alone finds."""

import numpy as np
import pytest

from app.domain.spans import Reading, Span
from workers.training.span_metrics import KnownWords, of_answers, summarise
from workers.training.task_type import Tagged

PRICE, DATE, LATER = Span(0, 5, "price"), Span(9, 12, "date"), Span(10, 12, "date")


def tagged(spans: Reading, **of_tokens: float) -> Tagged:
    return Tagged(spans, 0.9, np.zeros(2, dtype=np.float32), **of_tokens)  # type: ignore[arg-type]  # counts and a loss


def test_exact_spans_alone_count_and_averages_are_what_their_names_say() -> None:
    true: list[Reading] = [(PRICE, DATE), (DATE,), ()]
    said: list[Reading] = [(PRICE, LATER), (DATE,), ()]
    found = of_answers(said, true, ["price", "date", "name"])
    assert (found["n"], found["n_spans"]) == (3, 3)
    assert found["precision_micro"] == found["recall_micro"] == pytest.approx(2 / 3)
    assert found["f1_micro"] == pytest.approx(2 / 3)
    assert found["f1_macro"] == pytest.approx((1 + 0.5) / 2)  # no row has a name
    assert found["f1_samples"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert found["exact_match"] == pytest.approx(2 / 3)
    assert found["by_class"]["date"] == {"n": 2, "precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert found["by_class"]["name"] == {"n": 0, "precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_tokens_of_all_rows_together_have_an_accuracy_and_a_loss() -> None:
    said = [tagged((), n_tokens=3, n_right=3, loss=0.3), tagged((), n_tokens=1, n_right=0, loss=2)]
    found = summarise(said, [(), ()], ["price"])
    assert (found["token_accuracy"], found["log_loss"]) == (0.75, pytest.approx(2.3 / 4))


def test_what_no_row_tells_is_left_open() -> None:
    found = summarise([], [], ["price"])
    assert found["n"] == 0
    assert all(found[name] is None for name in ("f1_samples", "exact_match", "log_loss"))
    assert found["f1_macro"] is None


def test_known_words_keep_the_label_they_mostly_had_and_neighbours_join() -> None:
    texts = ["Pay 9 EUR to Ada", "9 EUR by May", "may Ada pay?"]
    readings: list[Reading] = [
        (Span(4, 9, "price"), Span(13, 16, "name")),
        (Span(0, 5, "price"), Span(9, 12, "date")),
        (Span(4, 7, "name"),),
    ]
    known = KnownWords(texts, readings)
    assert known.read("ADA pays 9 eur, 7 EUR") == (
        Span(0, 3, "name"),
        Span(9, 14, "price"),
        Span(18, 21, "price"),  # nobody has seen a 7
    )
    assert known.read("may") == ()  # as often no date, and nothing comes first in the alphabet
    assert known.read("") == ()
