"""Which rows are kept out of training, so that what is judged on was never learned?"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def held_out(
    labels: Sequence[str], *, share: float, n_blocks: int = 25, seed: int = 0
) -> NDArray[np.bool_]:
    """Mark the rows to hold out, about `share` of them, as a mask of shape (n,).

    Rows that arrived together are alike (one writer, one batch, one day), and a random split
    would let them meet in training and judgement. So whole contiguous blocks are held out, evenly
    spread over the rows. Where that would starve a class (rows sorted by class), rows are drawn
    at random within each class instead. A class of one row stays in training.

    Args:
        labels: one for each row, in order of arrival.
        share: of the rows to hold out, in (0, 1).
        n_blocks: how many contiguous blocks the rows are cut into.
        seed: of the fallback's draw.
    """
    n = len(labels)
    mask = np.zeros(n, dtype=bool)
    if n < 2:
        return mask
    blocks = min(n_blocks, n)
    number = np.arange(n) * blocks // n
    chosen = np.floor((number + 1) * share) > np.floor(number * share)
    kept = Counter(label for label, out in zip(labels, chosen, strict=True) if not out)
    total = Counter(labels)
    starved = any(kept[label] < count * (1 - share) / 2 for label, count in total.items())
    if chosen.any() and not starved:
        return np.asarray(chosen)
    generator = np.random.default_rng(seed)
    array = np.asarray(labels, dtype=object)
    for label in sorted(total):
        rows = np.flatnonzero(array == label)
        take = min(round(len(rows) * share), len(rows) - 1)
        mask[generator.permutation(rows)[:take]] = True
    return mask
