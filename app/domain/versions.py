"""Model versions: the states one can be in, and the only ways between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID


class VersionState(StrEnum):
    """Where a model version stands."""

    IMPORTED = "imported"
    TRAINED = "trained"
    CHALLENGER = "challenger"
    CHAMPION = "champion"
    SUPERSEDED = "superseded"
    REJECTED = "rejected"
    QUARANTINED = "quarantined"


class VersionEvent(StrEnum):
    """What can happen to a model version."""

    VERIFIED = "verified"
    EVALUATED = "evaluated"
    PROMOTED = "promoted"
    FORCED = "forced"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"
    ROLLED_BACK = "rolled_back"
    RESTORED = "restored"


_S, _E = VersionState, VersionEvent

TRANSITIONS: Final[Mapping[tuple[VersionState, VersionEvent], VersionState]] = {
    (_S.IMPORTED, _E.VERIFIED): _S.CHALLENGER,
    (_S.IMPORTED, _E.REJECTED): _S.REJECTED,
    (_S.TRAINED, _E.EVALUATED): _S.CHALLENGER,
    (_S.TRAINED, _E.REJECTED): _S.REJECTED,
    (_S.CHALLENGER, _E.PROMOTED): _S.CHAMPION,
    (_S.CHALLENGER, _E.FORCED): _S.CHAMPION,
    (_S.CHALLENGER, _E.REJECTED): _S.REJECTED,
    (_S.REJECTED, _E.FORCED): _S.CHAMPION,
    (_S.SUPERSEDED, _E.FORCED): _S.CHAMPION,
    (_S.CHAMPION, _E.SUPERSEDED): _S.SUPERSEDED,
    (_S.CHAMPION, _E.ROLLED_BACK): _S.QUARANTINED,
    (_S.SUPERSEDED, _E.RESTORED): _S.CHAMPION,
    (_S.QUARANTINED, _E.RESTORED): _S.CHAMPION,
}


class Origin(StrEnum):
    """How a version came to be."""

    TRAINED = "trained"
    IMPORTED = "imported"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a version, addressed by its content."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One immutable artifact with its lineage.

    Attributes:
        number: 1, 2, ... within its model.
        digest: one SHA-256 over all its files.
        accepted: metrics it was accepted with, e.g. {"accuracy": 0.95, "n": 140}; empty before.
        trained_through: last label sequence that its training snapshot may hold; 0 for none.
        n_training_rows: rows in its training snapshot.
    """

    id: UUID
    model_id: UUID
    number: int
    state: VersionState
    origin: Origin
    digest: str
    files: Sequence[ModelFile]
    created_at: datetime
    state_since: datetime
    metrics: Mapping[str, Any] = field(default_factory=dict)
    accepted: Mapping[str, Any] = field(default_factory=dict)
    reference: UUID | None = None
    run_id: UUID | None = None
    parent_id: UUID | None = None
    snapshot_sha256: str | None = None
    trained_through: int = 0
    n_training_rows: int = 0
    adopt: bool = False


@dataclass(frozen=True, slots=True)
class ReferenceChange:
    """One replacement of the dataset that a version is compared with: who, when, why."""

    before: UUID | None
    after: UUID
    at: datetime
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class Transition:
    """One move of a version, as it was recorded: who, when, why."""

    version_id: UUID
    number: int
    event: VersionEvent
    before: VersionState
    after: VersionState
    at: datetime
    actor: str
    reason: str
