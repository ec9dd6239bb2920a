"""Which parts of a text do the tags of its tokens name? Numpy alone.

Tags are O, B-x and I-x for each label x (Ramshaw and Marcus, 1995): outside, beginning and inside
of a span. Places are characters, that is Unicode code points, as Python counts them.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

OUTSIDE: Final = "O"
BEGIN: Final = "B-"
INSIDE: Final = "I-"

Places = NDArray[np.integer[Any]]


class Span(NamedTuple):
    """A part of a text with a label.

    Attributes:
        start: its first character.
        end: the one after its last.
    """

    start: int
    end: int
    label: str


def tags_of_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the tags that tell spans of these labels."""
    return (OUTSIDE, *(f"{part}{label}" for label in labels for part in (BEGIN, INSIDE)))


def labels_of_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """Return the labels that tags tell of, in their order.

    Raises:
        ValueError: they are not O, B-x and I-x.
    """
    labels = tuple(dict.fromkeys(tag[2:] for tag in tags if tag != OUTSIDE))
    if sorted(tags) != sorted(tags_of_labels(labels)):
        raise ValueError(
            f"its outputs are {', '.join(tags)}; spans are told by O, and B-x and I-x of each label"
        )
    return labels


def trimmed(places: Places, text: str) -> NDArray[np.int64]:
    """Return the places of tokens, (m, 2) start and end, without the blanks around them.

    A token of blanks alone ends where it starts; so does one that is not in the text.
    """
    found = np.array(places, dtype=np.int64).reshape(-1, 2)
    for row, (start, end) in enumerate(found.tolist()):
        part = text[start:end]
        found[row, 0] = end - len(part.lstrip())
        found[row, 1] = max(start + len(part.rstrip()), int(found[row, 0]))
    return found


def spans_of_tags(tags: Sequence[str], places: Places) -> list[Span]:
    """Return the spans that tags of tokens tell, by their start.

    An I-x that continues no span of x begins one, as in CoNLL's own evaluation. A token without
    characters is passed over.

    Args:
        tags: m of them.
        places: of the tokens, trimmed, shape (m, 2).
    """
    spans: list[Span] = []
    before = OUTSIDE
    for tag, (start, end) in zip(tags, places.tolist(), strict=True):
        if start == end:
            continue
        if tag.startswith(INSIDE) and before[2:] == tag[2:]:
            spans[-1] = spans[-1]._replace(end=end)
        elif tag != OUTSIDE:
            if spans and start < spans[-1].end:  # pieces of one character: the first one counts
                continue
            spans.append(Span(start, end, tag[2:]))
        before = tag
    return spans
