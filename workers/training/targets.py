"""What are rows to be answered with: one class each, one for each of their tokens, or a number?

The loop teaches any of them. Of tokens, those that no answer is about (the special ones, padding)
are `IGNORED` by the loss.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from app.domain.spans import Reading, Span, added_up, matched
from upkeep.spans import spans_of_tags
from workers.training import number_metrics
from workers.training.metrics import accuracy, log_loss, summarise
from workers.training.row_file import RowFile

Scores = NDArray[np.float32]
Places = NDArray[np.int64]

IGNORED: Final = -100
"""What torch's cross entropy leaves out by default."""
N_FIT_ROWS: Final = 50_000
"""Rows, or tokens, that a probe is fitted to, of more; what bounds its memory."""
N_FIT_ROWS_EACH: Final = 20
"""Of each class at least, where it has as many."""


class Targets(Protocol):
    """The classes of n rows, by the places of a version's outputs; or their numbers.

    Attributes:
        are_of_rows: one class a row; else one a token.
        judged_by: the metrics that tell the better of two epochs, the first that differs; 1 where
            more is better, -1 where less is.
        figures: what result.json is to tell of them.
    """

    are_of_rows: bool
    judged_by: Mapping[str, int]
    figures: Mapping[str, Any]

    def __len__(self) -> int:
        """Return n."""
        ...

    def counts(self, n_outputs: int) -> NDArray[np.int64]:
        """Return how often each output is the right one, shape (k,)."""
        ...

    def batch(self, rows: Places) -> NDArray[Any]:
        """Return the classes of a batch: (batch,), or (batch, seq) padded with `IGNORED`."""
        ...

    def flat(self, rows: Places) -> NDArray[Any]:
        """Return the classes of rows one after another, shape (m,), some `IGNORED` of tokens."""
        ...

    def sample(self, *, seed: int) -> Places:
        """Return the rows that a probe is fitted to, in order: all, or at random of very many."""
        ...

    def summarise(self, scores: Scores, outputs: Sequence[str]) -> dict[str, Any]:
        """Return every metric of scores (m, k), as `flat` has their classes."""
        ...


class RowTargets:
    """One class a row, shape (n,)."""

    are_of_rows = True
    judged_by: Mapping[str, int] = MappingProxyType({"accuracy": 1, "log_loss": -1})

    def __init__(
        self, truth: NDArray[np.int64], figures: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        self.truth, self.figures = truth, figures

    def __len__(self) -> int:
        return len(self.truth)

    def counts(self, n_outputs: int) -> NDArray[np.int64]:
        """Return how many rows each class has."""
        return np.bincount(self.truth, minlength=n_outputs)

    def batch(self, rows: Places) -> NDArray[np.int64]:
        """Return the classes of a batch, (batch,)."""
        return self.truth[rows]

    def flat(self, rows: Places) -> NDArray[np.int64]:
        """Return the classes of rows."""
        return self.truth[rows]

    def sample(self, *, seed: int) -> Places:
        """Return the rows that `sampled` chooses."""
        return sampled(self.truth, seed=seed)

    def summarise(self, scores: Scores, outputs: Sequence[str]) -> dict[str, Any]:
        """Return the metrics of classes."""
        return summarise(self.truth, scores, outputs)


def sampled(
    truth: NDArray[np.int64], *, seed: int = 0, order: NDArray[np.int64] | None = None
) -> Places:
    """Return at most `N_FIT_ROWS` rows in order, and `N_FIT_ROWS_EACH` of each class at least.

    Args:
        truth: the class of each row, shape (n,).
        seed: draws them.
        order: takes the first of these instead, shape (n,).
    """
    n = len(truth)
    if n <= N_FIT_ROWS:
        return np.arange(n)
    if order is None:
        order = np.random.default_rng(seed).permutation(n)
    is_chosen = np.zeros(n, dtype=bool)
    is_chosen[order[:N_FIT_ROWS]] = True
    for number in np.unique(truth).tolist():
        is_chosen[order[truth[order] == number][:N_FIT_ROWS_EACH]] = True
    return np.flatnonzero(is_chosen)


class NumberTargets:
    """One number a row, shape (n,); what a version tells is counted in its scales from its center.

    Attributes:
        is_squared: whether errors count by their squares.
    """

    are_of_rows = True

    def __init__(
        self,
        truth: NDArray[np.float64],
        target: tuple[float, float],
        *,
        is_squared: bool,
        figures: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.truth, self._target, self.is_squared = truth, target, is_squared
        self.judged_by: Mapping[str, int] = {"rmse" if is_squared else "mae": -1}
        self.figures = figures

    def __len__(self) -> int:
        return len(self.truth)

    def counts(self, n_outputs: int) -> NDArray[np.int64]:
        """Return how many rows there are: one output tells all of their numbers."""
        return np.full(n_outputs, len(self.truth))

    def batch(self, rows: Places) -> NDArray[np.float32]:
        """Return the numbers of a batch in scales from the center, (batch,)."""
        center, scale = self._target
        return ((self.truth[rows] - center) / scale).astype(np.float32)

    def flat(self, rows: Places) -> NDArray[np.float32]:
        """Return the numbers of rows, likewise."""
        return self.batch(rows)

    def sample(self, *, seed: int) -> Places:  # nothing is drawn: no head is fitted to numbers
        """Return all rows."""
        return np.arange(len(self.truth))

    def summarise(self, scores: Scores, outputs: Sequence[str]) -> dict[str, Any]:
        """Return the metrics of numbers, in the unit of the labels."""
        center, scale = self._target
        said = center + scale * scores[:, 0].astype(np.float64)
        return number_metrics.summarise(self.truth, said, None)


class TokenTargets:
    """One class a token: n arrays of shape (length,), in a file."""

    are_of_rows = False
    judged_by: Mapping[str, int] = MappingProxyType({"token_accuracy": 1, "log_loss": -1})

    def __init__(self, tags: RowFile, figures: Mapping[str, Any]) -> None:
        self.tags, self.figures = tags, figures

    def __len__(self) -> int:
        return len(self.tags)

    def counts(self, n_outputs: int) -> NDArray[np.int64]:
        """Return how many tokens each class has."""
        found = np.zeros(n_outputs, dtype=np.int64)
        for row in range(len(self.tags)):
            tags = self.tags[row]
            found += np.bincount(tags[tags != IGNORED], minlength=n_outputs)
        return found

    def batch(self, rows: Places) -> NDArray[np.int64]:
        """Return the classes of a batch, (batch, seq)."""
        width = int(self.tags.lengths[rows].max())
        found = np.full((len(rows), width), IGNORED, dtype=np.int64)
        for position, row in enumerate(rows.tolist()):
            tags = self.tags[row]
            found[position, : len(tags)] = tags
        return found

    def flat(self, rows: Places) -> NDArray[np.int64]:
        """Return the classes of rows' tokens."""
        parts = [self.tags[row] for row in rows.tolist()]
        return np.concatenate([*parts, np.empty(0, dtype=np.int64)]).astype(np.int64)

    def sample(self, *, seed: int) -> Places:
        """Return rows of at most `N_FIT_ROWS` tokens together; one at least."""
        order = np.random.default_rng(seed).permutation(len(self.tags))
        n = int(np.searchsorted(np.cumsum(self.tags.lengths[order]), N_FIT_ROWS, side="right"))
        return np.sort(order[: max(1, n)])

    def summarise(self, scores: Scores, outputs: Sequence[str]) -> dict[str, Any]:
        """Return how right the tokens are, and the spans that they tell, by tokens.

        Spans that do not fit the tokens count as they could be said; a worker holds the answers
        against the labels themselves.
        """
        truth = self.flat(np.arange(len(self)))
        known = truth != IGNORED
        said, found, start = scores.argmax(axis=1), [], 0
        for row in range(len(self)):
            tags = self.tags[row]
            own, is_known = said[start : start + len(tags)], tags != IGNORED
            start += len(tags)
            found.append(matched(_read(own[is_known], outputs), _read(tags[is_known], outputs)))
        total = added_up(found)
        return {
            "n": len(self),
            "f1_micro": total.f1,
            "precision_micro": total.precision,
            "recall_micro": total.recall,
            "f1_samples": float(np.mean([one.f1 for one in found])),
            "exact_match": float(np.mean([one.f1 == 1.0 for one in found])),
            "n_tokens": int(known.sum()),
            "token_accuracy": accuracy(truth[known], scores[known]),
            "log_loss": log_loss(truth[known], scores[known]),
        }


def _read(tags: NDArray[np.int64], outputs: Sequence[str]) -> Reading:
    """Return the spans that tags tell, in tokens."""
    starts = np.arange(len(tags))
    places = np.column_stack([starts, starts + 1])
    return tuple(Span(*one) for one in spans_of_tags([outputs[k] for k in tags.tolist()], places))
