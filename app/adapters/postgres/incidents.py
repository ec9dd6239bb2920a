"""Incidents, and the rows that they keep from being learned from."""

from collections.abc import Collection, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, insert, not_, select, text, true, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.adapters.postgres.paging import page_of
from app.adapters.postgres.schema import IncidentRow, ModelRow, ObservationRow
from app.domain.errors import Conflict, NotFound
from app.domain.faults import FaultKind, Place, Refusals, UpstreamFault
from app.domain.identity import new_id
from app.domain.incidents import (
    STANDING,
    TRANSITIONS,
    Incident,
    IncidentEvent,
    IncidentState,
)
from app.domain.states import after
from app.services.documents import document
from app.services.ports import Listed, Page

# A row that was sent again and came in right is no refusal; counts end where nobody would care.
_REFUSED: Final = text("""
WITH since AS (
  SELECT refused_through, accepted_through FROM models WHERE id = :model_id
), refused AS (
  SELECT q.sequence, q.faults, coalesce(q.observation_id, q.sequence::text) AS id
  FROM quarantined_observations q, since
  WHERE q.model_id = :model_id AND q.sequence > since.refused_through
    AND NOT EXISTS (SELECT 1 FROM observations o
                    WHERE o.model_id = :model_id AND o.id = q.observation_id)
  ORDER BY q.sequence DESC LIMIT :most
)
SELECT
  (SELECT count(DISTINCT id) FROM refused) AS n_refused,
  (SELECT count(*) FROM (SELECT 1 FROM quarantined_observations q, since
    WHERE q.model_id = :model_id AND q.sequence > since.refused_through LIMIT :most) AS s
  ) AS n_refusals,
  (SELECT count(*) FROM (SELECT 1 FROM observations o, since
    WHERE o.model_id = :model_id AND o.sequence > since.accepted_through LIMIT :most) AS a
  ) AS n_accepted,
  (SELECT jsonb_agg(jsonb_build_array(pointer, detail, n)) FROM (
    SELECT f ->> 'pointer' AS pointer, min(f ->> 'detail') AS detail, count(DISTINCT id) AS n
    FROM refused, jsonb_array_elements(faults) AS f
    GROUP BY 1 ORDER BY 3 DESC, 1 LIMIT 5) AS r) AS reasons,
  (SELECT max(sequence) FROM quarantined_observations WHERE model_id = :model_id) AS refused,
  (SELECT max(sequence) FROM observations WHERE model_id = :model_id) AS accepted
""")
_MOST: Final = 50_000


def is_sound(session: Session, model_id: UUID, *, while_standing: bool) -> ColumnElement[bool]:
    """Return the condition that an observation came in while nothing was broken.

    Args:
        session: in a transaction.
        model_id: whose observations they are.
        while_standing: whether rows of incidents that are not resolved yet count as sound.
    """
    query = select(IncidentRow).where(
        IncidentRow.model_id == model_id,
        IncidentRow.first_sequence.is_not(None),
        not_(IncidentRow.is_genuine),
    )
    conditions: list[ColumnElement[bool]] = [true()]
    arrived = ObservationRow.sequence
    for row in session.scalars(query):
        if row.state == IncidentState.RESOLVED:
            conditions.append(not_(arrived.between(row.first_sequence, row.last_sequence)))
        elif not while_standing:
            conditions.append(arrived < row.first_sequence)
    return and_(*conditions)


class PostgresIncidents:
    """Keeps `app.services.ports.Incidents`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def open(
        self, model_id: UUID, version_id: UUID, fault: UpstreamFault, *, report_id: UUID
    ) -> Incident:
        values = {
            "id": new_id(),
            "model_id": model_id,
            "version_id": version_id,
            "report_id": report_id,
            "state": IncidentState.OPEN,
            **document(fault),
        }
        try:
            added = self._session.scalar(
                insert(IncidentRow).values(**values).returning(IncidentRow)
            )
        except IntegrityError as error:
            raise Conflict(
                f"an incident of {fault.kind} in {fault.field} stands already"
            ) from error
        return _incident(added)

    def see_again(self, incident: Incident, fault: UpstreamFault) -> Incident:
        """Note that an incident that stands still shows."""
        return self._changed(
            incident,
            reason=fault.reason,
            numbers=document(fault.numbers),
            last_sequence=fault.last_sequence,
            last_seen_at=func.now(),
        )

    def advance(
        self, incident: Incident, event: IncidentEvent, *, by: str, **values: Any
    ) -> Incident:
        """Move an incident along one edge, in one guarded update.

        Raises:
            IllegalTransition: there is no such edge from where it is.
            Conflict: it has moved meanwhile.
        """
        reached = after(TRANSITIONS, "incident", incident.state, event)
        who = {f"{reached}_at": func.now(), f"{reached}_by": by}
        return self._changed(incident, state=reached, **who, **values)

    def _changed(self, incident: Incident, **values: Any) -> Incident:
        row = self._session.scalar(
            update(IncidentRow)
            .where(IncidentRow.id == incident.id, IncidentRow.state == incident.state)
            .values(**values)
            .returning(IncidentRow)
            .execution_options(populate_existing=True)
        )
        if row is None:
            raise Conflict(f"incident {incident.id} is no longer {incident.state}")
        return _incident(row)

    def get(self, incident_id: UUID, model_id: UUID) -> Incident:
        row = self._session.get(IncidentRow, incident_id, populate_existing=True)
        if row is None or row.model_id != model_id:
            raise NotFound(f"there is no incident {incident_id}")
        return _incident(row)

    def standing(self, model_id: UUID) -> Sequence[Incident]:
        """Return the incidents of a model that are not resolved, oldest first."""
        query = (
            select(IncidentRow)
            .where(IncidentRow.model_id == model_id, IncidentRow.state.in_(STANDING))
            .order_by(IncidentRow.id)
            .execution_options(populate_existing=True)
        )
        return [_incident(row) for row in self._session.scalars(query)]

    def settled(self, model_id: UUID, version_id: UUID) -> Collection[Place]:
        """Return what somebody said is no fault, under this champion."""
        query = select(IncidentRow.field, IncidentRow.kind).where(
            IncidentRow.model_id == model_id,
            IncidentRow.version_id == version_id,
            IncidentRow.is_genuine,
        )
        return {(row.field, FaultKind(row.kind)) for row in self._session.execute(query)}

    def listed(
        self,
        model_id: UUID,
        page: Page,
        *,
        state: str | None = None,
        kind: str | None = None,
        field: str | None = None,
    ) -> Listed:
        query = select(IncidentRow).where(IncidentRow.model_id == model_id)
        wanted = {IncidentRow.state: state, IncidentRow.kind: kind, IncidentRow.field: field}
        for column, value in wanted.items():
            if value is not None:
                query = query.where(column == value)
        return page_of(self._session, query, page, (IncidentRow.id,), _incident)

    def refusals(self, model_id: UUID) -> Refusals:
        """Return what became of the observations since refusals were last judged."""
        row = self._session.execute(_REFUSED, {"model_id": model_id, "most": _MOST}).one()
        return Refusals(
            n_refused=row.n_refused,
            n_refusals=row.n_refusals,
            n_accepted=row.n_accepted,
            reasons=[(where, what, n) for where, what, n in row.reasons or ()],
            through=(row.refused or 0, row.accepted or 0),
        )

    def judged_refusals(self, model_id: UUID, refusals: Refusals) -> None:
        """Note how far refusals were judged."""
        refused, accepted = refusals.through
        self._session.execute(
            update(ModelRow)
            .where(ModelRow.id == model_id)
            .values(
                refused_through=func.greatest(ModelRow.refused_through, refused),
                accepted_through=func.greatest(ModelRow.accepted_through, accepted),
            )
        )


def _incident(row: Any) -> Incident:
    return Incident(
        id=row.id,
        model_id=row.model_id,
        version_id=row.version_id,
        field=row.field,
        kind=FaultKind(row.kind),
        state=IncidentState(row.state),
        reason=row.reason,
        numbers=row.numbers,
        first_sequence=row.first_sequence,
        last_sequence=row.last_sequence,
        report_id=row.report_id,
        opened_at=row.opened_at,
        last_seen_at=row.last_seen_at,
        acknowledged_at=row.acknowledged_at,
        acknowledged_by=row.acknowledged_by,
        resolved_at=row.resolved_at,
        resolved_by=row.resolved_by,
        resolution=row.resolution,
        is_genuine=row.is_genuine,
    )
