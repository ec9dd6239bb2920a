"""How many alarms of drift were false, as far as anybody can tell?"""

import math
from dataclasses import dataclass
from typing import Final

CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True)
class AlarmRecord:
    """The alarms of a model, and what labels said of them afterwards.

    A finding that stands over many reports is one alarm.

    Attributes:
        n_rows: rows that checks saw, each once.
        n_alarms: alarms in that time.
        n_confirmed: labels showed, while it stood, that accuracy had fallen.
        n_refuted: enough labels came, and accuracy stood: the rows were as before, or had moved
            without harm. Labels alone cannot tell these two apart.
        promised_rows: at most one false alarm in so many rows, says the policy.
    """

    n_rows: int
    n_alarms: int
    n_confirmed: int
    n_refuted: int
    promised_rows: float

    @property
    def n_unjudged(self) -> int:
        """Alarms that too few labels came for."""
        return self.n_alarms - self.n_confirmed - self.n_refuted

    @property
    def n_unconfirmed(self) -> int:
        """Alarms that may have been false: all but the confirmed."""
        return self.n_alarms - self.n_confirmed

    def rate(self, n_alarms: int) -> tuple[float, float, float] | None:
        """Return how many such alarms came in as many rows as one false one is promised for.

        Returns:
            The measured rate, and the ends of its exact 95 % interval (Garwood, 1936), which
            takes alarms for independent; None before any row was seen.
        """
        if not self.n_rows:
            return None
        scale = self.promised_rows / self.n_rows
        lower, upper = poisson_interval(n_alarms)
        return n_alarms * scale, lower * scale, upper * scale


def poisson_interval(count: int, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the exact interval (Garwood, 1936) of the mean that a count was drawn with."""
    tail = (1 - confidence) / 2
    lower = _mean_with(1 - tail, count - 1) if count else 0.0
    return lower, _mean_with(tail, count)


def _mean_with(probability: float, count: int) -> float:
    """Return the mean of which so few events come with that probability."""
    low, high = 0.0, count + 10 * math.sqrt(count + 1) + 10
    for _ in range(100):
        middle = (low + high) / 2
        if _at_most(count, middle) > probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _at_most(count: int, mean: float) -> float:
    """Return the chance that at most so many events come."""
    if mean <= 0:
        return 1.0
    return math.fsum(
        math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(count + 1)
    )
