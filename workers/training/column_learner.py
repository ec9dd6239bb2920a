"""How is a network over columns opened for the loop, and what does it know of its rows?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save_file

from upkeep.column_network import WEIGHTS, Network
from upkeep.tables import CONFIG, Matrix
from workers.training.data import Rows
from workers.training.files import write_json
from workers.training.layers import choose_trainable, widen_head
from workers.training.tables import Cleaning, encoded, fitted, with_knots
from workers.training.targets import NumberTargets, RowTargets
from workers.training.task_type import Inputs
from workers.training.versions import Card

LIBRARIES: Final = ("torch", "safetensors", "numpy")
SQUARED: Final = "squared"
ABSOLUTE: Final = "absolute"
THE_NUMBER: Final = ("value",)


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """Rows as numbers, shape (n, c); NaN is missing."""

    matrix: Matrix

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return one unit of cost a row."""
        return np.ones(len(self.matrix), dtype=np.int64)


class ColumnLearner:
    """A network over columns opened for training; without labels it answers with numbers."""

    can_reuse_lower = False
    answers_tokens = False

    def __init__(self, network: Network, card: Card) -> None:
        self.network, self.card = network, card
        self.is_pretrained = card.is_pretrained
        self._cleaning: Cleaning | None = None
        self._loss, self._hidden_share = SQUARED, 0.0

    @property
    def model(self) -> Any:
        """Return the network's module."""
        return self.network.model

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the labels."""
        return self.network.labels

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the labels; where there are none, the number's name."""
        return self.network.labels or THE_NUMBER

    def fit(self, rows: Rows, recipe: Mapping[str, Any]) -> None:
        """Learn categories, scales and, of an untrained version, what numbers are counted in."""
        self._loss = str(recipe.get("loss", SQUARED))
        network = self.network
        columns, self._cleaning = fitted(network.columns, rows.inputs)
        table = encoded(columns, rows.inputs)
        columns = with_knots(columns, network.columns, table, network.sizes.n_bins)
        self.network = network.with_columns(columns)
        if not self.labels and not self.is_pretrained:
            truth = rows.numbers()
            spread = float(truth.std())
            target = (float(truth.mean()), spread if spread > 0 else 1.0)
            self.network = replace(self.network, target=target)

    def encode(self, inputs: Inputs) -> EncodedRows:
        """Return inputs as numbers."""
        return EncodedRows(encoded(self.network.columns, inputs))

    def targets(self, examples: EncodedRows, rows: Rows) -> RowTargets | NumberTargets:
        """Return the class of each row, or its number."""
        figures = {} if self._cleaning is None else {"cleaning": self._cleaning.document()}
        if self.labels:
            return RowTargets(rows.indices(self.labels), figures)
        is_squared = self._loss == SQUARED
        return NumberTargets(
            rows.numbers(), self.network.target, is_squared=is_squared, figures=figures
        )

    def collate(
        self,
        examples: EncodedRows,
        rows: NDArray[np.int64],
        *,
        draw: np.random.Generator | None = None,
    ) -> dict[str, Any]:
        """Return numbers (batch, c, f) and places (batch, c), some hidden while training."""
        table = examples.matrix[rows]
        if draw is not None and self._hidden_share:
            table = np.where(draw.random(table.shape) < self._hidden_share, np.nan, table)
        return dict(self.network.batch(table))

    def choose_trainable(self, recipe: Mapping[str, Any]) -> None:
        """Freeze all but the top layers; remember how much is hidden."""
        self._hidden_share = float(recipe["hidden_share"])
        choose_trainable(self.model, len(self.outputs), recipe["trainable_layers"])

    def batch_budget(self, recipe: Mapping[str, Any]) -> int:
        """Return the rows of one batch."""
        return int(recipe["batch_size"])

    def widen(self, labels: Sequence[str]) -> None:
        """Give the head an output for each of the labels."""
        widen_head(self.model, self.labels, labels)
        self.network = replace(self.network, labels=tuple(labels))
        self.card = replace(self.card, labels=tuple(labels))

    def save(self, directory: Path) -> None:
        """Write the version."""
        write(self.network, replace(self.card, is_pretrained=True), directory)


def write(network: Network, card: Card, directory: Path) -> None:
    """Write a version: weights, config.json and upkeep.json."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = network.model.state_dict()
    save_file({name: value.contiguous() for name, value in tensors.items()}, directory / WEIGHTS)
    write_json(directory / CONFIG, network.document())
    card.write(directory)
