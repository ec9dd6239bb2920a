"""How does a row of columns become a number? By boosted trees, kept as LightGBM's text model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from app.domain.answers import NUMBER
from workers.task_types import task_types
from workers.training.number_metrics import OF_NUMBERS as METRICS
from workers.training.recipes import recipe_schema
from workers.training.task_type import Inputs
from workers.training.tree_task import (
    ABSOLUTE,
    KNOBS,
    SEARCHED,
    SQUARED,
    LoadedTrees,
    TreesTaskType,
)
from workers.training.tree_versions import OF_NUMBERS

NAME: Final = OF_NUMBERS
LOSS: Final[Mapping[str, Any]] = {
    "enum": [SQUARED, ABSOLUTE],
    "default": SQUARED,
    "description": (
        "Which error trees make small: squared answers with means (rmse, r2), absolute with "
        "medians (mae), and is not led astray by a few labels far out."
    ),
}


@dataclass(frozen=True, slots=True)
class TreesRegressor(LoadedTrees):
    """A version loaded for inference."""

    def values(self, inputs: Inputs) -> NDArray[np.float64]:
        """Return numbers, shape (n,); of an untrained version 0."""
        if self.trees is None:
            return np.zeros(len(inputs))
        found: NDArray[np.float64] = self.trees.values_of(self.encoded(inputs))
        return found


@task_types.register(NAME)
class TabularRegression(TreesTaskType):
    """Rows of columns to numbers."""

    name = NAME
    description = "Tells a number from rows of numbers, categories and booleans with boosted trees"
    answers: ClassVar[str] = NUMBER
    metrics: ClassVar[tuple[str, ...]] = METRICS
    recipe_schema: ClassVar[dict[str, Any]] = recipe_schema(
        {}, {**KNOBS, "loss": LOSS}, common={}, searched=SEARCHED
    )
    has_labels: ClassVar[bool] = False

    def load(self, directory: Path) -> TreesRegressor:
        """Open a version for inference.

        Raises:
            RecipeError: its trees are none, or do not fit its columns.
        """
        return TreesRegressor(*self.open_trees(directory))
