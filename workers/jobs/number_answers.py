"""Versions that answer with numbers: judged by their errors, watched by how answers spread."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.answers import Number, as_numbers, closeness, scale_of
from app.domain.evaluation import Comparison, pair_losses
from app.domain.models import MaintainedModel
from app.domain.observations import Observation
from app.domain.versions import ModelVersion
from app.services.batches import Columns as StoredRows
from app.services.documents import document
from app.services.evaluation import ToJudge
from app.services.ports import Example
from workers.jobs.answering import Answered, embedding_of, slices_of_rows
from workers.jobs.champions import loaded
from workers.jobs.fields import Columns, Inputs
from workers.task_types import task_types
from workers.training.baseline import linear_baseline
from workers.training.data import Rows
from workers.training.number_metrics import SQUARED, summarise
from workers.training.task_type import Regressor

NO_SCORES = np.empty(0)


class NumberAnswers:
    """Keeps `workers.jobs.answering.Kind` for numbers."""

    def misfit(self, model: MaintainedModel, version: Regressor) -> str | None:
        """Return nothing: any number may be an answer."""
        return None

    def settled(self, model: MaintainedModel, rows: Sequence[Example]) -> MaintainedModel:
        """Return the model with a scale: its own, or else that of the labels of rows."""
        answer = model.answer
        if not isinstance(answer, Number) or answer.is_scored:
            return model
        scale = scale_of(as_numbers([row.label for row in rows]))
        return replace(model, answers_with=replace(answer, scale=scale))

    def summarised(
        self, model: MaintainedModel, version: ModelVersion, rows: Sequence[Example]
    ) -> dict[str, Any]:
        """Return the metrics of numbers."""
        truth = as_numbers([row.label for row in rows])
        return summarise(truth, _values_of(model, version, rows), _scale_of(model))

    def compared(
        self,
        role: str,
        rows: Sequence[Example],
        model: MaintainedModel,
        challenger: ModelVersion,
        champion: ModelVersion | None,
    ) -> Comparison:
        """Compare errors row by row: squared or absolute, as the objective's metric has them."""
        truth = as_numbers([row.label for row in rows])
        scale = _scale_of(model)
        ours = _values_of(model, challenger, rows)
        summary = summarise(truth, ours, scale)
        if champion is None:
            return Comparison(role, len(rows), summary)
        theirs = _values_of(model, champion, rows)
        size = scale or 1.0
        return Comparison(
            role,
            len(rows),
            summary,
            summarise(truth, theirs, scale),
            pair_losses(
                ours,
                theirs,
                truth,
                is_squared=model.objective.metric in SQUARED,
                scale=size,
            ),
            by_slice=slices_of_rows(
                model, rows, closeness(ours, truth, size), closeness(theirs, truth, size)
            ),
        )

    def baseline(self, found: ToJudge, rows: Sequence[Example]) -> float | None:
        """Return the error of a linear model of the base's features."""
        train, model = found.snapshot.train, found.model
        answers = linear_baseline(
            task_types.get(model.task_type),
            model.base_model,
            Rows(
                [row.id for row in train],
                [row.inputs for row in train],
                [row.label for row in train],
            ),
            [row.inputs for row in rows],
            seed=found.run.spec.seed,
            input_contract=document(model.contract.fields),
        )
        truth = as_numbers([row.label for row in rows])
        value = summarise(truth, answers, None)[model.objective.metric]
        return None if value is None else float(value)

    def classes(self, version: Regressor) -> Sequence[str]:
        """Return none."""
        return ()

    def of_reference(self, model: MaintainedModel, version: Regressor, inputs: Inputs) -> Columns:
        """Return prediction, a number, and embedding."""
        return {
            "numeric": {"prediction": np.asarray(version.values(inputs), dtype=np.float64)},
            "embedding": {"embedding": embedding_of(version.features(inputs))},
        }

    def asked(self, version: Regressor, rows: Sequence[Observation]) -> list[Answered]:
        """Return features."""
        features = version.features([row.inputs for row in rows])
        return [Answered(vector, np.nan, NO_SCORES) for vector in features]

    def of_rows(
        self,
        model: MaintainedModel,
        rows: Sequence[Observation],
        answered: Sequence[Answered],
        classes: Sequence[str],
    ) -> Columns:
        """Return the same signals of logged answers."""
        return {
            "numeric": {"prediction": _numbers([row.prediction for row in rows])},
            "embedding": {"embedding": embedding_of([one.features for one in answered])},
        }

    def of_stored(
        self, model: MaintainedModel, rows: StoredRows, sampled: NDArray[np.int64], sample: Columns
    ) -> tuple[Columns, NDArray[np.bool_]]:
        """Return prediction; nothing is left to be looked at."""
        columns: Columns = {"numeric": {"prediction": _numbers(rows.predictions.tolist())}}
        return columns, np.zeros(len(rows), dtype=bool)

    def scores_of_reference(
        self,
        model: MaintainedModel,
        version: ModelVersion,
        reference: Columns,
        rows: Sequence[Example],
    ) -> NDArray[Any]:
        """Return the closeness of the champion's answers; NaN without a label."""
        scale = _scale_of(model) or np.nan
        labels = _numbers([row.label or None for row in rows])
        return closeness(reference["numeric"]["prediction"], labels, scale)


def _values_of(
    model: MaintainedModel, version: ModelVersion, rows: Sequence[Example]
) -> NDArray[np.float64]:
    """Return a version's answers, (n,).

    Raises:
        ValueError: an answer is no number.
    """
    regressor: Regressor = loaded(model, version)
    values = regressor.values([row.inputs for row in rows])
    if not np.isfinite(values).all():
        raise ValueError("it answers with what is no finite number")
    return values


def _scale_of(model: MaintainedModel) -> float | None:
    return model.answer.scale if isinstance(model.answer, Number) else None


def _numbers(texts: Sequence[str | None]) -> NDArray[np.float64]:
    """Return kept numbers, (n,); NaN where missing."""
    return np.array([np.nan if text is None else float(text) for text in texts], dtype=np.float64)
