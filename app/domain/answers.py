"""What does a model answer with, and how right is one answer?

A kind of answer says how a label or prediction is checked and kept, and how right an answer is,
between 0 and 1: that score alone is what the watch of performance, the slices and the timeline
read. Labels and predictions are kept as text, in a form in which equal answers are equal.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from app.domain import spans
from app.domain.chrf import chrf
from app.domain.errors import UNPRINTABLE, Fault, printable

Scores = NDArray[np.float64]

CLASS: Final = "class"
NUMBER: Final = "number"
SPANS: Final = "spans"
TEXT: Final = "text"
MAXIMIZE: Final = "maximize"
MINIMIZE: Final = "minimize"
LARGEST: Final = (2 - 2**-23) * 2.0**127
"""The largest number of single precision, in which trees and networks keep what they learn from."""
N_STRATA: Final = 4
ANY_NUMBER: Final = sys.maxsize
MOST_CHARACTERS: Final = 20_000
"""Of an answer that is a text."""
_LOSSES: Final = frozenset({"log_loss", "calibration_error", "perplexity"})


class Answer(Protocol):
    """One kind of answer, with what a model states of it.

    Attributes:
        kind: its name, as task types announce it.
        measure: name of the mean score of answers, such as "accuracy".
        plural: what answers are called.
        distinct: what rows must hold at least two of, so that something can be learned.
        labels: the answers there may be; empty where they cannot be listed.
        is_scored: whether answers can be scored yet.
        about: the field of the input, a text, that answers point into; None where they do not.
        most_read: answers that are scored at most while somebody waits for the page.
    """

    kind: ClassVar[str]
    measure: ClassVar[str]
    plural: ClassVar[str]
    distinct: ClassVar[str]
    most_read: ClassVar[int]

    @property
    def labels(self) -> Sequence[str]:
        """Return the answers there may be."""
        ...

    @property
    def is_scored(self) -> bool:
        """Whether answers can be scored yet."""
        ...

    @property
    def about(self) -> str | None:
        """Return the field of the input that answers point into."""
        ...

    def fault(self, value: Any, *, is_label: bool, text: Any = None) -> Fault | None:
        """Return what is wrong with a label, or else a prediction, as it was sent; None if nothing.

        Args:
            value: never missing.
            is_label: a prediction may lie where no label can.
            text: what the field `about` holds, where that is known.
        """
        ...

    def stored(self, value: Any) -> str:
        """Return a good value as it is kept: equal answers have equal texts."""
        ...

    def shown(self, text: str | None) -> Any:
        """Return a kept value as JSON has it."""
        ...

    def scores(self, predictions: Sequence[str], labels: Sequence[str]) -> Scores:
        """Return how right answers are, (n,) in [0, 1]; 1 is right."""
        ...

    def errors(self, predictions: Sequence[str], labels: Sequence[str]) -> dict[str, float]:
        """Return what else a reader wants of answers, by name; n at least 1."""
        ...

    def strata(self, labels: Sequence[str]) -> list[str]:
        """Return the part of all labels that each belongs to: held-out rows are of every part."""
        ...

    def direction_of(self, metric: str) -> str:
        """Return whether a metric is to be maximized or minimized."""
        ...

    def document(self) -> dict[str, Any] | None:
        """Return what is kept of it beside the labels, as JSON; None where there is nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Classes:
    """One of a set of labels: an answer is right or wrong."""

    kind: ClassVar[str] = CLASS
    measure: ClassVar[str] = "accuracy"
    plural: ClassVar[str] = "labels of the model"
    distinct: ClassVar[str] = "classes"
    most_read: ClassVar[int] = ANY_NUMBER
    is_scored: ClassVar[bool] = True
    about: ClassVar[None] = None

    labels: Sequence[str]

    def fault(self, value: Any, *, is_label: bool, text: Any = None) -> Fault | None:
        """Return what is wrong with a value that should be one of the labels."""
        if isinstance(value, str) and value in self.labels:
            return None
        shown = ", ".join(self.labels[:20]) + (", ..." if len(self.labels) > 20 else "")
        return Fault("", f"must be one of the model's labels: {shown}")

    def stored(self, value: Any) -> str:
        """Return the label."""
        return str(value)

    def shown(self, text: str | None) -> Any:
        """Return the label."""
        return text

    def scores(self, predictions: Sequence[str], labels: Sequence[str]) -> Scores:
        """Return 1 for each right answer, 0 for each wrong one."""
        pairs = zip(predictions, labels, strict=True)
        return np.asarray([said == label for said, label in pairs], dtype=np.float64)

    def errors(self, predictions: Sequence[str], labels: Sequence[str]) -> dict[str, float]:
        """Return nothing: accuracy says all."""
        return {}

    def strata(self, labels: Sequence[str]) -> list[str]:
        """Return the labels themselves."""
        return list(labels)

    def direction_of(self, metric: str) -> str:
        """Return that losses are minimized, and all else is maximized."""
        return MINIMIZE if metric in _LOSSES else MAXIMIZE

    def document(self) -> dict[str, Any] | None:
        """Return nothing: the labels are kept by themselves."""
        return None


@dataclass(frozen=True, slots=True)
class Number:
    """A number: an answer is the closer to right the smaller its error.

    Its score, the *closeness*, is 1 - min(|error| / scale, 1): an error of `scale` or more is as
    wrong as can be, so that no single row outweighs the others, and what holds of the mean of
    bounded values holds of closeness. The mean error itself is told beside it.

    Attributes:
        unit: of labels and predictions, for people.
        minimum, maximum: bounds of a label. A prediction may lie beyond them: it is an error then,
            not a fault.
        scale: the error, in the unit of the labels, that counts as entirely wrong. Where nobody
            stated it, it is learned once, from the first labelled rows that a version is judged
            on: the range of their middle half.
    """

    kind: ClassVar[str] = NUMBER
    measure: ClassVar[str] = "closeness"
    plural: ClassVar[str] = "numbers"
    distinct: ClassVar[str] = "different numbers"
    most_read: ClassVar[int] = ANY_NUMBER
    labels: ClassVar[Sequence[str]] = ()
    about: ClassVar[None] = None

    unit: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    scale: float | None = None

    @property
    def is_scored(self) -> bool:
        """Whether the scale is known."""
        return self.scale is not None

    def fault(self, value: Any, *, is_label: bool, text: Any = None) -> Fault | None:
        """Return what is wrong with a value that should be a number within bounds."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return Fault("", f"must be a number, not {type(value).__name__}")
        if not -LARGEST <= value <= LARGEST:  # NaN too
            return Fault("", "must be a finite number of single precision")
        if is_label and self.minimum is not None and value < self.minimum:
            return Fault("", f"must be at least {self.minimum:g}")
        if is_label and self.maximum is not None and value > self.maximum:
            return Fault("", f"must be at most {self.maximum:g}")
        return None

    def stored(self, value: Any) -> str:
        """Return the shortest text that reads back as the same number of double precision."""
        return repr(float(value) + 0.0)  # -0.0 is 0.0

    def shown(self, text: str | None) -> Any:
        """Return the number."""
        return float(text) if text else None

    def scores(self, predictions: Sequence[str], labels: Sequence[str]) -> Scores:
        """Return the closeness of each answer; the scale must be known."""
        return closeness(as_numbers(predictions), as_numbers(labels), self.scale or math.nan)

    def errors(self, predictions: Sequence[str], labels: Sequence[str]) -> dict[str, float]:
        """Return rmse, mae and bias (mean of prediction minus label), in the unit of the labels."""
        error = as_numbers(predictions) - as_numbers(labels)
        return {
            "rmse": float(np.sqrt((error**2).mean())),
            "mae": float(np.abs(error).mean()),
            "bias": float(error.mean()),
        }

    def strata(self, labels: Sequence[str]) -> list[str]:
        """Return the quarter of the ordered labels that each lies in."""
        return strata_of(as_numbers(labels))

    def direction_of(self, metric: str) -> str:
        """Return that errors are minimized, and what tells how much is explained is maximized."""
        return MAXIMIZE if metric in {"r2", self.measure} else MINIMIZE

    def document(self) -> dict[str, Any] | None:
        """Return the kind, and what is stated or learned."""
        stated = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"kind": self.kind, **stated}


@dataclass(frozen=True, slots=True)
class Spans:
    """Parts of a text, each with a label: an answer is the better the more of them are exact.

    Its score is the F1 of its spans, 1 where there is none to find and none was found; the mean
    over the rows is what the field calls F1 averaged over samples.

    Attributes:
        labels: that a span may have.
        about: the field of the input that holds the text.
    """

    kind: ClassVar[str] = SPANS
    measure: ClassVar[str] = "f1_samples"
    plural: ClassVar[str] = "spans"
    distinct: ClassVar[str] = "different lists of spans"
    most_read: ClassVar[int] = ANY_NUMBER
    is_scored: ClassVar[bool] = True

    labels: Sequence[str]
    about: str = "text"

    def fault(self, value: Any, *, is_label: bool, text: Any = None) -> Fault | None:
        """Return what is wrong with a value that should be spans of the text."""
        return spans.span_fault(value, self.labels, len(text) if isinstance(text, str) else None)

    def stored(self, value: Any) -> str:
        """Return the spans sorted by their start, as canonical JSON."""
        return spans.written(spans.spans_of(value))

    def shown(self, text: str | None) -> Any:
        """Return the spans as JSON has them."""
        return None if text is None else spans.as_json(spans.read(text))

    def scores(self, predictions: Sequence[str], labels: Sequence[str]) -> Scores:
        """Return the F1 of each row's exact spans."""
        return np.asarray([row.f1 for row in _matches(predictions, labels)], dtype=np.float64)

    def errors(self, predictions: Sequence[str], labels: Sequence[str]) -> dict[str, float]:
        """Return precision, recall and F1 of all rows' spans together, and the exact rows' share.

        Those are the micro averages that seqeval and CoNLL report.
        """
        total = spans.added_up(_matches(predictions, labels))
        return {
            "precision_micro": total.precision,
            "recall_micro": total.recall,
            "f1_micro": total.f1,
            "exact_match": float(np.mean(np.asarray(predictions) == np.asarray(labels))),
        }

    def strata(self, labels: Sequence[str]) -> list[str]:
        """Return of each row the rarest label among its spans."""
        return spans.rarest_label([spans.read(text) for text in labels])

    def direction_of(self, metric: str) -> str:
        """Return that losses are minimized, and all else is maximized."""
        return MINIMIZE if metric in _LOSSES else MAXIMIZE

    def document(self) -> dict[str, Any] | None:
        """Return the kind and the field; the labels are kept by themselves."""
        return {"kind": self.kind, "about": self.about}


@dataclass(frozen=True, slots=True)
class Text:
    """A text that goes on from the input: an answer is the better the more of the truth is in it.

    Its score is chrF. What a version thinks of the true text (`log_loss`, `perplexity`) only a
    worker can tell, who judges versions by it.
    """

    kind: ClassVar[str] = TEXT
    measure: ClassVar[str] = "chrf"
    plural: ClassVar[str] = "texts"
    distinct: ClassVar[str] = "different texts"
    most_read: ClassVar[int] = 5_000
    labels: ClassVar[Sequence[str]] = ()
    is_scored: ClassVar[bool] = True
    about: ClassVar[None] = None

    def fault(self, value: Any, *, is_label: bool, text: Any = None) -> Fault | None:
        """Return what is wrong with a value that should be a text."""
        if not isinstance(value, str):
            return Fault("", f"must be a text, not {type(value).__name__}")
        if len(value) > MOST_CHARACTERS:
            return Fault(
                "", f"must have at most {MOST_CHARACTERS:,} characters, not {len(value):,}"
            )
        return None if printable(value) == value else Fault("", UNPRINTABLE)

    def stored(self, value: Any) -> str:
        """Return the text."""
        return str(value)

    def shown(self, text: str | None) -> Any:
        """Return the text."""
        return text

    def scores(self, predictions: Sequence[str], labels: Sequence[str]) -> Scores:
        """Return the chrF of each answer."""
        pairs = zip(predictions, labels, strict=True)
        return np.asarray([chrf(said, label) for said, label in pairs], dtype=np.float64)

    def errors(self, predictions: Sequence[str], labels: Sequence[str]) -> dict[str, float]:
        """Return the share of answers that are the true text."""
        return {"exact_match": float(np.mean(np.asarray(predictions) == np.asarray(labels)))}

    def strata(self, labels: Sequence[str]) -> list[str]:
        """Return the quarter of the texts, ordered by length, that each lies in."""
        return strata_of(np.array([len(label) for label in labels], dtype=np.float64))

    def direction_of(self, metric: str) -> str:
        """Return that losses are minimized, and all else is maximized."""
        return MINIMIZE if metric in _LOSSES else MAXIMIZE

    def document(self) -> dict[str, Any] | None:
        """Return the kind."""
        return {"kind": self.kind}


def _matches(predictions: Sequence[str], labels: Sequence[str]) -> list[spans.Matches]:
    pairs = zip(predictions, labels, strict=True)
    return [spans.matched(spans.read(said), spans.read(label)) for said, label in pairs]


def answer_of(labels: Sequence[str], document: Mapping[str, Any] | None) -> Answer:
    """Return the answer that a model's labels and `Answer.document` stand for."""
    if document is None:
        return Classes(tuple(labels))
    stated = {name: value for name, value in document.items() if name != "kind"}
    return _READ[document["kind"]](labels, stated)


_READ: Final[Mapping[str, Callable[[Sequence[str], Mapping[str, Any]], Answer]]] = {
    NUMBER: lambda _, stated: Number(**stated),
    SPANS: lambda labels, stated: Spans(tuple(labels), **stated),
    TEXT: lambda _, stated: Text(**stated),
}
"""How each kind but classes is read, from labels and what is kept beside them."""


def as_numbers(texts: Sequence[str]) -> Scores:
    """Return kept numbers, (n,)."""
    return np.asarray(texts, dtype=np.float64)


def closeness(predictions: Scores, labels: Scores, scale: float) -> Scores:
    """Return 1 - min(|error| / scale, 1) of each answer, (n,)."""
    return np.asarray(1.0 - np.minimum(np.abs(predictions - labels) / scale, 1.0))


def scale_of(labels: Scores) -> float | None:
    """Return the range of the middle half of labels; None where they are all one number.

    Where more than half are one number, their standard deviation.
    """
    if not len(labels):
        return None
    low, high = np.quantile(labels, [0.25, 0.75])
    found = float(high - low) or float(labels.std())
    return found if math.isfinite(found) and found > 0 else None


def strata_of(labels: Scores) -> list[str]:
    """Return the quarter of the ordered labels that each lies in, (n,)."""
    if not len(labels):
        return []
    bounds = np.quantile(labels, np.arange(1, N_STRATA) / N_STRATA)
    return [str(place) for place in np.searchsorted(bounds, labels, side="right").tolist()]
