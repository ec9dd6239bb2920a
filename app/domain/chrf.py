"""How much of a text is in another? The character n-gram F-score.

chrF (Popović, 2015), as sacreBLEU has it by default (chrF2): n-grams of one to six characters,
blanks left out, precision and recall averaged over the lengths that both texts have; recall counts
twice as much.
"""

from collections import Counter
from typing import Final

N_ORDERS: Final = 6
BETA: Final = 2.0


def chrf(said: str, true: str) -> float:
    """Return how much of a true text is in what was said, in [0, 1]; 1 where both are empty."""
    ours, theirs = "".join(said.split()), "".join(true.split())
    if ours == theirs:
        return 1.0
    precision = recall = 0.0
    n_orders = min(len(ours), len(theirs), N_ORDERS)
    for n in range(1, n_orders + 1):
        own, other = _grams(ours, n), _grams(theirs, n)
        if len(own) + len(other) == len(ours) + len(theirs) - 2 * (n - 1):  # none comes twice
            shared = len(own.keys() & other.keys())
        else:
            shared = (own & other).total()
        precision += shared / (len(ours) - n + 1)
        recall += shared / (len(theirs) - n + 1)
    if not precision + recall:
        return 0.0
    weight = BETA**2
    mean = (1 + weight) * precision * recall / (weight * precision + recall)
    return mean / n_orders


def _grams(text: str, n: int) -> Counter[str]:
    return Counter([text[start : start + n] for start in range(len(text) - n + 1)])
