"""Where waiting runs stand, and how many the living workers can train at once."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final
from uuid import UUID

from app.domain.queueing import expected_starts
from app.domain.training import RunState, TrainingRun
from app.services.ports import Json, UnitOfWork

ALIVE_SECONDS: Final = 20.0


def n_slots(work: UnitOfWork) -> int:
    """Return how many runs the living workers can train at once, in an open transaction.

    Workers that see the same GPUs share them: one run a GPU, or a group of them.
    """
    by_devices: dict[frozenset[str], int] = defaultdict(int)
    for process in work.plugins.alive(seconds=ALIVE_SECONDS):
        detail = process["detail"]
        if process["kind"] == "worker" and "training" in detail.get("queues", ()):
            by_devices[frozenset(detail.get("devices", ()))] += detail.get("concurrency", 1)
    return sum(min(n, len(devices) or n) for devices, n in by_devices.items())


def places(work: UnitOfWork, runs: Iterable[TrainingRun]) -> Mapping[UUID, Json]:
    """Return where those of some runs that wait for a worker stand, in an open transaction.

    `position` 1 goes next; `n_waiting` are waiting runs of all models; `waits_for` is "worker" or
    "model" (which has as many under way as its policy allows); `expected_start_seconds` is None
    where nobody can know.
    """
    asked = {run.id for run in runs if run.state is RunState.QUEUED}
    if not asked:
        return {}
    waiting = work.runs.waiting()
    starts = expected_starts(waiting, work.runs.under_way(), n_slots=n_slots(work))
    return {
        run.run_id: {
            "position": run.position,
            "n_waiting": len(waiting),
            "waits_for": run.waits_for,
            "expected_start_seconds": starts[run.run_id],
        }
        for run in waiting
        if run.run_id in asked
    }
