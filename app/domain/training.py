"""Training runs: the states of one attempt to produce a version, and what it was asked to do."""

from collections.abc import Mapping
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
    """

    start_from: str
    champion: UUID | None
    recipe: Mapping[str, Any]
    through_label: int
    through_dataset: datetime
    seed: int


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """One attempt to produce a version."""

    id: UUID
    model_id: UUID
    state: RunState
    spec: RunSpec
    queued_at: datetime
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


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one job until it expires; every write it covers checks the token.

    Attributes:
        token: fencing number, larger with each lease of the same job (Kleppmann, 2016).
        attempt: 1, 2, ...
    """

    job_id: UUID
    owner: str
    token: int
    attempt: int = 1
    detail: Mapping[str, Any] = field(default_factory=dict)
