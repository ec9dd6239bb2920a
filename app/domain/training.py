"""Training runs: the states of one attempt to produce a version, and what it was asked to do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID


class RunState(StrEnum):
    """Where a training run stands."""

    QUEUED = "queued"
    RUNNING = "running"
    TRAINED = "trained"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RunEvent(StrEnum):
    """What can happen to a training run."""

    STARTED = "started"
    PREEMPTED = "preempted"
    LOST = "lost"
    TRAINED = "trained"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


_S, _E = RunState, RunEvent

TRANSITIONS: Final[Mapping[tuple[RunState, RunEvent], RunState]] = {
    (_S.QUEUED, _E.STARTED): _S.RUNNING,
    (_S.QUEUED, _E.CANCELLED): _S.CANCELLED,
    (_S.QUEUED, _E.FAILED): _S.FAILED,
    (_S.RUNNING, _E.PREEMPTED): _S.QUEUED,
    (_S.RUNNING, _E.LOST): _S.QUEUED,
    (_S.RUNNING, _E.TRAINED): _S.TRAINED,
    (_S.RUNNING, _E.FAILED): _S.FAILED,
    (_S.RUNNING, _E.CANCELLED): _S.CANCELLED,
    (_S.TRAINED, _E.SUCCEEDED): _S.SUCCEEDED,
    (_S.TRAINED, _E.FAILED): _S.FAILED,
    (_S.TRAINED, _E.CANCELLED): _S.CANCELLED,
}

IN_FLIGHT: Final = frozenset({RunState.QUEUED, RunState.RUNNING, RunState.TRAINED})
MAXIMUM_ATTEMPTS: Final = 5
HIGHEST_PRIORITY: Final = 10
"""Priorities go from minus this to this; larger goes first."""


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What a run was asked to do; with the database it determines the training snapshot.

    Attributes:
        start_from: "champion" or "base".
        champion: the version in charge when the run was asked for; None before the first.
        recipe: the task type's knobs, defaults left out.
        through_label: last label sequence the snapshot may hold.
        through_dataset: last uploaded dataset (by time) the snapshot may hold.
        seed: of everything random.
        selection: which rows it trains on, as the policy's `retrain.selection` says it; nothing
            is all.
        search: how its recipe is searched for, the space written out, with the `metric` and
            `direction` to search by; None where the recipe is trained as it is.
    """

    start_from: str
    champion: UUID | None
    recipe: Mapping[str, Any]
    through_label: int
    through_dataset: datetime
    seed: int
    selection: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """One attempt to produce a version.

    Attributes:
        priority: among the runs that wait, larger goes first.
        device: UUID of the GPU that it has to itself while it runs, or UUIDs by commas.
        usage: what all its attempts have used (`app.domain.usage`); None before the first.
        trials: of its search, in order (`app.domain.searches`).
    """

    id: UUID
    model_id: UUID
    state: RunState
    spec: RunSpec
    queued_at: datetime
    priority: int = 0
    attempt: int = 0
    fencing_token: int = 0
    decision_id: UUID | None = None
    version_id: UUID | None = None
    version_number: int | None = None
    outcome: str | None = None
    progress: Mapping[str, Any] | None = None
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    snapshot_sha256: str | None = None
    snapshot: Mapping[str, Any] | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    reason: str = ""
    actor: str = ""
    device: str | None = None
    usage: Mapping[str, Any] | None = None
    trials: Sequence[Mapping[str, Any]] = ()

    def waited_seconds(self, now: datetime) -> float:
        """Return how long it waited for its first start; until now, or its end, without one."""
        until = self.started_at or self.finished_at or now
        return max(0.0, (until - self.queued_at).total_seconds())


SAMPLED_LINES: Final = 160
"""Lines of progress of a run that are kept for good, at most, evenly over its length."""
FRESH_LINES: Final = 20
"""The newest lines, kept whatever their turn, so that a reader who fell behind misses none."""


def line_stride(n_lines: int) -> int:
    """Return which lines of so many are kept for good: the first, and each such many after it."""
    stride = 1
    while n_lines > stride * SAMPLED_LINES:
        stride *= 2
    return stride


@dataclass(frozen=True, slots=True)
class RunChange:
    """One thing that happened to a run: it moved, was asked to stop, or told its progress.

    Attributes:
        number: 1, 2, ... within the run, in the order in which they happened; some lines of
            progress are forgotten again (`line_stride`).
        what: "progress", "queued", "cancel_requested", or the `RunEvent` that moved it.
        state: after it.
        progress: of the training process; None for the others.
    """

    number: int
    at: datetime
    what: str
    state: RunState
    attempt: int
    progress: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class News:
    """Where a run stands, and what has happened to it since."""

    state: RunState
    changes: Sequence[RunChange]


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one job until it expires; every write it covers checks the token.

    Attributes:
        token: fencing number, larger with each lease of the same job (Kleppmann, 2016).
        attempt: 1, 2, ...
        device: UUID of the GPU that goes with it, or UUIDs by commas; None where there is none.
    """

    job_id: UUID
    owner: str
    token: int
    attempt: int = 1
    detail: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None
