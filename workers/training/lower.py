"""Must frozen layers be run again in every epoch? No: what they say of a row never changes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from workers.training.layers import stack_of
from workers.training.task_type import Examples, Learner

MAX_BYTES = 1 << 30
TOLERANCE = 1e-3
N_CHECKED = 8


class RowStates:
    """Hidden states of rows at one depth: n arrays of shape (length, d)."""

    def __init__(self, lengths: NDArray[np.int64]) -> None:
        self._lengths = lengths.tolist()
        self._kept: dict[int, Any] = {}

    @property
    def is_full(self) -> bool:
        """Return whether every row is there."""
        return len(self._kept) == len(self._lengths)

    def keep(self, rows: NDArray[np.int64], hidden: Any) -> None:
        """Remember a batch, (batch, seq, d), without its padding."""
        for position, row in enumerate(rows.tolist()):
            self._kept[row] = hidden[position, : self._lengths[row]].clone()

    def batch(self, rows: NDArray[np.int64]) -> Any:
        """Return a batch padded with zeros, (batch, seq, d)."""
        return torch.nn.utils.rnn.pad_sequence(
            [self._kept[row] for row in rows.tolist()], batch_first=True
        )


class LowerLayers:
    """The frozen blocks of a model's stack, which can be skipped when their output is known."""

    def __init__(self, model: Any, n_trainable: int) -> None:
        stack = stack_of(model)
        blocks = stack[1] if stack else []
        self._lower = blocks[:-n_trainable] if n_trainable else blocks[:-1]
        self._first = blocks[len(self._lower)]
        self._given: Any = None
        self.taken: Any = None
        self._first.register_forward_pre_hook(self._meet)

    def _meet(self, _: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self._given is not None:
            return (self._given, *arguments[1:])
        self.taken = arguments[0].detach()
        return None

    @contextmanager
    def skipped(self, hidden: Any) -> Iterator[None]:
        """Have the model start at its first trainable block, from these hidden states."""
        self._given = hidden
        for block in self._lower:
            block.forward = _pass_on
        try:
            yield
        finally:
            self._given = None
            for block in self._lower:
                del block.forward


def _pass_on(hidden: Any, *_: Any, **__: Any) -> Any:
    return hidden


def lower_layers(
    learner: Learner, recipe: Mapping[str, Any], examples: Examples
) -> LowerLayers | None:
    """Return the layers that need to run once only; None where that cannot be done.

    It is possible where nothing random happens below and the blocks pass hidden states on in the
    usual way, which is tried on a few rows: both ways must give the same logits.
    """
    n_trainable = recipe["trainable_layers"]
    stack = stack_of(learner.model)
    if not learner.can_reuse_lower or n_trainable is None or stack is None:
        return None
    width = int(getattr(learner.model.config, "hidden_size", 0))
    size_bytes = int(examples.lengths.sum()) * width * 4
    if len(stack[1]) - max(1, n_trainable) < 1 or size_bytes > MAX_BYTES:
        return None
    lower = LowerLayers(learner.model, int(n_trainable))
    return lower if _is_faithful(learner, lower, examples) else None


def _is_faithful(learner: Learner, lower: LowerLayers, examples: Examples) -> bool:
    """Return whether skipping the lower layers leaves the logits as they are."""
    model = learner.model
    model.eval()
    rows = np.arange(min(N_CHECKED, len(examples.lengths)), dtype=np.int64)
    states = RowStates(examples.lengths)
    batch = learner.collate(examples, rows)
    with torch.inference_mode():
        whole = model(**batch).logits
        hidden = lower.taken
        widest = int(examples.lengths[rows].max())
        if hidden is None or hidden.ndim != 3 or hidden.shape[1] != widest:
            return False
        states.keep(rows, hidden)
        try:
            with lower.skipped(states.batch(rows)):
                short = model(**batch).logits
        except (AttributeError, TypeError, ValueError, RuntimeError):
            return False
    return bool((whole - short).abs().max() <= TOLERANCE)
