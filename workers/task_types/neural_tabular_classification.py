"""How is a row of columns sorted into classes by a network? Embeddings, layers, a linear head."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from workers.task_types import task_types
from workers.training.metrics import OF_CLASSIFIERS
from workers.training.network_task import DEFAULTS, KNOBS, SEARCHED, LoadedNetwork, NetworkTaskType
from workers.training.recipes import recipe_schema
from workers.training.task_type import Inputs

NAME: Final = "neural-tabular-classification"


@dataclass(frozen=True, slots=True)
class NetworkClassifier(LoadedNetwork):
    """A version loaded for inference."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of the score columns."""
        return self.network.labels

    def scores(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return probabilities, shape (n, k)."""
        return self.network.scores_of(self.encoded(inputs))


@task_types.register(NAME)
class NeuralTabularClassification(NetworkTaskType):
    """Rows of columns into classes."""

    name = NAME
    description = "Sorts rows of numbers, categories and booleans into classes with a network"
    metrics: ClassVar[tuple[str, ...]] = OF_CLASSIFIERS
    recipe_schema: ClassVar[dict[str, Any]] = recipe_schema(DEFAULTS, KNOBS, searched=SEARCHED)
    has_labels: ClassVar[bool] = True

    def load(self, directory: Path) -> NetworkClassifier:
        """Open a version for inference.

        Raises:
            RecipeError: it is no such version.
        """
        return NetworkClassifier(self.open(directory).network)
