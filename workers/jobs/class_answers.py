"""Versions that sort into classes: asked for probabilities, judged by who is right."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.evaluation import Comparison, count_pairs
from app.domain.models import MaintainedModel
from app.domain.observations import Observation
from app.domain.versions import ModelVersion
from app.services.batches import Columns as StoredRows
from app.services.documents import document
from app.services.evaluation import ToJudge
from app.services.ports import Example
from app.services.snapshots import evenly
from workers.jobs.answering import Answered, embedding_of, means, misfit_of_labels, slices_of_rows
from workers.jobs.champions import loaded
from workers.jobs.class_scores import SIGNAL, are_joint, is_unsaid, logged
from workers.jobs.fields import Columns, Inputs
from workers.task_types import task_types
from workers.training.baseline import probe_baseline
from workers.training.data import Rows
from workers.training.metrics import class_indices, summarise
from workers.training.targets import N_FIT_ROWS
from workers.training.task_type import Classifier


class ClassAnswers:
    """Keeps `workers.jobs.answering.Kind` for classes."""

    def misfit(self, model: MaintainedModel, version: Classifier) -> str | None:
        """Return that its labels are not the model's, if they are not."""
        return misfit_of_labels(model, version, "its labels are")

    def settled(self, model: MaintainedModel, rows: Sequence[Example]) -> MaintainedModel:
        """Return the model: a label is right or wrong."""
        return model

    def summarised(
        self, model: MaintainedModel, version: ModelVersion, rows: Sequence[Example]
    ) -> dict[str, Any]:
        """Return the metrics of classes."""
        truth = class_indices([row.label for row in rows], model.labels)
        scores = scores_of(model, version, [row.inputs for row in rows])
        return summarise(truth, scores, model.labels)

    def compared(
        self,
        role: str,
        rows: Sequence[Example],
        model: MaintainedModel,
        challenger: ModelVersion,
        champion: ModelVersion | None,
    ) -> Comparison:
        """Count who is right about which row."""
        labels = model.labels
        truth = class_indices([row.label for row in rows], labels)
        inputs = [row.inputs for row in rows]
        ours = scores_of(model, challenger, inputs)
        right = ours.argmax(axis=1) == truth
        summary = summarise(truth, ours, labels)
        if champion is None:
            return Comparison(role, len(rows), summary)
        theirs = scores_of(model, champion, inputs)
        their_right = theirs.argmax(axis=1) == truth
        return Comparison(
            role,
            len(rows),
            summary,
            summarise(truth, theirs, labels),
            count_pairs(right, their_right),
            by_class={
                label: means(truth == position, right, their_right)
                for position, label in enumerate(labels)
                if bool((truth == position).any())
            },
            by_slice=slices_of_rows(model, rows, right, their_right),
        )

    def baseline(self, found: ToJudge, rows: Sequence[Example]) -> float | None:
        """Return the score of the base with a probe head."""
        train, model = evenly(found.snapshot.train, N_FIT_ROWS), found.model
        scores = probe_baseline(
            task_types.get(model.task_type),
            model.base_model,
            model.labels,
            Rows(
                [row.id for row in train],
                [row.inputs for row in train],
                [row.label for row in train],
            ),
            [row.inputs for row in rows],
            seed=found.run.spec.seed,
            input_contract=document(model.contract.fields),
        )
        truth = class_indices([row.label for row in rows], model.labels)
        value = summarise(truth, scores, model.labels)[model.objective.metric]
        return None if value is None else float(value)

    def classes(self, version: Classifier) -> Sequence[str]:
        """Return its labels, in the order of its scores."""
        return version.labels

    def of_reference(self, model: MaintainedModel, version: Classifier, inputs: Inputs) -> Columns:
        """Return prediction, confidence, embedding and, of more than two classes, all scores."""
        scores, labels = version.scores(inputs), version.labels
        answers = [labels[index] for index in scores.argmax(axis=1)]
        embeddings = {"embedding": embedding_of(version.features(inputs))}
        if are_joint(labels):
            embeddings[SIGNAL] = embedding_of(scores)
        return {
            "categorical": {"prediction": np.asarray(answers, dtype=object)},
            "numeric": {"confidence": scores.max(axis=1).astype(np.float64)},
            "embedding": embeddings,
        }

    def asked(self, version: Classifier, rows: Sequence[Observation]) -> list[Answered]:
        """Return features, and how sure it is; that is asked where it was not logged."""
        features = version.features([row.inputs for row in rows])
        scores = np.stack([logged(row, version.labels) for row in rows])
        asked = [place for place, row in enumerate(rows) if is_unsaid(row, scores[place])]
        if asked:
            scores[asked] = version.scores([rows[place].inputs for place in asked])
        return [
            Answered(vector, float(max(row.scores.values()) if row.scores else own.max()), own)
            for row, vector, own in zip(rows, features, scores, strict=True)
        ]

    def of_rows(
        self,
        model: MaintainedModel,
        rows: Sequence[Observation],
        answered: Sequence[Answered],
        classes: Sequence[str],
    ) -> Columns:
        """Return the same signals of logged answers."""
        embeddings = {"embedding": embedding_of([one.features for one in answered])}
        if are_joint(classes):
            embeddings[SIGNAL] = np.stack([one.scores for one in answered])
        said = np.asarray([row.prediction for row in rows], dtype=object)
        return {
            "categorical": {"prediction": said},
            "numeric": {"confidence": np.array([one.confidence for one in answered])},
            "embedding": embeddings,
        }

    def of_stored(
        self, model: MaintainedModel, rows: StoredRows, sampled: NDArray[np.int64], sample: Columns
    ) -> tuple[Columns, NDArray[np.bool_]]:
        """Return prediction and confidence: that of rows without scores only where sampled."""
        confidence = np.full(len(rows), np.nan)
        if rows.scores:
            confidence = np.fmax.reduce(list(rows.scores.values()))
        is_sampled = sampled >= 0
        confidence[is_sampled] = sample["numeric"]["confidence"][sampled[is_sampled]]
        columns: Columns = {
            "categorical": {"prediction": rows.predictions},
            "numeric": {"confidence": confidence},
        }
        return columns, np.isnan(confidence) & ~is_sampled

    def scores_of_reference(
        self,
        model: MaintainedModel,
        version: ModelVersion,
        reference: Columns,
        rows: Sequence[Example],
    ) -> NDArray[Any]:
        """Return which rows the champion answers with their label."""
        labels = np.asarray([row.label for row in rows], dtype=object)
        return np.asarray(reference["categorical"]["prediction"] == labels, dtype=bool)


def scores_of(
    model: MaintainedModel, version: ModelVersion, inputs: Sequence[Mapping[str, Any]]
) -> NDArray[np.float32]:
    """Return probabilities, shape (n, k), columns in the order of the model's labels."""
    classifier: Classifier = loaded(model, version)
    scores = classifier.scores(inputs)
    if tuple(classifier.labels) == tuple(model.labels):
        return scores
    known = {label: column for column, label in enumerate(classifier.labels)}
    ordered = np.zeros((len(inputs), len(model.labels)), dtype=np.float32)
    for column, label in enumerate(model.labels):
        if label in known:
            ordered[:, column] = scores[:, known[label]]
    return ordered
