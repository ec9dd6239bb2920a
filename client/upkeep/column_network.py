"""What does a network over columns answer? Plain torch; needs the `[predict]` extra.

A version is model.safetensors and config.json: the columns in their order, with the categories and
the knots of each, the sizes of the network, and the classes in theirs (`id2label`), or the unit
that it counts numbers in (`target`). docs/tabular.md has the lines that load it without Upkeep.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from upkeep.artifacts import read_json
from upkeep.tables import (
    CATEGORY,
    CONFIG,
    NUMBER,
    Column,
    Inputs,
    Matrix,
    matrix,
    read_columns,
    read_labels,
)

MODEL_TYPE: Final = "column-network"
WEIGHTS: Final = "model.safetensors"
FARTHEST: Final = 5.0
"""Scales from the center beyond which a number is shown no farther out."""
N_MORE: Final = 2
"""Of what is shown of a number beside its bins: its distance from the center, whether it is
missing."""
N_BOOLEANS: Final = 2
ROWS_EACH: Final = 1024
"""Rows answered at once."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large a network is.

    Attributes:
        embedding_size: numbers that stand for one column.
        n_bins: most bins that a column's numbers are read by.
        hidden_sizes: units of each layer, one at least.
        dropout: share of the units dropped while training.
    """

    embedding_size: int = 16
    n_bins: int = 16
    hidden_sizes: tuple[int, ...] = (128, 128)
    dropout: float = 0.1

    @classmethod
    def read(cls, config: Any) -> "Sizes":  # JSON
        """Return what a config.json states; what it leaves out is as above.

        Raises:
            ValueError: a size is none.
        """
        stated = config if isinstance(config, dict) else {}
        hidden = stated.get("hidden_sizes", list(cls().hidden_sizes))
        embedding_size = stated.get("embedding_size", cls().embedding_size)
        n_bins = stated.get("n_bins", cls().n_bins)
        dropout = stated.get("dropout", cls().dropout)
        counts = [embedding_size, n_bins, *(hidden if isinstance(hidden, list) else [None])]
        if not all(type(one) is int and 1 <= one <= 65_536 for one in counts) or not hidden:
            raise ValueError(
                "config.json needs whole numbers above 0: embedding_size, n_bins, hidden_sizes"
            )
        if type(dropout) not in {int, float} or not 0 <= dropout < 1:
            raise ValueError("config.json needs a dropout in [0, 1)")
        return cls(embedding_size, n_bins, tuple(hidden), float(dropout))

    def document(self) -> dict[str, Any]:
        """Return the sizes as config.json has them."""
        return {
            "embedding_size": self.embedding_size,
            "n_bins": self.n_bins,
            "hidden_sizes": list(self.hidden_sizes),
            "dropout": self.dropout,
        }


class Said(NamedTuple):
    """What a network says of rows: logits, shape (batch, k)."""

    logits: Any


class NumberEmbeddings(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A linear map and a rectifier for each number, of how far it fills each of its bins.

    Piecewise linear encoding (Gorishniy et al., 2022): a number is one in each bin below it, the
    share of the way through its own, and zero above.
    """

    def __init__(self, n_columns: int, n_features: int, size: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(n_features)
        self.weight = nn.Parameter(torch.empty(n_columns, n_features, size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_columns, size).uniform_(-bound, bound))

    def forward(self, numbers: Any) -> Any:
        """Return (batch, c, f) as (batch, c, d)."""
        return torch.relu(torch.einsum("ncf,cfd->ncd", numbers, self.weight) + self.bias)


class CategoryEmbeddings(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A row for each category of each column; before them one for what is missing or unseen.

    All rows start at zero: a category that was never seen is one of which nothing is known.
    """

    def __init__(self, n_rows: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_rows, size))

    def forward(self, places: Any) -> Any:
        """Return (batch, c) as (batch, c, d)."""
        return nn.functional.embedding(places, self.weight)


class ColumnNetwork(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """An embedding of each column, layers over all of them together, and a linear head."""

    def __init__(self, columns: Sequence[Column], sizes: Sizes, n_outputs: int) -> None:
        super().__init__()
        n_numbers, rows = len(numbers_of(columns)), rows_of(columns)
        size = sizes.embedding_size
        self.numbers = self.categories = None
        if n_numbers:
            self.numbers = NumberEmbeddings(n_numbers, sizes.n_bins + N_MORE, size)
        if rows:
            self.categories = CategoryEmbeddings(sum(rows), size)
        widths = [len(columns) * size, *sizes.hidden_sizes]
        self.layers = nn.ModuleList([nn.Linear(*pair) for pair in pairwise(widths)])
        self.dropout = nn.Dropout(sizes.dropout)
        self.head = nn.Linear(widths[-1], n_outputs)

    def forward(self, numbers: Any, places: Any) -> Said:
        """Answer what `shown` made of rows: (batch, c, f) and (batch, c)."""
        parts = []
        if self.numbers is not None:
            parts.append(self.numbers(numbers).flatten(1))
        if self.categories is not None:
            parts.append(self.categories(places).flatten(1))
        hidden = torch.cat(parts, dim=1)  # (batch, columns * d)
        for layer in self.layers:
            hidden = self.dropout(torch.relu(layer(hidden)))
        return Said(self.head(hidden))


def numbers_of(columns: Sequence[Column]) -> list[int]:
    """Return the places of the columns that are numbers."""
    return [place for place, column in enumerate(columns) if column.type == NUMBER]


def rows_of(columns: Sequence[Column]) -> list[int]:
    """Return how many rows each other column has: one for missing, one for each category."""
    return [
        1 + (len(column.categories) if column.type == CATEGORY else N_BOOLEANS)
        for column in columns
        if column.type != NUMBER
    ]


def shown(
    columns: Sequence[Column], n_bins: int, table: Matrix
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return what a network sees of encoded rows (n, c): numbers (n, c', f) and places (n, c'').

    Of a number: its distance from the center in scales, how far it fills each bin, and whether it
    is missing, in which case all else is 0. Of a category or boolean: its row.
    """
    among = numbers_of(columns)
    values = table[:, among]  # (n, c')
    gone = np.isnan(values)
    own = [columns[place] for place in among]
    center = np.asarray([column.center for column in own])
    scale = np.asarray([column.scale for column in own])
    low, width = _bins(own, n_bins)
    known = np.where(gone, center, values)
    with np.errstate(over="ignore"):
        distance = np.clip((known - center) / scale, -FARTHEST, FARTHEST)
        filled = np.clip((known[:, :, None] - low) / width, 0.0, 1.0)  # (n, c', bins)
    seen = np.concatenate([distance[:, :, None], filled], axis=2) * ~gone[:, :, None]
    numbers = np.concatenate([seen, gone[:, :, None]], axis=2).astype(np.float32)
    others = [place for place in range(len(columns)) if place not in set(among)]
    rows = np.nan_to_num(table[:, others] + 1.0, nan=0.0).astype(np.int64)
    first = np.cumsum([0, *rows_of(columns)])[:-1]
    return numbers, rows + first


def _bins(columns: Sequence[Column], n_bins: int) -> tuple[Matrix, Matrix]:
    """Return where bins begin and how wide they are, (c, bins); those there are not never fill."""
    low = np.zeros((len(columns), n_bins))
    width = np.full((len(columns), n_bins), np.inf)
    for place, column in enumerate(columns):
        knots = np.asarray(column.knots)
        n = max(0, len(knots) - 1)
        low[place, :n], width[place, :n] = knots[:-1], np.diff(knots)
    return low, width


@dataclass(frozen=True, slots=True)
class Network:
    """A version: a network, and what its inputs and outputs mean.

    Attributes:
        labels: class names, in the order of the logits; none where it answers with numbers.
        columns: what it reads, in the order of its features.
        target: center and scale of the numbers: what the logits 0 and 1 mean.
    """

    labels: tuple[str, ...]
    columns: tuple[Column, ...]
    target: tuple[float, float]
    sizes: Sizes
    model: Any

    @classmethod
    def drawn(
        cls, labels: Sequence[str], columns: Sequence[Column], sizes: Sizes, *, seed: int
    ) -> "Network":
        """Return an untrained version."""
        torch.manual_seed(seed)
        model = ColumnNetwork(columns, sizes, len(labels) or 1)
        return cls(tuple(labels), tuple(columns), (0.0, 1.0), sizes, model)

    @classmethod
    def read(cls, directory: Path, *, has_labels: bool = True) -> "Network":
        """Read a version.

        Args:
            directory: where it lies.
            has_labels: whether it sorts into classes, rather than answering with numbers.

        Raises:
            ValueError: it is no such version; says what is wrong.
        """
        config = read_json(directory / CONFIG)
        labels, columns = read_labels(config) if has_labels else (), read_columns(config)
        sizes = Sizes.read(config)
        if any(len(column.knots) > sizes.n_bins + 1 for column in columns):
            raise ValueError("config.json gives a column more knots than it has bins")
        target = (0.0, 1.0) if has_labels else _target(config)
        with torch.device("meta"):  # no memory is taken for what the file does not hold
            model = ColumnNetwork(columns, sizes, len(labels) or 1)
        try:
            tensors = load_file(directory / WEIGHTS)
            model.load_state_dict(
                {name: value.float() for name, value in tensors.items()}, strict=True, assign=True
            )
        except (OSError, SafetensorError, RuntimeError) as error:
            raise ValueError(f"{WEIGHTS} does not hold this network: {error}") from error
        if not all(bool(value.isfinite().all()) for value in model.parameters()):
            raise ValueError(f"{WEIGHTS} holds weights that are no numbers")
        return cls(labels, columns, target, sizes, model.eval())

    def document(self) -> dict[str, Any]:
        """Return the version as config.json has it."""
        center, scale = self.target
        meaning: dict[str, Any] = {"target": {"center": center, "scale": scale}}
        if self.labels:
            names = {str(place): label for place, label in enumerate(self.labels)}
            ids = {label: place for place, label in enumerate(self.labels)}
            meaning = {"id2label": names, "label2id": ids}
        columns = [column.document() for column in self.columns]
        own = {"model_type": MODEL_TYPE, "columns": columns, **self.sizes.document()}
        return {**own, **meaning}

    def with_columns(self, columns: Sequence[Column]) -> "Network":
        """Return the version with more categories, each as if it were missing until it learns."""
        embeddings = self.model.categories
        if embeddings is not None:
            before, after = rows_of(self.columns), rows_of(columns)
            parts = torch.split(embeddings.weight.detach(), before)
            grown = [
                torch.cat([part, part[:1].expand(n - len(part), -1)])
                for part, n in zip(parts, after, strict=True)
            ]
            embeddings.weight = nn.Parameter(torch.cat(grown))
        return replace(self, columns=tuple(columns))

    def scores(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return probabilities, shape (n, k).

        Raises:
            ValueError: a value is of another type than its column.
        """
        return self.scores_of(matrix(self.columns, inputs))

    def scores_of(self, table: Matrix) -> NDArray[np.float32]:
        """Return the probabilities of encoded rows, shape (n, c) to (n, k)."""
        found = np.zeros((len(table), len(self.labels)), dtype=np.float32)
        for rows, logits in self._logits(table):
            found[rows] = logits.softmax(dim=1).cpu().numpy()
        return found

    def values(self, inputs: Inputs) -> NDArray[np.float64]:
        """Return numbers, shape (n,).

        Raises:
            ValueError: a value is of another type than its column.
        """
        return self.values_of(matrix(self.columns, inputs))

    def values_of(self, table: Matrix) -> NDArray[np.float64]:
        """Return the numbers of encoded rows, shape (n, c) to (n,)."""
        found = np.zeros(len(table))
        for rows, logits in self._logits(table):
            found[rows] = logits[:, 0].double().cpu().numpy()
        center, scale = self.target
        return center + scale * found

    def batch(self, table: Matrix) -> Mapping[str, Any]:
        """Return encoded rows as the network takes them."""
        device = next(self.model.parameters()).device
        numbers, places = shown(self.columns, self.sizes.n_bins, table)
        return {
            "numbers": torch.from_numpy(numbers).to(device),
            "places": torch.from_numpy(places).to(device),
        }

    def _logits(self, table: Matrix) -> Iterator[tuple[slice, Any]]:
        for start in range(0, len(table), ROWS_EACH):
            rows = slice(start, start + ROWS_EACH)
            with torch.inference_mode():
                yield rows, self.model(**self.batch(table[rows])).logits


def _target(config: Any) -> tuple[float, float]:  # JSON
    stated = config.get("target") if isinstance(config, dict) else None
    stated = stated if isinstance(stated, dict) else {}
    numbers: list[Any] = [stated.get("center"), stated.get("scale")]
    center, scale = [float(one) if type(one) in {int, float} else math.nan for one in numbers]
    if not (math.isfinite(center) and math.isfinite(scale) and scale > 0):
        raise ValueError(
            'config.json must say what the network counts numbers in: "target": {"center", '
            '"scale"}, finite, the scale above 0'
        )
    return center, scale
