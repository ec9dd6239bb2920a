"""What are trees grown for, classes or numbers? All that boosting must know of the difference."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from app.domain.answers import as_numbers, strata_of
from upkeep.tables import Matrix
from upkeep.trees import Trees
from workers.training import number_metrics
from workers.training.data import Rows, class_weights
from workers.training.metrics import EPSILON, summarise
from workers.training.tree_task import SQUARED

Truth = NDArray[Any]


class Goal(Protocol):
    """What trees are grown for.

    Attributes:
        one: what rows hold that nothing can be learned from, in the singular.
        digits: how a loss is written.
    """

    one: ClassVar[str]
    digits: ClassVar[str]

    @property
    def loss(self) -> str:
        """Return the name of the mean loss that candidates compete by."""
        ...

    @property
    def objective(self) -> str:
        """Return LightGBM's objective, as its text model states it."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """Return LightGBM's parameters that say so."""
        ...

    def truth(self, rows: Rows) -> Truth:
        """Return what rows are to be answered with, shape (n,)."""
        ...

    def strata(self, labels: Sequence[str]) -> list[str]:
        """Return the part of all labels that each belongs to."""
        ...

    def weights(self, truth: Truth) -> NDArray[np.floating[Any]]:
        """Return what rows count for, shape (n,)."""
        ...

    def losses(self, trees: Trees, table: Matrix, truth: Truth) -> NDArray[np.float64]:
        """Return the loss of trees on each row, shape (n,)."""
        ...

    def guessing(self, truth: Truth) -> float:
        """Return the mean loss of whoever knows nothing of a row."""
        ...

    def metrics(self, trees: Trees, table: Matrix, truth: Truth) -> dict[str, Any]:
        """Return every metric of trees on rows."""
        ...


@dataclass(frozen=True, slots=True)
class ToClasses:
    """Trees whose sums are the log odds of classes; their loss is the log loss, in nats.

    Attributes:
        power: how much more rows of rare classes count.
    """

    one: ClassVar[str] = "class"
    digits: ClassVar[str] = "2f"

    labels: tuple[str, ...]
    power: float

    @property
    def loss(self) -> str:
        """Return the name of the mean loss."""
        return "log_loss"

    @property
    def objective(self) -> str:
        """Return LightGBM's objective."""
        n_classes = len(self.labels)
        return "binary sigmoid:1" if n_classes == 2 else f"multiclass num_class:{n_classes}"

    @property
    def settings(self) -> Mapping[str, Any]:
        """Return LightGBM's parameters."""
        if len(self.labels) == 2:
            return {"objective": "binary", "metric": "binary_logloss"}
        return {"objective": "multiclass", "metric": "multi_logloss", "num_class": len(self.labels)}

    def truth(self, rows: Rows) -> Truth:
        """Return the index of each row's class."""
        return rows.indices(self.labels)

    def strata(self, labels: Sequence[str]) -> list[str]:
        """Return the classes."""
        return list(labels)

    def weights(self, truth: Truth) -> NDArray[np.floating[Any]]:
        """Return weights by class."""
        counts = np.bincount(truth, minlength=len(self.labels))
        return class_weights(counts, power=self.power)[truth]

    def losses(self, trees: Trees, table: Matrix, truth: Truth) -> NDArray[np.float64]:
        """Return -log of the true class's probability."""
        scores = trees.scores_of(table)
        chosen = scores[np.arange(len(truth)), truth].astype(np.float64)
        return np.asarray(-np.log(np.clip(chosen, EPSILON, 1.0)))

    def guessing(self, truth: Truth) -> float:
        """Return the log loss of equal chances."""
        return math.log(len(self.labels))

    def metrics(self, trees: Trees, table: Matrix, truth: Truth) -> dict[str, Any]:
        """Return the metrics of classes."""
        return summarise(truth, trees.scores_of(table), self.labels)


@dataclass(frozen=True, slots=True)
class ToNumbers:
    """Trees whose sum is a number; their loss is the squared or the absolute error."""

    one: ClassVar[str] = "number"
    digits: ClassVar[str] = "4g"

    is_squared: bool

    @property
    def loss(self) -> str:
        """Return the name of the mean loss."""
        return "squared_error" if self.is_squared else "absolute_error"

    @property
    def objective(self) -> str:
        """Return LightGBM's objective."""
        return "regression" if self.is_squared else "regression_l1"

    @property
    def settings(self) -> Mapping[str, Any]:
        """Return LightGBM's parameters."""
        return {"objective": self.objective, "metric": "l2" if self.is_squared else "l1"}

    def truth(self, rows: Rows) -> Truth:
        """Return each row's number."""
        return rows.numbers()

    def strata(self, labels: Sequence[str]) -> list[str]:
        """Return quarters of the ordered numbers."""
        return strata_of(as_numbers(labels))

    def weights(self, truth: Truth) -> NDArray[np.floating[Any]]:
        """Return that all rows count alike."""
        return np.ones(len(truth))

    def losses(self, trees: Trees, table: Matrix, truth: Truth) -> NDArray[np.float64]:
        """Return the errors, squared or absolute."""
        return self._of(trees.values_of(table) - truth)

    def guessing(self, truth: Truth) -> float:
        """Return the mean loss of the best constant."""
        constant = truth.mean() if self.is_squared else np.median(truth)
        return float(self._of(truth - constant).mean())

    def metrics(self, trees: Trees, table: Matrix, truth: Truth) -> dict[str, Any]:
        """Return the metrics of numbers."""
        return number_metrics.summarise(truth, trees.values_of(table), None)

    def _of(self, error: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(error**2 if self.is_squared else np.abs(error))


def goal_of(labels: tuple[str, ...], recipe: Mapping[str, Any]) -> Goal:
    """Return what a version of these labels is grown for; without any, numbers."""
    if labels:
        return ToClasses(labels, float(recipe["class_weight_power"]))
    return ToNumbers(is_squared=recipe["loss"] == SQUARED)
