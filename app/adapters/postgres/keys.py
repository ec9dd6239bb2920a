"""API keys and projects."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from app.adapters.postgres.schema import ApiKeyRow, ProjectRow
from app.domain.errors import NotFound
from app.domain.identity import new_id
from app.services.ports import Json

# Every request asks these, so they are kept as short as text.
_DEFAULT = text("SELECT id FROM projects WHERE name = 'default'")
_FIND = text(
    "SELECT name, role, project_id FROM api_keys WHERE key_sha256 = :sha256 AND revoked_at IS NULL"
)
_ANY = text("SELECT EXISTS (SELECT 1 FROM api_keys WHERE revoked_at IS NULL)")


class PostgresKeys:
    """Keeps `app.services.ports.Keys`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def default_project(self) -> UUID:
        """Return the project that everything belongs to until others are made."""
        connection = self._session.connection()
        found = connection.scalar(_DEFAULT)
        if found is None:
            statement = upsert(ProjectRow).values(id=new_id(), name="default")
            connection.execute(statement.on_conflict_do_nothing())
            found = connection.scalars(_DEFAULT).one()
        return UUID(str(found))

    def add(self, key_id: UUID, project_id: UUID, name: str, role: str, sha256: str) -> None:
        self._session.execute(
            insert(ApiKeyRow).values(
                id=key_id, project_id=project_id, name=name, role=role, key_sha256=sha256
            )
        )

    def find(self, sha256: str) -> tuple[str, str, UUID] | None:
        """Return (name, role, project) of a valid key."""
        row = self._session.connection().execute(_FIND, {"sha256": sha256}).one_or_none()
        return (row[0], row[1], row[2]) if row else None

    def any(self) -> bool:
        return bool(self._session.connection().scalar(_ANY))

    def listed(self, project_id: UUID) -> Sequence[Json]:
        rows = self._session.scalars(
            select(ApiKeyRow).where(ApiKeyRow.project_id == project_id).order_by(ApiKeyRow.id)
        )
        return [
            {
                "id": row.id,
                "name": row.name,
                "role": row.role,
                "created_at": row.created_at,
                "revoked_at": row.revoked_at,
            }
            for row in rows
        ]

    def revoke(self, key_id: UUID, project_id: UUID) -> None:
        revoked = self._session.scalar(
            update(ApiKeyRow)
            .where(ApiKeyRow.id == key_id, ApiKeyRow.project_id == project_id)
            .values(revoked_at=func.coalesce(ApiKeyRow.revoked_at, func.now()))
            .returning(ApiKeyRow.id)
        )
        if revoked is None:
            raise NotFound(f"there is no key {key_id}")
