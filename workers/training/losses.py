"""How wrong are logits, and what do they answer? Of classes, and of numbers."""

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from workers.training.data import class_weights
from workers.training.probe import softmax
from workers.training.targets import IGNORED, NumberTargets, Scores, Targets


class Loss(Protocol):
    """What a model is taught by.

    Attributes:
        guessing: the mean loss of whoever knows nothing of a row.
    """

    guessing: float

    def __call__(self, logits: Any, truth: Any) -> Any:  # torch is untyped here
        """Return the mean loss of logits, (batch, k) or (batch, seq, k), over what counts."""
        ...

    def weight(self, truth: NDArray[Any]) -> float:
        """Return how much rows count, or their tokens."""
        ...

    def answers(self, logits: Scores) -> Scores:
        """Return what logits (n, k) answer, as `Targets.summarise` takes it."""
        ...


class OfClasses:
    """Cross entropy, in nats, by the weights of classes."""

    def __init__(self, counts: NDArray[np.int64], recipe: Mapping[str, Any], device: str) -> None:
        self._weights = class_weights(counts, power=float(recipe["class_weight_power"]))
        self.guessing = math.log(len(counts))
        self._criterion = nn.CrossEntropyLoss(
            ignore_index=IGNORED,
            weight=torch.from_numpy(self._weights).to(device),
            label_smoothing=float(recipe["label_smoothing"]),
        )

    def __call__(self, logits: Any, truth: Any) -> Any:
        """Return the mean cross entropy."""
        return self._criterion(logits.reshape(-1, logits.shape[-1]), truth.reshape(-1))

    def weight(self, truth: NDArray[Any]) -> float:
        """Return the weights of classes, added up."""
        return float(self._weights[truth[truth != IGNORED]].sum())

    def answers(self, logits: Scores) -> Scores:
        """Return probabilities."""
        return softmax(logits)


class OfNumbers:
    """The squared or the absolute error, in scales of the target.

    Guessing is to answer the center that the version counts from, or the best constant, whichever
    is worse: where labels have moved since, a start knows no more.
    """

    def __init__(self, truth: NDArray[np.float32], *, is_squared: bool) -> None:
        self._criterion = nn.MSELoss() if is_squared else nn.L1Loss()
        wide = truth.astype(np.float64)
        constant = wide.mean() if is_squared else np.median(wide)
        power = 2 if is_squared else 1
        errors = (np.abs(wide) ** power).mean(), (np.abs(wide - constant) ** power).mean()
        self.guessing = float(max(errors))

    def __call__(self, logits: Any, truth: Any) -> Any:
        """Return the mean error."""
        return self._criterion(logits[:, 0], truth)

    def weight(self, truth: NDArray[Any]) -> float:
        """Return how many rows there are."""
        return float(len(truth))

    def answers(self, logits: Scores) -> Scores:
        """Return the logits: numbers are what they say."""
        return logits


def loss_of(targets: Targets, n_outputs: int, recipe: Mapping[str, Any], device: str) -> Loss:
    """Return what teaches targets."""
    if isinstance(targets, NumberTargets):
        return OfNumbers(targets.batch(np.arange(len(targets))), is_squared=targets.is_squared)
    return OfClasses(targets.counts(n_outputs), recipe, device)
