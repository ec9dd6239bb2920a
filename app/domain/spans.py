"""Which parts of a text are named what, and how well do two such readings of it agree?

A span counts as found only where its start, its end and its label are all right, as in the shared
task of CoNLL 2003 (Tjong Kim Sang and De Meulder) and in seqeval's strict mode.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NamedTuple

from app.domain.errors import Fault
from app.domain.identity import canonical_json

KEYS: Final = frozenset({"start", "end", "label"})
MOST_SPANS: Final = 10_000
"""Of one row; what bounds the work of reading it."""


class Span(NamedTuple):
    """A part of a text: characters (Unicode code points) `start` up to `end`, which is not in it.

    Attributes:
        start, end: 0 <= start < end.
    """

    start: int
    end: int
    label: str


Reading = tuple[Span, ...]
"""All spans of a text, sorted by their start."""


def span_fault(value: Any, labels: Sequence[str], n_characters: int | None) -> Fault | None:
    """Return the first thing that is wrong with spans as JSON has them; None if nothing.

    Args:
        value: should be a list of {"start", "end", "label"} without overlaps, in any order.
        labels: those that there may be.
        n_characters: of the text; None where it is not known.
    """
    if not isinstance(value, list):
        return Fault("", f"must be a list of spans, not {type(value).__name__}")
    if len(value) > MOST_SPANS:
        return Fault("", f"must hold at most {MOST_SPANS} spans, not {len(value)}")
    known = frozenset(labels)
    for place, one in enumerate(value):
        found = _fault_of(one, known, n_characters)
        if found is not None:
            return Fault(f"/{place}{found.pointer}", found.detail)
    return _overlap(value)


def _fault_of(one: Any, labels: frozenset[str], n_characters: int | None) -> Fault | None:
    if not isinstance(one, Mapping) or one.keys() != KEYS:
        return Fault("", "must be an object with start, end and label, and nothing else")
    for key in ("start", "end"):
        if isinstance(one[key], bool) or not isinstance(one[key], int):
            return Fault(f"/{key}", "must be a whole number of characters")
    if not isinstance(one["label"], str) or one["label"] not in labels:
        shown = ", ".join(sorted(labels)[:20]) + (", ..." if len(labels) > 20 else "")
        return Fault("/label", f"must be one of the model's labels: {shown}")
    return _fault_of_place(one["start"], one["end"], n_characters)


def _fault_of_place(start: int, end: int, n_characters: int | None) -> Fault | None:
    if start < 0:
        return Fault("/start", "must be at least 0")
    if end <= start:
        return Fault("/end", f"must be beyond the start, {start}")
    if n_characters is not None and end > n_characters:
        return Fault("/end", f"must be at most {n_characters}, the length of the text")
    return None


def _overlap(value: Sequence[Mapping[str, Any]]) -> Fault | None:
    order = sorted(range(len(value)), key=lambda place: int(value[place]["start"]))
    for before, after in pairwise(order):
        if value[after]["start"] < value[before]["end"]:
            return Fault(f"/{after}", f"must not overlap span {before}")
    return None


def spans_of(value: Iterable[Mapping[str, Any]]) -> Reading:
    """Return good spans as JSON has them, sorted by their start."""
    return tuple(sorted(Span(int(one["start"]), int(one["end"]), one["label"]) for one in value))


def as_json(spans: Iterable[Span]) -> list[dict[str, Any]]:
    """Return spans as JSON has them."""
    return [span._asdict() for span in spans]


def written(spans: Iterable[Span]) -> str:
    """Return spans as the text that is kept: equal answers have equal texts."""
    return canonical_json(as_json(sorted(spans)))


def read(text: str | None) -> Reading:
    """Return kept spans; none where nothing was kept."""
    return spans_of(json.loads(text)) if text else ()


def in_words(spans: Reading) -> str:
    """Return spans for people: each label with its first and last character, counted from 0."""
    return ", ".join(f"{span.label} {span.start}-{span.end - 1}" for span in spans) or "nothing"


@dataclass(frozen=True, slots=True)
class Matches:
    """How many spans two readings of texts share.

    Attributes:
        found: predicted and true, exactly.
        predicted: how many were predicted.
        true: how many there are.
    """

    found: int
    predicted: int
    true: int

    @property
    def precision(self) -> float:
        """Share of the predicted ones that are true; 0 where none is."""
        return self.found / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Share of the true ones that were predicted; 0 where there is none."""
        return self.found / self.true if self.true else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of both; 1 where there is nothing to find and nothing was."""
        either = self.predicted + self.true
        return 2 * self.found / either if either else 1.0


def matched(predicted: Iterable[Span], true: Iterable[Span]) -> Matches:
    """Compare two readings of one text."""
    ours, theirs = set(predicted), set(true)
    return Matches(len(ours & theirs), len(ours), len(theirs))


def added_up(matches: Iterable[Matches]) -> Matches:
    """Return the matches of all texts together, for micro averages."""
    rows = list(matches)
    return Matches(
        sum(row.found for row in rows),
        sum(row.predicted for row in rows),
        sum(row.true for row in rows),
    )


def rarest_label(spans: Sequence[Reading]) -> list[str]:
    """Return of each text the label that fewest of all texts have; empty where it has no span."""
    counts = Counter(label for row in spans for label in {span.label for span in row})
    return [
        min({span.label for span in row}, key=lambda label: (counts[label], label), default="")
        for row in spans
    ]
