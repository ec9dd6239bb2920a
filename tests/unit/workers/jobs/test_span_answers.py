"""Versions that answer with spans: compared row by row, their answers watched."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

import workers.task_types
from app.domain.answers import Spans
from app.domain.models import MaintainedModel, Objective
from app.domain.observations import InputContract, Observation
from app.domain.registry import scan
from app.domain.spans import Reading, Span, written
from app.domain.versions import ModelVersion
from app.services.batches import Columns as StoredRows
from app.services.evaluation import ToJudge
from app.services.ports import Example
from workers.jobs import span_answers
from workers.jobs.kinds import kind_of
from workers.jobs.span_answers import SpanAnswers
from workers.training.task_type import Tagged

scan(workers.task_types)
NOW = datetime(2026, 11, 29, tzinfo=UTC)
KIND = SpanAnswers()
NO_FEATURES = np.zeros(2, dtype=np.float32)


def model(metric: str = "f1_micro") -> MaintainedModel:
    return MaintainedModel(
        cast("Any", None), cast("Any", None), "m", "token-classification", "b", ("price", "date"),
        InputContract(()), Objective(metric, slices=("side",)), 1, {}, False, NOW,
        answers_with=Spans(("price", "date"), about="clause"),
    )  # fmt: skip


class Finds:
    """Finds the first characters of a text, as many as it is told."""

    labels = ("price", "date")

    def __init__(self, n_characters: int) -> None:
        self.n_characters = n_characters

    def tagged(self, inputs: Any, true: Any = None) -> list[Tagged]:
        found: Reading = (Span(0, self.n_characters, "price"),)
        return [
            Tagged(found if row["clause"] else (), 0.75, NO_FEATURES, 4, 3, 0.5) for row in inputs
        ]


ROWS = [
    Example(
        str(n),
        {"clause": "9 EUR by May", "side": "left" if n < 4 else "right"},
        written([Span(0, 5, "price")]),
    )
    for n in range(6)
] + [Example("none", {"clause": "", "side": "right"}, "[]")]
OURS, THEIRS = (cast("ModelVersion", SimpleNamespace(n_characters=n)) for n in (5, 4))


@pytest.fixture(autouse=True)
def versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(span_answers, "loaded", lambda _, version: Finds(version.n_characters))


def test_a_model_of_the_task_type_is_of_this_kind() -> None:
    assert isinstance(kind_of(model()), SpanAnswers)


def test_versions_are_compared_by_the_f1_of_each_row() -> None:
    found = KIND.compared("window", ROWS, model(), OURS, THEIRS)
    assert found.pairs is not None
    assert found.champion is not None
    assert found.pairs.gain == pytest.approx(6 / 7)
    assert found.pairs.in_words() == (
        "mean f1_samples 1.000 against the champion's 0.143 (0.143 of saying nothing)"
    )
    assert (found.challenger["f1_micro"], found.champion["f1_micro"]) == (1.0, 0.0)
    assert found.challenger["token_accuracy"] == 0.75
    assert found.challenger["log_loss"] == 0.125
    assert found.by_class == {"price": {"n": 6, "challenger": 1.0, "champion": 0.0}}
    assert found.by_slice["side=right"]["champion"] == pytest.approx(1 / 3)
    assert not found.pairs.is_idle(0.01)


def test_a_challenger_that_finds_nothing_is_idle() -> None:
    found = KIND.compared("window", ROWS, model(), THEIRS, OURS)
    assert found.pairs is not None
    assert found.pairs.is_idle(0.01)


def test_without_a_champion_there_is_nothing_to_compare() -> None:
    found = KIND.compared("holdout", ROWS, model(), OURS, None)
    assert (found.pairs, found.champion) == (None, None)


def test_the_baseline_marks_known_words_and_has_no_log_loss() -> None:
    train = [Example("t", {"clause": "9 EUR"}, written([Span(0, 5, "price")]))]
    snapshot = SimpleNamespace(train=train)

    def found(metric: str) -> ToJudge:
        return cast("ToJudge", SimpleNamespace(model=model(metric), snapshot=snapshot))

    assert KIND.baseline(found("f1_micro"), ROWS) == 1.0
    assert KIND.baseline(found("log_loss"), ROWS) is None


def test_a_version_of_other_labels_does_not_fit() -> None:
    assert KIND.misfit(model(), Finds(3)) is None
    other = cast("Any", SimpleNamespace(labels=("price",)))
    assert "its spans have the labels price" in str(KIND.misfit(model(), other))


def test_answers_are_watched_by_how_many_and_what_they_mark_and_how_sure_they_are() -> None:
    version = Finds(3)
    reference = KIND.of_reference(model(), version, [{"clause": "9 EUR"}, {"clause": ""}])
    assert reference["numeric"]["n_spans"].tolist() == [1, 0]
    assert reference["numeric"]["span_share"].tolist() == [0.6, 0.0]
    assert reference["numeric"]["confidence"].tolist() == [0.75, 0.75]
    assert reference["categorical"]["main_label"].tolist() == ["price", "none"]
    said = written([Span(0, 1, "date"), Span(2, 3, "date"), Span(4, 5, "price")])
    rows = [
        Observation(str(n), NOW, {"clause": "9 EUR"}, text) for n, text in enumerate([said, None])
    ]
    seen = KIND.of_rows(model(), rows, KIND.asked(version, rows), ())
    assert seen["numeric"]["n_spans"][0] == 3
    assert np.isnan(seen["numeric"]["n_spans"][1])
    assert np.isnan(seen["numeric"]["span_share"][1])
    assert seen["categorical"]["main_label"].tolist() == ["date", None]
    assert seen["embedding"]["embedding"].shape == (2, 2)


def test_stored_answers_have_the_same_signals_and_confidence_where_sampled() -> None:
    texts = {"clause": np.array(["9 EUR", None], dtype=object)}
    said = np.array([written([Span(0, 5, "price")]), "[]"], dtype=object)
    stored = StoredRows(np.arange(2), np.arange(2), 1, said, texts, {})
    sample: Any = {"numeric": {"confidence": np.array([0.5])}}
    columns, unread = KIND.of_stored(model(), stored, np.array([-1, 0]), sample)
    assert columns["numeric"]["span_share"].tolist() == [1.0, 0.0]
    assert columns["numeric"]["confidence"][1] == 0.5
    assert unread.tolist() == [True, False]


def test_the_champion_is_asked_how_right_it_is_about_its_reference() -> None:
    scores = KIND.scores_of_reference(model(), THEIRS, {}, ROWS)
    assert scores.tolist() == [0.0] * 6 + [1.0]
