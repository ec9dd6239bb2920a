"""What does a model learn from between two rows? Their blend, with the labels blended likewise.

mixup (Zhang et al., 2018) blends inputs, where these are numbers; where they are not, as with the
tokens of texts, what the head sees of them is blended (manifold mixup; Verma et al., 2019).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Mix:
    """How the rows of a batch are blended.

    Attributes:
        share: of each row itself, in [0, 1]; the rest is its partner's.
        partners: the row that each is blended with, shape (batch,).
    """

    share: float
    partners: NDArray[np.int64]

    def of(self, values: Any) -> Any:  # torch is untyped here
        """Return blended values, the first dimension that of the batch."""
        others = values[torch.from_numpy(self.partners).to(values.device)]
        return torch.lerp(others, values, self.share)

    def loss(self, criterion: Callable[[Any, Any], Any], logits: Any, truth: Any) -> Any:
        """Return the loss of both labels of each row, each by its share."""
        others = truth[torch.from_numpy(self.partners).to(truth.device)]
        own = criterion(logits, truth)
        return self.share * own + (1 - self.share) * criterion(logits, others)


def drawn(n: int, strength: float, draw: np.random.Generator) -> Mix:
    """Draw how a batch of n rows is blended; `strength` is the parameter of Beta(a, a)."""
    return Mix(float(draw.beta(strength, strength)), draw.permutation(n))


def mixes_inputs(batch: dict[str, Any]) -> bool:
    """Return whether all inputs are numbers, which can be blended."""
    return all(value.is_floating_point() for value in batch.values())


def mixed_inputs(batch: dict[str, Any], mix: Mix) -> dict[str, Any]:
    """Return a batch of numbers, blended."""
    return {name: mix.of(value) for name, value in batch.items()}


@contextmanager
def mixed_features(head: Any, mix: Mix) -> Iterator[None]:
    """Have a head see blended features, (batch, ..., d)."""
    hook = head.register_forward_pre_hook(lambda _, given: (mix.of(given[0]), *given[1:]))
    try:
        yield
    finally:
        hook.remove()
