"""Versions that answer with texts: judged by how likely they find the true ones.

What versions are compared by is `bits_saved` of a row: it is the log loss of the true text, put so
that 1 is certainty and 0 is guessing among all tokens; what they write is too coarse for that. What
users got is watched by chrF, of answers that were logged.

The signals of an answer: its length in characters (`answer_length`), the share of its words that
have been in it before (`repeated_share`: what runs in circles), and how likely the version finds it
(`confidence`, the geometric mean of the probabilities of its tokens).
"""

from collections import Counter
from collections.abc import Sequence
from operator import eq
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.domain.chrf import chrf
from app.domain.evaluation import Comparison, pair_scores
from app.domain.models import MaintainedModel
from app.domain.observations import Observation
from app.domain.versions import ModelVersion
from app.services.batches import Columns as StoredRows
from app.services.evaluation import ToJudge
from app.services.ports import Example
from workers.jobs.answering import (
    Answered,
    add_asked,
    add_sampled_confidence,
    embedding_of,
    slices_of_rows,
)
from workers.jobs.champions import loaded
from workers.jobs.fields import Columns, Inputs
from workers.training.continuations import of_tokens
from workers.training.task_type import Said, TextWriter

NO_SCORES: Final = np.empty(0)
MEASURE: Final = "bits_saved"
WRITTEN: Final = frozenset({"chrf", "exact_match"})
"""Metrics of what is written, not of what is thought of the truth."""


class TextAnswers:
    """Keeps `workers.jobs.answering.Kind` for texts."""

    def misfit(self, model: MaintainedModel, version: TextWriter) -> str | None:
        """Return nothing: texts have no label set."""
        return None

    def settled(self, model: MaintainedModel, rows: Sequence[Example]) -> MaintainedModel:
        """Return the model: chrF needs no scale."""
        return model

    def summarised(
        self, model: MaintainedModel, version: ModelVersion, rows: Sequence[Example]
    ) -> dict[str, Any]:
        """Return the metrics of texts."""
        writer: TextWriter = loaded(model, version)
        return _summary(writer, rows, _said(writer, rows))

    def compared(
        self,
        role: str,
        rows: Sequence[Example],
        model: MaintainedModel,
        challenger: ModelVersion,
        champion: ModelVersion | None,
    ) -> Comparison:
        """Compare what of the bits of each row's true text is saved."""
        writer: TextWriter = loaded(model, challenger)
        ours = _said(writer, rows)
        summary = _summary(writer, rows, ours)
        if champion is None:
            return Comparison(role, len(rows), summary)
        other: TextWriter = loaded(model, champion)
        theirs = _said(other, rows)
        scores, their_scores = _saved(ours, writer.n_tokens), _saved(theirs, other.n_tokens)
        return Comparison(
            role,
            len(rows),
            summary,
            _summary(other, rows, theirs),
            pair_scores(scores, their_scores, np.zeros(len(rows)), score=MEASURE),
            by_slice=slices_of_rows(model, rows, scores, their_scores),
        )

    def baseline(self, found: ToJudge, rows: Sequence[Example]) -> float | None:
        """Return the score of tokens by their frequency; of what is written, of the commonest text.

        Frequencies are those of the training rows, one added to each.
        """
        metric, train = found.model.objective.metric, found.snapshot.train
        true = [row.label for row in rows]
        if metric in WRITTEN:
            ((common, _),) = Counter(row.label for row in train).most_common(1)
            score = chrf if metric == "chrf" else eq  # to chrF blanks are nothing
            return float(np.mean([score(common, label) for label in true]))
        writer: TextWriter = loaded(found.model, found.challenger)
        counts = np.ones(writer.n_tokens)
        for ids in writer.token_ids([row.label for row in train]):
            np.add.at(counts, ids, 1)
        logs, likeliest = np.log(counts / counts.sum()), int(counts.argmax())
        tokens = np.array([one for ids in writer.token_ids(true) for one in ids], dtype=np.int64)
        loss, right = -float(logs[tokens].sum()), int((tokens == likeliest).sum())
        return of_tokens(loss, right, len(tokens), n_tokens=len(counts))[metric]

    def classes(self, version: TextWriter) -> Sequence[str]:
        """Return none."""
        return ()

    def of_reference(self, model: MaintainedModel, version: TextWriter, inputs: Inputs) -> Columns:
        """Return what answers look like, how likely they are, and embedding."""
        written = version.write(inputs)
        said = version.said(inputs, written)
        columns = _looks(written)
        columns["numeric"]["confidence"] = np.array([_confidence(one) for one in said])
        columns["embedding"] = {"embedding": embedding_of([one.features for one in said])}
        return columns

    def asked(self, version: TextWriter, rows: Sequence[Observation]) -> list[Answered]:
        """Return features, and how likely the logged answer is; NaN where there is none."""
        said = version.said([row.inputs for row in rows], [row.prediction or "" for row in rows])
        return [
            Answered(
                one.features,
                np.nan if row.prediction is None else _confidence(one),
                NO_SCORES,
            )
            for row, one in zip(rows, said, strict=True)
        ]

    def of_rows(
        self,
        model: MaintainedModel,
        rows: Sequence[Observation],
        answered: Sequence[Answered],
        classes: Sequence[str],
    ) -> Columns:
        """Return the same signals of logged answers."""
        columns = _looks([row.prediction for row in rows])
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
        columns = _looks(rows.predictions.tolist())
        return columns, add_sampled_confidence(columns, sampled, sample)

    def scores_of_reference(
        self,
        model: MaintainedModel,
        version: ModelVersion,
        reference: Columns,
        rows: Sequence[Example],
    ) -> NDArray[Any]:
        """Return the chrF of what the champion writes."""
        writer: TextWriter = loaded(model, version)
        written = writer.write([row.inputs for row in rows])
        return model.answer.scores(written, [row.label for row in rows])


def _said(writer: TextWriter, rows: Sequence[Example]) -> list[Said]:
    return writer.said([row.inputs for row in rows], [row.label for row in rows])


def _saved(said: Sequence[Said], n_tokens: int) -> NDArray[np.float64]:
    """Return the bits saved of each row, (n,) in [0, 1]; worse than guessing is 0."""
    losses = np.array([one.mean_loss for one in said], dtype=np.float64)
    return np.asarray(np.clip(1.0 - losses / np.log(n_tokens), 0.0, 1.0))


def _summary(writer: TextWriter, rows: Sequence[Example], said: Sequence[Said]) -> dict[str, Any]:
    """Return every metric of one evaluation; one without enough rows is None."""
    n = sum(one.n_tokens for one in said)
    loss, right = sum(one.loss for one in said), sum(one.n_right for one in said)
    metrics = of_tokens(loss, right, n, n_tokens=writer.n_tokens)
    summary: dict[str, Any] = {"n": len(rows), "n_tokens": n, **metrics}
    written = writer.write([row.inputs for row in rows])
    pairs = [(ours, row.label) for ours, row in zip(written, rows, strict=True)]
    summary["chrf"] = float(np.mean([chrf(*pair) for pair in pairs])) if pairs else None
    summary["exact_match"] = float(np.mean([a == b for a, b in pairs])) if pairs else None
    return summary


def _confidence(said: Said) -> float:
    return float(np.exp(-said.mean_loss)) if said.n_tokens else np.nan


def _looks(answers: Sequence[str | None]) -> Columns:
    """Return what can be seen of answers without the version, n rows each; a missing one is NaN."""
    return {
        "numeric": {
            "answer_length": np.array([np.nan if one is None else len(one) for one in answers]),
            "repeated_share": np.array([_repeated(one) for one in answers], dtype=np.float64),
        }
    }


def _repeated(answer: str | None) -> float:
    words = (answer or "").lower().split()
    return 1.0 - len(set(words)) / len(words) if words else np.nan
