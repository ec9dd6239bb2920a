"""Must frozen layers be run again in every epoch? No: what they say of a row never changes."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from workers.training.layers import stack_of
from workers.training.row_file import RowFile
from workers.training.task_type import Examples, Learner

MAX_BYTES = 1 << 30
"""Of hidden states kept; and never more than half of what the disk has left."""
TOLERANCE = 1e-3
N_CHECKED = 8


class RowStates:
    """Hidden states of rows at one depth: n arrays of shape (length, d).

    Those of a CPU lie in a file, those of a GPU stay in its memory; either is bounded by
    `MAX_BYTES`, beyond which nothing is kept.
    """

    def __init__(self, lengths: NDArray[np.int64]) -> None:
        self._lengths = lengths
        self._is_kept = np.zeros(len(lengths), dtype=bool)
        self._n_missing = len(lengths)
        self._file: RowFile | None = None
        self._on_device: dict[int, Any] = {}
        self._kind: Any = None

    @property
    def is_full(self) -> bool:
        """Return whether every row is there."""
        return self._n_missing == 0

    def keep(self, rows: NDArray[np.int64], hidden: Any) -> None:
        """Remember a batch, (batch, seq, d), without its padding."""
        self._n_missing -= int(np.count_nonzero(~self._is_kept[rows]))
        self._is_kept[rows] = True
        if hidden.device.type != "cpu":
            for position, row in enumerate(rows.tolist()):
                self._on_device[row] = hidden[position, : self._lengths[row]].clone()
            return
        self._kind = hidden.dtype
        values = hidden.detach().contiguous().view(torch.uint8).numpy()
        if self._file is None:
            self._file = RowFile(self._lengths, np.uint8, values.shape[2:])
        for position, row in enumerate(rows.tolist()):
            self._file.put(row, values[position, : self._lengths[row]])

    def batch(self, rows: NDArray[np.int64]) -> Any:
        """Return a batch padded with zeros, (batch, seq, d)."""
        if self._file is None:
            return torch.nn.utils.rnn.pad_sequence(
                [self._on_device[row] for row in rows.tolist()], batch_first=True
            )
        found = [self._file[row] for row in rows.tolist()]
        padded = np.zeros((len(rows), max(map(len, found)), found[0].shape[1]), dtype=np.uint8)
        for position, values in enumerate(found):
            padded[position, : len(values)] = values
        return torch.from_numpy(padded).view(self._kind)


class LowerLayers:
    """The frozen blocks of a model's stack, which can be skipped when their output is known."""

    def __init__(self, model: Any, n_trainable: int) -> None:
        stack = stack_of(model)
        blocks = stack[1] if stack else []
        self._lower = blocks[:-n_trainable] if n_trainable else blocks[:-1]
        self._upper = blocks[len(self._lower) :]
        self._first = self._upper[0]
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
        try:
            with _passed_on(self._lower):
                yield
        finally:
            self._given = None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Have the model end at its first trainable block; what it answers then means nothing."""
        with _passed_on(self._upper):
            yield


@contextmanager
def _passed_on(blocks: Sequence[Any]) -> Iterator[None]:
    """Have blocks hand on what they are given."""
    for block in blocks:
        block.forward = _pass_on
    try:
        yield
    finally:
        for block in blocks:
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
    room = min(MAX_BYTES, shutil.disk_usage(tempfile.gettempdir()).free // 2)
    if len(stack[1]) - max(1, n_trainable) < 1 or size_bytes > room:
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
    gap = (whole - short).abs()
    if learner.answers_tokens:  # what is said of padding is of no account
        gap[batch["attention_mask"] == 0] = 0.0
    return bool(gap.max() <= TOLERANCE)
