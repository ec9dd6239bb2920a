"""Versions that answer with spans: judged by those that are exact, watched by how many and what.

The signals of an answer: how many spans it has (`n_spans`), the share of the text's characters in
them (`span_share`), the label that most of them have (`main_label`), and how sure the version is of
its tokens (`confidence`, the mean of each one's likeliest tag).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.domain import spans
from app.domain.evaluation import Comparison, pair_scores
from app.domain.models import MaintainedModel
from app.domain.observations import Observation
from app.domain.spans import Reading, matched
from app.domain.versions import ModelVersion
from app.services.batches import Columns as StoredRows
from app.services.evaluation import ToJudge
from app.services.ports import Example
from workers.jobs.answering import (
    Answered,
    add_asked,
    add_sampled_confidence,
    embedding_of,
    misfit_of_labels,
    slices_of_rows,
)
from workers.jobs.champions import loaded
from workers.jobs.fields import Columns, Inputs
from workers.training.span_metrics import KnownWords, of_answers, summarise
from workers.training.task_type import Tagged, Tagger

NO_SCORES: Final = np.empty(0)
NO_LABEL: Final = "none"
MEASURE: Final = "f1_samples"
UNTOLD: Final = frozenset({"token_accuracy", "log_loss"})
"""Metrics that the baseline has none of: it has no probabilities."""


class SpanAnswers:
    """Keeps `workers.jobs.answering.Kind` for spans."""

    def misfit(self, model: MaintainedModel, version: Tagger) -> str | None:
        """Return that its labels are not the model's, if they are not."""
        return misfit_of_labels(model, version, "its spans have the labels")

    def settled(self, model: MaintainedModel, rows: Sequence[Example]) -> MaintainedModel:
        """Return the model: F1 needs no scale."""
        return model

    def summarised(
        self, model: MaintainedModel, version: ModelVersion, rows: Sequence[Example]
    ) -> dict[str, Any]:
        """Return the metrics of spans."""
        true = _true(rows)
        return summarise(_said(model, version, rows, true), true, model.labels)

    def compared(
        self,
        role: str,
        rows: Sequence[Example],
        model: MaintainedModel,
        challenger: ModelVersion,
        champion: ModelVersion | None,
    ) -> Comparison:
        """Compare the F1 of each row's exact spans."""
        true = _true(rows)
        ours = _said(model, challenger, rows, true)
        summary = summarise(ours, true, model.labels)
        if champion is None:
            return Comparison(role, len(rows), summary)
        theirs = _said(model, champion, rows, true)
        scores, their_scores = (
            _scores([one.spans for one in side], true) for side in (ours, theirs)
        )
        return Comparison(
            role,
            len(rows),
            summary,
            summarise(theirs, true, model.labels),
            pair_scores(scores, their_scores, _scores([()] * len(rows), true), score=MEASURE),
            by_class=_recalls(model.labels, true, ours, theirs),
            by_slice=slices_of_rows(model, rows, scores, their_scores),
        )

    def baseline(self, found: ToJudge, rows: Sequence[Example]) -> float | None:
        """Return the score of marking the words that the training rows know; None without one."""
        metric, model, train = found.model.objective.metric, found.model, found.snapshot.train
        if metric in UNTOLD:
            return None
        about = model.answer.about or ""
        known = KnownWords((_text(row.inputs, about) for row in train), _true(train))
        said = [known.read(_text(row.inputs, about)) for row in rows]
        value = of_answers(said, _true(rows), model.labels)[metric]
        return None if value is None else float(value)

    def classes(self, version: Tagger) -> Sequence[str]:
        """Return none: there are scores of tokens, not of answers."""
        return ()

    def of_reference(self, model: MaintainedModel, version: Tagger, inputs: Inputs) -> Columns:
        """Return what answers look like, how sure the version is, and embedding."""
        said = version.tagged(inputs)
        columns = _looks([one.spans for one in said], _lengths(model, inputs))
        columns["numeric"]["confidence"] = np.array([one.confidence for one in said])
        columns["embedding"] = {"embedding": embedding_of([one.features for one in said])}
        return columns

    def asked(self, version: Tagger, rows: Sequence[Observation]) -> list[Answered]:
        """Return features, and how sure it is."""
        said = version.tagged([row.inputs for row in rows])
        return [Answered(one.features, one.confidence, NO_SCORES) for one in said]

    def of_rows(
        self,
        model: MaintainedModel,
        rows: Sequence[Observation],
        answered: Sequence[Answered],
        classes: Sequence[str],
    ) -> Columns:
        """Return the same signals of logged answers."""
        readings = [_reading(row.prediction) for row in rows]
        columns = _looks(readings, _lengths(model, [row.inputs for row in rows]))
        add_asked(columns, answered)
        return columns

    def of_stored(
        self,
        model: MaintainedModel,
        rows: StoredRows,
        sampled: NDArray[np.int64],
        sample: Columns,
    ) -> tuple[Columns, NDArray[np.bool_]]:
        """Return what answers look like, and confidence where sampled: nobody logs it."""
        texts = rows.inputs.get(model.answer.about or "")
        lengths = np.zeros(len(rows))
        if texts is not None:
            lengths = np.array([0 if text is None else len(text) for text in texts.tolist()])
        columns = _looks([_reading(said) for said in rows.predictions.tolist()], lengths)
        return columns, add_sampled_confidence(columns, sampled, sample)

    def scores_of_reference(
        self,
        model: MaintainedModel,
        version: ModelVersion,
        reference: Columns,
        rows: Sequence[Example],
    ) -> NDArray[Any]:
        """Return the F1 of the champion's answers, which the signals do not hold."""
        true = _true(rows)
        said = _said(model, version, rows, true)
        return _scores([one.spans for one in said], true)


def _true(rows: Sequence[Example]) -> list[Reading]:
    return [spans.read(row.label) for row in rows]


def _said(
    model: MaintainedModel,
    version: ModelVersion,
    rows: Sequence[Example],
    true: Sequence[Reading],
) -> list[Tagged]:
    tagger: Tagger = loaded(model, version)
    return tagger.tagged([row.inputs for row in rows], true)


def _scores(said: Sequence[Reading], true: Sequence[Reading]) -> NDArray[np.float64]:
    """Return the F1 of each row, (n,)."""
    pairs = zip(said, true, strict=True)
    return np.array([matched(ours, theirs).f1 for ours, theirs in pairs], dtype=np.float64)


def _recalls(
    labels: Sequence[str],
    true: Sequence[Reading],
    ours: Sequence[Tagged],
    theirs: Sequence[Tagged],
) -> dict[str, Mapping[str, Any]]:
    """Return which share of the spans of each label both versions find exactly."""
    own, other = (
        of_answers([one.spans for one in side], true, labels)["by_class"] for side in (ours, theirs)
    )
    return {
        label: {
            "n": own[label]["n"],
            "challenger": own[label]["recall"],
            "champion": other[label]["recall"],
        }
        for label in labels
        if own[label]["n"]
    }


def _text(inputs: Mapping[str, Any], about: str) -> str:
    text = inputs.get(about)
    return text if isinstance(text, str) else ""


def _lengths(model: MaintainedModel, inputs: Inputs) -> NDArray[np.int64]:
    """Return how many characters each text has, (n,)."""
    about = model.answer.about or ""
    return np.array([len(_text(row, about)) for row in inputs], dtype=np.int64)


def _reading(text: str | None) -> Reading | None:
    """Return a kept answer; None where none was logged."""
    return None if text is None else spans.read(text)


def _looks(readings: Sequence[Reading | None], lengths: NDArray[Any]) -> Columns:
    """Return what can be seen of answers without the version, n rows each; a missing one is NaN."""
    inside = [
        np.nan if row is None else sum(one.end - one.start for one in row) for row in readings
    ]
    return {
        "numeric": {
            "n_spans": np.array([np.nan if row is None else len(row) for row in readings]),
            "span_share": np.asarray(inside, dtype=np.float64) / np.maximum(lengths, 1),
        },
        "categorical": {
            "main_label": np.asarray([_main_label(row) for row in readings], dtype=object)
        },
    }


def _main_label(reading: Reading | None) -> str | None:
    """Return the label that most spans have, of several the first in the alphabet."""
    if reading is None:
        return None
    counts = Counter(span.label for span in reading)
    return min(counts, key=lambda label: (-counts[label], label), default=NO_LABEL)
