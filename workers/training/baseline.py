"""What does the fixed yardstick score: the pretrained base, with nothing but a probe for a head?"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.training import probe, ridge
from workers.training.data import Rows, check_labels, check_numbers
from workers.training.task_type import HasColumns, Inputs, TaskType


def probe_baseline(
    task_type: TaskType,
    base_model: str,
    labels: Sequence[str],
    train: Rows,
    evaluate: Inputs,
    *,
    seed: int,
    input_contract: Sequence[Mapping[str, Any]] | None = None,
) -> NDArray[np.float32]:
    """Return the baseline's probabilities on `evaluate`, shape (n, k).

    The base's features (random ones where the base is untrained) with a linear probe fitted on
    `train`; no weight of the base moves. The features of columns are their values in scale.

    Raises:
        DataError: the training rows cannot teach these labels.
    """
    check_labels(train, labels, role="training", n_classes_needed=2)
    with tempfile.TemporaryDirectory(prefix="baseline-") as scratch:
        directory = Path(scratch) / "version"
        task_type.create(base_model, labels, directory, seed=seed, input_contract=input_contract)
        if isinstance(task_type, HasColumns):
            task_type.fit_columns(directory, train.inputs)
        classifier = task_type.load(directory)
        fitted = probe.fit(
            classifier.features(train.inputs), train.indices(labels), len(labels), seed=seed
        )
        if not evaluate:
            return np.zeros((0, len(labels)), dtype=np.float32)
        return fitted.scores(classifier.features(evaluate))


def linear_baseline(
    task_type: TaskType,
    base_model: str,
    train: Rows,
    evaluate: Inputs,
    *,
    seed: int,
    input_contract: Sequence[Mapping[str, Any]] | None = None,
) -> NDArray[np.float64]:
    """Return the numbers that a linear model of the base's features answers `evaluate` with, (n,).

    Raises:
        DataError: the training rows cannot teach a number.
    """
    check_numbers(train, role="training", n_different_needed=2)
    with tempfile.TemporaryDirectory(prefix="baseline-") as scratch:
        directory = Path(scratch) / "version"
        task_type.create(base_model, (), directory, seed=seed, input_contract=input_contract)
        if isinstance(task_type, HasColumns):
            task_type.fit_columns(directory, train.inputs)
        version = task_type.load(directory)
        fitted = ridge.fit(version.features(train.inputs), train.numbers())
        return fitted.values(version.features(evaluate)) if evaluate else np.zeros(0)
