"""How good are spans, given the labels? Everything here is a pure function of values."""

import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from app.domain.spans import Matches, Reading, Span, added_up, matched
from upkeep.spans import INSIDE, OUTSIDE, spans_of_tags
from workers.training.task_type import Tagged

OF_SPANS = (
    "f1_micro",
    "precision_micro",
    "recall_micro",
    "f1_macro",
    "f1_samples",
    "exact_match",
    "token_accuracy",
    "log_loss",
)
"""What `summarise` tells that a model's objective may name, the default first."""
WORD: Final = re.compile(r"\w+|[^\w\s]")


def of_label(spans: Iterable[Span], label: str) -> Reading:
    """Return the spans of one label."""
    return tuple(span for span in spans if span.label == label)


def by_label(
    said: Sequence[Reading], true: Sequence[Reading], labels: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return n, precision, recall and F1 of each label's exact spans; a ratio of none is 0."""
    found = {}
    for label in labels:
        pairs = zip(said, true, strict=True)
        total = added_up(matched(of_label(a, label), of_label(b, label)) for a, b in pairs)
        found[label] = {"n": total.true, **_ratios(total, f1=total.f1 if total.found else 0.0)}
    return found


def _ratios(total: Matches, *, f1: float) -> dict[str, float]:
    return {"precision": total.precision, "recall": total.recall, "f1": f1}


def of_answers(
    said: Sequence[Reading], true: Sequence[Reading], labels: Sequence[str]
) -> dict[str, Any]:
    """Return every metric of one evaluation that answers alone tell.

    Precision, recall and F1 are of exact spans: `_micro` of those of all rows together, as seqeval
    (strict) and CoNLL report them; `_macro` the mean over the labels that are in the truth;
    `f1_samples` the mean over the rows, 1 where there is nothing to find and nothing was;
    `exact_match` the share of rows with exactly their spans. One without enough rows is None.

    Args:
        said: spans that were answered, of n rows.
        true: those of the labels.
        labels: that spans may have.
    """
    rows = [matched(ours, theirs) for ours, theirs in zip(said, true, strict=True)]
    total, classes = added_up(rows), by_label(said, true, labels)
    present = [one["f1"] for one in classes.values() if one["n"]]
    return {
        "n": len(rows),
        "n_spans": total.true,
        "precision_micro": total.precision,
        "recall_micro": total.recall,
        "f1_micro": total.f1,
        "f1_macro": float(np.mean(present)) if present else None,
        "f1_samples": float(np.mean([row.f1 for row in rows])) if rows else None,
        "exact_match": float(np.mean([row.f1 == 1.0 for row in rows])) if rows else None,
        "by_class": classes,
    }


def summarise(
    tagged: Sequence[Tagged], true: Sequence[Reading], labels: Sequence[str]
) -> dict[str, Any]:
    """Return every metric of one evaluation.

    Beside those of `of_answers`: `token_accuracy`, the share of tokens with the true tag, and
    `log_loss`, the mean over the tokens of the negative log of its probability, in nats. Both are
    over the tokens that are read: a cut text has more.

    Args:
        tagged: what was said of n rows, held against the truth.
        true: spans of the labels.
        labels: that spans may have.
    """
    n_tokens = sum(one.n_tokens for one in tagged)
    right, loss = sum(one.n_right for one in tagged), sum(one.loss for one in tagged)
    return {
        **of_answers([one.spans for one in tagged], true, labels),
        "n_tokens": n_tokens,
        "token_accuracy": right / n_tokens if n_tokens else None,
        "log_loss": loss / n_tokens if n_tokens else None,
    }


class KnownWords:
    """The simplest reader: each word has the label that it had most often, one not known none.

    As the baseline of CoNLL 2003, which marks what it has seen. Neighbours of one label are one
    span; case counts for nothing.
    """

    def __init__(self, texts: Iterable[str], readings: Iterable[Reading]) -> None:
        """Learn the labels of words."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for text, spans in zip(texts, readings, strict=True):
            for word, label in _labelled_words(text, spans):
                counts[word][label] += 1
        self._labels: Mapping[str, str] = {
            word: min(found, key=lambda label: (-found[label], label))
            for word, found in counts.items()
        }

    def read(self, text: str) -> Reading:
        """Return the spans of a text."""
        words = list(WORD.finditer(text))
        labels = [self._labels.get(word.group().lower(), "") for word in words]
        places = np.array([word.span() for word in words], dtype=np.int64).reshape(-1, 2)
        tags = [f"{INSIDE}{label}" if label else OUTSIDE for label in labels]
        return tuple(Span(*one) for one in spans_of_tags(tags, places))


def _labelled_words(text: str, spans: Reading) -> Iterable[tuple[str, str]]:
    """Yield each word of a text in lower case with its label, empty outside of spans."""
    left = deque(spans)
    for word in WORD.finditer(text):
        while left and left[0].end <= word.start():
            left.popleft()
        is_inside = bool(left) and left[0].start < word.end()
        yield word.group().lower(), left[0].label if is_inside else ""
