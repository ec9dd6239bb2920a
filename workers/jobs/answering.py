"""How is a version asked, judged and watched, by what it answers with? One object a kind of answer.

`app.domain.answers` says how right one answer is; this says what only a worker can.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from app.domain.evaluation import Comparison
from app.domain.models import MaintainedModel
from app.domain.observations import Observation
from app.domain.versions import ModelVersion
from app.services.batches import Columns as StoredRows
from app.services.evaluation import ToJudge
from app.services.ports import Example
from workers.jobs.fields import Columns, Inputs


@dataclass(frozen=True, slots=True)
class Answered:
    """What a version says of one row beside the answer that was logged.

    Attributes:
        features: (d,) what stands for the row among others.
        confidence: probability of the answer; NaN where answers have none.
        scores: (K,) probability of each class; (0,) where there are no classes.
    """

    features: NDArray[np.float32]
    confidence: float
    scores: NDArray[np.float64]


class Kind(Protocol):
    """One kind of answer. A version is what its task type loads."""

    def misfit(self, model: MaintainedModel, version: Any) -> str | None:
        """Return why a loaded version cannot answer for a model; None where it can."""
        ...

    def settled(self, model: MaintainedModel, rows: Sequence[Example]) -> MaintainedModel:
        """Return a model whose answers can be scored; what that needs is learned from rows.

        Nothing is learned where the model has it already.
        """
        ...

    def summarised(
        self, model: MaintainedModel, version: ModelVersion, rows: Sequence[Example]
    ) -> dict[str, Any]:
        """Return the metrics of a version on labelled rows, `n` and the mean score among them."""
        ...

    def compared(
        self,
        role: str,
        rows: Sequence[Example],
        model: MaintainedModel,
        challenger: ModelVersion,
        champion: ModelVersion | None,
    ) -> Comparison:
        """Let both versions answer the same rows."""
        ...

    def baseline(self, found: ToJudge, rows: Sequence[Example]) -> float | None:
        """Return the objective's metric of the simplest model that the base allows, on rows."""
        ...

    def classes(self, version: Any) -> Sequence[str]:
        """Return the classes that the signal `scores` tells of; none where there is no such."""
        ...

    def of_reference(self, model: MaintainedModel, version: Any, inputs: Inputs) -> Columns:
        """Return the signals of a version's own answers to its reference, by kind and name."""
        ...

    def asked(self, version: Any, rows: Sequence[Observation]) -> list[Answered]:
        """Return what a version says of each row beside the answer that was logged."""
        ...

    def of_rows(
        self,
        model: MaintainedModel,
        rows: Sequence[Observation],
        answered: Sequence[Answered],
        classes: Sequence[str],
    ) -> Columns:
        """Return the same signals of logged answers, in the order of the rows."""
        ...

    def of_stored(
        self, model: MaintainedModel, rows: StoredRows, sampled: NDArray[np.int64], sample: Columns
    ) -> tuple[Columns, NDArray[np.bool_]]:
        """Return the scalar ones of them of stored rows, and where confidence was not looked at.

        Args:
            model: whose rows they are.
            rows: n of them.
            sampled: (n,) the place of each in the sample, -1 where it is not in it.
            sample: all signals of the newest rows.
        """
        ...

    def scores_of_reference(
        self,
        model: MaintainedModel,
        version: ModelVersion,
        reference: Columns,
        rows: Sequence[Example],
    ) -> NDArray[Any]:
        """Return how right the version is about each row of its reference, (n,).

        A row without a label has any score.
        """
        ...


def misfit_of_labels(model: MaintainedModel, version: Any, what: str) -> str | None:
    """Return that a version's labels are not the model's, if they are not.

    Args:
        model: whose labels they should be.
        version: with labels.
        what: how a sentence about them begins, such as "its labels are".
    """
    if set(version.labels) == set(model.labels):
        return None
    theirs, ours = ", ".join(version.labels), ", ".join(model.labels)
    return f"{what} {theirs}, but the model's are {ours}"


def embedding_of(features: NDArray[Any] | Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """Return the vectors of rows, (n, d), as detectors take them."""
    return np.asarray(features, dtype=np.float64)


def add_asked(columns: Columns, answered: Sequence[Answered]) -> None:
    """Add what only the version can say of logged answers: `confidence` and `embedding`."""
    columns["numeric"]["confidence"] = np.array([one.confidence for one in answered])
    columns["embedding"] = {"embedding": embedding_of([one.features for one in answered])}


def add_sampled_confidence(
    columns: Columns, sampled: NDArray[np.int64], sample: Columns
) -> NDArray[np.bool_]:
    """Add the confidence of sampled rows, where nobody logs it; return where it is not known.

    Args:
        columns: of n stored rows.
        sampled: (n,) the place of each in the sample, -1 where it is not in it.
        sample: all signals of the newest rows.
    """
    is_sampled = sampled >= 0
    confidence = np.full(len(sampled), np.nan)
    confidence[is_sampled] = sample["numeric"]["confidence"][sampled[is_sampled]]
    columns["numeric"]["confidence"] = confidence
    return ~is_sampled


def slices_of_rows(
    model: MaintainedModel, rows: Sequence[Example], ours: NDArray[Any], theirs: NDArray[Any]
) -> Mapping[str, Mapping[str, Any]]:
    """Return the mean score of challenger and champion by slice of the model's objective.

    Args:
        model: whose objective it is.
        rows: n of them.
        ours: (n,) scores of the challenger.
        theirs: (n,) those of the champion.
    """
    groups = {
        f"{name}={value}": np.asarray([str(row.inputs.get(name)) == value for row in rows])
        for name in model.objective.slices
        for value in sorted({str(row.inputs.get(name)) for row in rows})[:50]
    }
    return {name: means(mask, ours, theirs) for name, mask in groups.items()}


def means(mask: NDArray[np.bool_], ours: NDArray[Any], theirs: NDArray[Any]) -> Mapping[str, Any]:
    """Return the mean scores of some rows."""
    return {
        "n": int(mask.sum()),
        "challenger": float(ours[mask].mean()),
        "champion": float(theirs[mask].mean()),
    }
