"""Incidents: a fault upstream from when it is seen until it is mended, and what it holds up."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from app.domain.faults import FaultKind, Place


class IncidentState(StrEnum):
    """Where an incident is."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class IncidentEvent(StrEnum):
    """What can happen to an incident."""

    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


STANDING: Final = frozenset({IncidentState.OPEN, IncidentState.ACKNOWLEDGED})
"""The states in which nothing is retrained by itself."""

TRANSITIONS: Final[Mapping[tuple[IncidentState, IncidentEvent], IncidentState]] = {
    (IncidentState.OPEN, IncidentEvent.ACKNOWLEDGED): IncidentState.ACKNOWLEDGED,
    (IncidentState.OPEN, IncidentEvent.RESOLVED): IncidentState.RESOLVED,
    (IncidentState.ACKNOWLEDGED, IncidentEvent.RESOLVED): IncidentState.RESOLVED,
}


@dataclass(frozen=True, slots=True)
class Incident:
    """A field that arrived broken, and what became of it.

    Attributes:
        version_id: the champion against whose reference it was seen first.
        numbers: as `UpstreamFault` has them, newest.
        first_sequence, last_sequence: arrival numbers of the first and last broken row; nothing is
            learned from those between. None where none was stored.
        report_id: the report that opened it.
        last_seen_at: the newest check that saw it.
        is_genuine: somebody said that it is no fault but how things are now: its rows count, and
            the same field and kind opens no other incident under the same champion.
    """

    id: UUID
    model_id: UUID
    version_id: UUID
    field: str
    kind: FaultKind
    state: IncidentState
    reason: str
    numbers: Mapping[str, Any]
    first_sequence: int | None
    last_sequence: int | None
    report_id: UUID | None
    opened_at: datetime
    last_seen_at: datetime
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    resolved_at: datetime | None = None
    resolved_by: str | None = None
    resolution: str | None = None
    is_genuine: bool = False

    @property
    def place(self) -> Place:
        """Where the fault is."""
        return self.field, self.kind

    @property
    def named(self) -> str:
        """What it is called in a sentence."""
        return f"incident {self.id} ({self.kind}, {self.field})"

    @property
    def says(self) -> str:
        """That it stands, and why."""
        return f"{self.named} stands: {self.reason}"
