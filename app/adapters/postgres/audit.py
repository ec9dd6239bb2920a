"""The audit: append-only, each entry bound to the one before by its hash."""

from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from app.adapters.postgres.paging import page_of
from app.adapters.postgres.schema import AuditRow
from app.domain.identity import content_hash
from app.services.documents import document
from app.services.ports import Json, Listed, Page

GENESIS = "0" * 64
_LOCK = 0x55504B45  # any fixed number: writers of the chain take turns on it


class PostgresEvents:
    """Keeps `app.services.ports.Events`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def record(
        self,
        action: str,
        *,
        actor: str,
        subject: str,
        project_id: UUID | None = None,
        model_id: UUID | None = None,
        detail: Json | None = None,
    ) -> None:
        """Append one entry; it commits or vanishes with the change it tells of."""
        self._session.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        last = self._session.execute(
            select(AuditRow.sequence, AuditRow.sha256).order_by(AuditRow.sequence.desc()).limit(1)
        ).one_or_none()
        entry = {
            "sequence": last[0] + 1 if last else 1,
            "at": datetime.now(UTC),
            "actor": actor,
            "action": action,
            "project_id": project_id,
            "model_id": model_id,
            "subject": subject,
            "detail": document(detail or {}),
            "previous_sha256": last[1] if last else GENESIS,
        }
        self._session.execute(insert(AuditRow).values(**entry, sha256=_hash(entry)))

    def listed(self, project_id: UUID, page: Page, *, model_id: UUID | None = None) -> Listed:
        query = select(AuditRow).where(AuditRow.project_id == project_id)
        if model_id is not None:
            query = query.where(AuditRow.model_id == model_id)
        return page_of(self._session, query, page, (AuditRow.sequence,), _entry)

    def verify(self) -> Json:
        """Walk the chain; say whether it is whole, and where it first breaks."""
        previous, n = GENESIS, 0
        for row in self._session.scalars(select(AuditRow).order_by(AuditRow.sequence)):
            n += 1
            entry = _entry(row)
            claimed = entry.pop("sha256")
            if row.sequence != n or row.previous_sha256 != previous or claimed != _hash(entry):
                return {"is_whole": False, "n_entries": n, "broken_at": row.sequence}
            previous = claimed
        return {"is_whole": True, "n_entries": n, "broken_at": None}


def _hash(entry: Json) -> str:
    at: datetime = entry["at"]
    return content_hash(document({**entry, "at": at.astimezone(UTC).isoformat()}))


def _entry(row: AuditRow) -> Json:
    return {
        "sequence": row.sequence,
        "at": row.at,
        "actor": row.actor,
        "action": row.action,
        "project_id": row.project_id,
        "model_id": row.model_id,
        "subject": row.subject,
        "detail": row.detail,
        "previous_sha256": row.previous_sha256,
        "sha256": row.sha256,
    }
