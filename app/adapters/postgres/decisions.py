"""Decision records."""

from uuid import UUID

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from app.adapters.postgres.paging import page_of
from app.adapters.postgres.schema import DecisionRow
from app.domain.errors import NotFound
from app.services.ports import Json, Listed, Page


class PostgresDecisions:
    """Keeps `app.services.ports.Decisions`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, decision: Json) -> None:
        self._session.execute(insert(DecisionRow).values(**decision))

    def attach_run(self, decision_id: UUID, run_id: UUID) -> None:
        self._session.execute(
            update(DecisionRow).where(DecisionRow.id == decision_id).values(run_id=run_id)
        )

    def get(self, decision_id: UUID, model_id: UUID) -> Json:
        row = self._session.get(DecisionRow, decision_id)
        if row is None or row.model_id != model_id:
            raise NotFound(f"there is no decision {decision_id}")
        return {**_decision(row), "situation": row.situation}

    def listed(self, model_id: UUID, page: Page, *, outcome: str | None = None) -> Listed:
        query = select(DecisionRow).where(DecisionRow.model_id == model_id)
        if outcome is not None:
            query = query.where(DecisionRow.outcome == outcome)
        return page_of(self._session, query, page, (DecisionRow.id,), _decision)


def _decision(row: DecisionRow) -> Json:
    return {
        "id": row.id,
        "outcome": row.outcome,
        "trigger": row.trigger,
        "reason": row.reason,
        "signals": row.signals,
        "defer_until": row.defer_until,
        "policy_version": row.policy_version,
        "report": row.report_id,
        "run": row.run_id,
        "actor": row.actor,
        "created_at": row.created_at,
    }
