"""Which tags must the tokens of a text have, so that they tell its spans?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.domain.spans import Span
from upkeep.spans import BEGIN, INSIDE, OUTSIDE
from workers.training.targets import IGNORED


@dataclass(slots=True)
class Fit:
    """How well spans fit the tokens of their texts; what does not is never found exactly.

    Attributes:
        n_spans: of all texts.
        n_beyond: spans no part of which is in the tokens, most often beyond the cut of a long text.
        n_inexact: spans that begin or end within a token, or are cut.
    """

    n_spans: int = 0
    n_beyond: int = 0
    n_inexact: int = 0


def tags_of_spans(
    spans: Sequence[Span],
    places: NDArray[np.int64],
    outputs: Mapping[str, int],
    fit: Fit,
) -> NDArray[np.int64]:
    """Return the class of each token, (m,): its tag's place, `IGNORED` where it has no characters.

    Args:
        spans: of one text, without overlaps.
        places: first character of each token and the one after its last, trimmed, shape (m, 2).
        outputs: place of each tag among the outputs of the version.
        fit: counted on.
    """
    starts, ends = places[:, 0], places[:, 1]
    tags = np.where(ends > starts, outputs[OUTSIDE], IGNORED)
    for span in spans:
        fit.n_spans += 1
        is_free = tags == outputs[OUTSIDE]
        (inside,) = np.nonzero(is_free & (starts < span.end) & (ends > span.start))
        if not len(inside):
            fit.n_beyond += 1
            continue
        tags[inside] = outputs[f"{INSIDE}{span.label}"]
        tags[inside[0]] = outputs[f"{BEGIN}{span.label}"]
        is_exact = starts[inside[0]] == span.start and ends[inside[-1]] == span.end
        fit.n_inexact += not is_exact
    return np.asarray(tags, dtype=np.int64)
