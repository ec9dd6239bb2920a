"""How does a network tell a number from a row of columns? In scales of the labels it has seen."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from app.domain.answers import NUMBER
from workers.task_types import task_types
from workers.training.column_learner import ABSOLUTE, SQUARED
from workers.training.network_task import DEFAULTS, KNOBS, SEARCHED, LoadedNetwork, NetworkTaskType
from workers.training.number_metrics import OF_NUMBERS as METRICS
from workers.training.recipes import OF_NUMBERS, recipe_schema
from workers.training.task_type import Inputs

NAME: Final = "neural-tabular-regression"
LOSS: Final[Mapping[str, Any]] = {
    "enum": [SQUARED, ABSOLUTE],
    "default": SQUARED,
    "description": (
        "Which error training makes small, and tells the best epoch: squared answers with means "
        "(rmse, r2), absolute with medians (mae), and is not led astray by a few labels far out."
    ),
}


@dataclass(frozen=True, slots=True)
class NetworkRegressor(LoadedNetwork):
    """A version loaded for inference."""

    def values(self, inputs: Inputs) -> NDArray[np.float64]:
        """Return numbers, shape (n,)."""
        return self.network.values_of(self.encoded(inputs))


@task_types.register(NAME)
class NeuralTabularRegression(NetworkTaskType):
    """Rows of columns to numbers."""

    name = NAME
    description = "Tells a number from rows of numbers, categories and booleans with a network"
    answers: ClassVar[str] = NUMBER
    metrics: ClassVar[tuple[str, ...]] = METRICS
    recipe_schema: ClassVar[dict[str, Any]] = recipe_schema(
        DEFAULTS, {**KNOBS, "loss": LOSS}, common=OF_NUMBERS, searched=SEARCHED
    )
    has_labels: ClassVar[bool] = False

    def load(self, directory: Path) -> NetworkRegressor:
        """Open a version for inference.

        Raises:
            RecipeError: it is no such version.
        """
        return NetworkRegressor(self.open(directory).network)
