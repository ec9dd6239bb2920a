"""Which waiting run goes next, and when will the others?"""

import heapq
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Waiting:
    """A queued run where it stands.

    The order is by priority; then by round, the runs of its model that go before it, those under
    way included, so that a model with ten waiting runs has its second after every other model's
    first; then the model that was served longest ago; then the run that was asked for first.

    Attributes:
        position: 1 goes next.
        waits_for: "worker": the next free one takes it, or one of those before it; "model": its
            model has as many runs under way as its policy allows.
        concurrency: of its model's policy.
        n_under_way: runs of its model that are being trained.
        usual_seconds: median training time of its model's newest runs; None before the first.
    """

    run_id: UUID
    model_id: UUID
    priority: int
    position: int
    waits_for: Literal["worker", "model"]
    concurrency: int
    n_under_way: int
    usual_seconds: float | None


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A run that is being trained.

    Attributes:
        seconds_left: by its own account, else by its model's usual time; None where nobody knows.
    """

    run_id: UUID
    model_id: UUID
    seconds_left: float | None


def expected_starts(
    waiting: Sequence[Waiting], under_way: Sequence[UnderWay], *, n_slots: int
) -> Mapping[UUID, float | None]:
    """Return in how many seconds each waiting run should start; None where nobody can know.

    Plays the queue forward: each run takes the slot that is free first. A run that must wait for
    one whose length nobody knows, or for a slot that nobody offers, has no estimate.

    Args:
        waiting: in their order.
        under_way: what the slots are busy with.
        n_slots: runs that the living workers can train at once.
    """
    ends: dict[UUID, list[float]] = defaultdict(list)
    slots = [0.0] * max(0, n_slots - len(under_way))
    for run in under_way:
        left = math.inf if run.seconds_left is None else max(0.0, run.seconds_left)
        ends[run.model_id].append(left)
        slots.append(left)
    heapq.heapify(slots)
    starts: dict[UUID, float | None] = {run.run_id: None for run in waiting}
    left_over = list(waiting)
    while left_over and slots and math.isfinite(at := heapq.heappop(slots)):
        chosen = next((run for run in left_over if _may_start(run, ends[run.model_id], at)), None)
        if chosen is None:  # each waits for a run of its own model: the slot is idle until then
            later = [end for run in left_over for end in ends[run.model_id] if end > at]
            heapq.heappush(slots, min(later))
            continue
        left_over.remove(chosen)
        starts[chosen.run_id] = at
        takes = math.inf if chosen.usual_seconds is None else max(1.0, chosen.usual_seconds)
        ends[chosen.model_id].append(at + takes)
        heapq.heappush(slots, at + takes)
    return starts


def _may_start(run: Waiting, ends: Sequence[float], at: float) -> bool:
    return sum(end > at for end in ends) < run.concurrency
