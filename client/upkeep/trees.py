"""What does a version of boosted trees answer? Plain LightGBM; needs the `[predict]` extra.

A version is a LightGBM text model, model.txt, and config.json: the columns in their order, with
the categories of each, and the classes in theirs (`id2label`), where it sorts into classes. Whoever
has no Upkeep loads it so: `lightgbm.Booster(model_file="model.txt").predict(matrix)`.
"""

from collections.abc import Sequence
from pathlib import Path

import lightgbm
import numpy as np
from numpy.typing import NDArray

from upkeep.artifacts import read_json
from upkeep.tables import (
    CONFIG,
    MODEL,
    Column,
    Inputs,
    Matrix,
    feature_names,
    matrix,
    read_columns,
    read_labels,
)
from upkeep.tree_text import OF_CLASSES, OF_NUMBERS, check_tree_text


class Trees:
    """A LightGBM model over columns.

    Attributes:
        labels: class names, in the order of the scores; none where it answers with numbers.
        columns: what it reads, in the order of its features.
    """

    def __init__(self, text: str, labels: Sequence[str], columns: Sequence[Column]) -> None:
        """Read a text model.

        Raises:
            ValueError: it is none, or its features or classes are not those stated.
        """
        self.labels = tuple(labels)
        self.columns = tuple(columns)
        self.booster = _booster(text, OF_CLASSES if self.labels else OF_NUMBERS)
        _check(self.booster, self.labels, self.columns)

    @classmethod
    def read(cls, directory: Path, *, has_labels: bool = True) -> "Trees":
        """Read a version.

        Args:
            directory: where it lies.
            has_labels: whether it sorts into classes, rather than answering with numbers.

        Raises:
            ValueError: it is no version of trees; says what is wrong.
        """
        config = read_json(directory / CONFIG)
        labels, columns = read_labels(config) if has_labels else (), read_columns(config)
        try:
            text = (directory / MODEL).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{MODEL} cannot be read: {error}") from error
        return cls(text, labels, columns)

    def scores(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return probabilities, shape (n, k).

        Raises:
            ValueError: a value is of another type than its column.
        """
        return self.scores_of(matrix(self.columns, inputs))

    def scores_of(self, table: Matrix) -> NDArray[np.float32]:
        """Return the probabilities of encoded rows, shape (n, c) to (n, k)."""
        if not len(table):
            return np.zeros((0, len(self.labels)), dtype=np.float32)
        said = np.asarray(self.booster.predict(table, num_threads=1), dtype=np.float64)
        if said.ndim == 1:  # (n,): of the second of two classes
            said = np.stack([1.0 - said, said], axis=1)  # (n, 2)
        return said.astype(np.float32)

    def values(self, inputs: Inputs) -> NDArray[np.float64]:
        """Return numbers, shape (n,).

        Raises:
            ValueError: a value is of another type than its column.
        """
        return self.values_of(matrix(self.columns, inputs))

    def values_of(self, table: Matrix) -> NDArray[np.float64]:
        """Return the numbers of encoded rows, shape (n, c) to (n,)."""
        if not len(table):
            return np.zeros(0)
        return np.asarray(self.booster.predict(table, num_threads=1), dtype=np.float64)


def _booster(text: str, objectives: Sequence[str]) -> lightgbm.Booster:
    try:
        check_tree_text(text, objectives)
        return lightgbm.Booster(model_str=text)
    except (ValueError, lightgbm.basic.LightGBMError) as error:
        raise ValueError(f"{MODEL} cannot be read: {error}") from error


def _check(booster: lightgbm.Booster, labels: tuple[str, ...], columns: tuple[Column, ...]) -> None:
    """Refuse trees that do not read these columns or do not tell these classes apart."""
    n_scores = booster.num_model_per_iteration()
    wanted = 1 if len(labels) in {0, 2} else len(labels)
    if n_scores != wanted:
        raise ValueError(
            f"{MODEL} gives {n_scores} scores a row; {len(labels)} labels need {wanted}"
            if labels
            else f"{MODEL} gives {n_scores} numbers a row; one is needed"
        )
    if booster.num_feature() != len(columns):
        raise ValueError(
            f"{MODEL} reads {booster.num_feature()} features and config.json names "
            f"{len(columns)} columns"
        )
    ours, theirs = feature_names(columns), booster.feature_name()
    if theirs != ours and sorted(theirs) == sorted(ours):
        raise ValueError(
            f"{MODEL} reads its columns in the order {', '.join(theirs)}; list them so in "
            "config.json"
        )
