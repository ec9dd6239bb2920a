"""Which of a search's trials was best, and how far did each get?

A trial is a JSON object, as its run keeps it: `number`; `recipe`, the knobs that were searched;
`state`; `score`, the metric on rows set apart; `scores`, a pair of epoch and score for each epoch
told; `seconds`; `best_epoch`, how many epochs the version had seen that `score` is of, where the
last training is to know; `error`, in words.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.domain.answers import MAXIMIZE

Trial = Mapping[str, Any]

RUNNING: Final = "running"
COMPLETE: Final = "complete"
PRUNED: Final = "pruned"
FAILED: Final = "failed"


def best_of(trials: Sequence[Trial], *, direction: str) -> Trial | None:
    """Return the complete trial of the best score, the first of equals; None without any."""
    complete = [one for one in trials if one["state"] == COMPLETE]
    sign = 1.0 if direction == MAXIMIZE else -1.0
    return max(complete, key=lambda one: sign * float(one["score"]), default=None)


def seconds_of(trials: Sequence[Trial]) -> float:
    """Return how long all trials took together."""
    return sum(float(one["seconds"]) for one in trials)


def may_go_on(trials: Sequence[Trial], *, n_trials: int, budget_seconds: float | None) -> bool:
    """Return whether another trial may be begun; one that was interrupted is another.

    That one may go on whatever was spent while none is complete, as it could without the interrupt.
    """
    ended = [one for one in trials if one["state"] != RUNNING]
    is_needed = len(ended) < len(trials) and all(one["state"] != COMPLETE for one in trials)
    has_time = budget_seconds is None or seconds_of(trials) < budget_seconds
    return len(ended) < n_trials and (has_time or is_needed)
