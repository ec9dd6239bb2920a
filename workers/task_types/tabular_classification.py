"""How is a row of columns sorted into classes? By boosted trees, kept as LightGBM's text model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from workers.task_types import task_types
from workers.training.metrics import OF_CLASSIFIERS
from workers.training.recipes import COMMON, recipe_schema
from workers.training.task_type import Inputs
from workers.training.tree_task import KNOBS, SEARCHED, LoadedTrees, TreesTaskType
from workers.training.tree_versions import OF_CLASSES

NAME: Final = OF_CLASSES


@dataclass(frozen=True, slots=True)
class TreesClassifier(LoadedTrees):
    """A version loaded for inference."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of the score columns."""
        return self.version.labels

    def scores(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return probabilities, shape (n, k); of an untrained version all alike."""
        if self.trees is None:
            k = len(self.labels)
            return np.full((len(inputs), k), 1 / k, dtype=np.float32)
        found: NDArray[np.float32] = self.trees.scores_of(self.encoded(inputs))
        return found


@task_types.register(NAME)
class TabularClassification(TreesTaskType):
    """Rows of columns into classes."""

    name = NAME
    description = "Sorts rows of numbers, categories and booleans into classes with boosted trees"
    metrics: ClassVar[tuple[str, ...]] = OF_CLASSIFIERS
    recipe_schema: ClassVar[dict[str, Any]] = recipe_schema(
        {},
        {**KNOBS, "class_weight_power": COMMON["class_weight_power"]},
        common={},
        searched=SEARCHED,
    )
    has_labels: ClassVar[bool] = True

    def load(self, directory: Path) -> TreesClassifier:
        """Open a version for inference.

        Raises:
            RecipeError: its trees are none, or do not fit its columns or labels.
        """
        return TreesClassifier(*self.open_trees(directory))
