"""Which tokens is a language model to learn to say, and how well does it say them?

A row is the start token, the input's text, the label's text, the end token; what is learned and
judged are the label's tokens and the end. Each place has the token after it for its class.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.training.row_file import RowFile
from workers.training.targets import IGNORED, Places, Scores

ID, IS_ANSWER = 0, 1
LOSS, IS_RIGHT = 0, 1
LARGEST_LOSS = 700.0
"""Whose exponential is a number."""


@dataclass(frozen=True, slots=True)
class Continuations:
    """Rows as tokens: n arrays of shape (length, 2), in a file: id, whether it is of the label.

    Attributes:
        n_cut: rows that were longer than what is read.
    """

    tokens: RowFile
    lengths: NDArray[np.int64]
    n_cut: int = 0

    def of(self, row: int) -> NDArray[Any]:
        """Return the ids of a row."""
        return self.tokens[row][:, ID]

    def classes(self, row: int) -> NDArray[np.int64]:
        """Return of each place the token after it, where that is of the label; else `IGNORED`."""
        table = self.tokens[row].astype(np.int64)
        found = np.full(len(table), IGNORED, dtype=np.int64)
        found[:-1] = np.where(table[1:, IS_ANSWER] == 1, table[1:, ID], IGNORED)
        return found


def joined(
    start: int, before: Sequence[int], answer: Sequence[int], end: int, limit: int
) -> tuple[NDArray[np.int64], bool]:
    """Return the tokens of a row, (length, 2), and whether some are not read.

    Of what is too long the answer loses its end, half of the limit at most stays to it; then the
    text before it loses its beginning.
    """
    room = max(limit - 2, 1)
    kept = list(answer[: max(room - len(before), room // 2, 1)])
    left = list(before[max(0, len(before) - (room - len(kept))) :]) if room > len(kept) else []
    is_cut = len(kept) < len(answer) or len(left) < len(before)
    ids = [start, *left, *kept] + ([end] if len(kept) == len(answer) else [])
    table = np.zeros((len(ids), 2), dtype=np.int64)
    table[:, ID] = ids
    table[1 + len(left) :, IS_ANSWER] = 1
    return table, is_cut


class ContinuationTargets:
    """The token after each place: n arrays of shape (length,), read from the rows themselves."""

    are_of_rows = False
    judged_by: Mapping[str, int] = MappingProxyType({"log_loss": -1})

    def __init__(self, rows: Continuations) -> None:
        self._rows = rows
        self.figures: Mapping[str, Any] = {"texts": {"n_cut": rows.n_cut}}

    def __len__(self) -> int:
        return len(self._rows.lengths)

    def counts(self, n_outputs: int) -> NDArray[np.int64]:
        """Return that all tokens count alike."""
        return np.ones(n_outputs, dtype=np.int64)

    def batch(self, rows: Places) -> NDArray[np.int64]:
        """Return the classes of a batch, (batch, seq)."""
        width = int(self._rows.lengths[rows].max())
        found = np.full((len(rows), width), IGNORED, dtype=np.int64)
        for position, classes in enumerate(self._of(rows)):
            found[position, : len(classes)] = classes
        return found

    def flat(self, rows: Places) -> NDArray[np.int64]:
        """Return the classes of rows, one after another."""
        return np.concatenate([*self._of(rows), np.empty(0, dtype=np.int64)])

    def _of(self, rows: Places) -> Iterator[NDArray[np.int64]]:
        return (self._rows.classes(row) for row in rows.tolist())

    def sample(self, *, seed: int) -> Places:
        """Return all rows."""
        return np.arange(len(self))

    def summarise(self, scores: Scores, outputs: Sequence[str]) -> dict[str, Any]:
        """Return how well tokens are said, of loss and rightness of each, (m, 2)."""
        loss, right = float(scores[:, LOSS].sum(dtype=np.float64)), int(scores[:, IS_RIGHT].sum())
        metrics = of_tokens(loss, right, len(scores), n_tokens=len(outputs))
        return {"n": len(self), "n_tokens": len(scores), **metrics}


def of_tokens(loss: float, n_right: int, n: int, *, n_tokens: int) -> dict[str, float | None]:
    """Return the metrics of n tokens: `log_loss` in nats a token, `perplexity` its exponential.

    `token_accuracy` is the share of tokens that were the likeliest; `bits_saved` what share of the
    bits of a token, were all equally likely, the version saves: 1 - log_loss / ln(n_tokens).

    Args:
        loss: sum over the tokens.
        n_right: how many were the likeliest.
        n: tokens that were judged.
        n_tokens: that there are.
    """
    if not n:
        return dict.fromkeys(("log_loss", "perplexity", "token_accuracy", "bits_saved"))
    mean = loss / n
    return {
        "log_loss": mean,
        "perplexity": float(np.exp(min(mean, LARGEST_LOSS))),
        "token_accuracy": n_right / n,
        "bits_saved": 1.0 - mean / float(np.log(n_tokens)),
    }
