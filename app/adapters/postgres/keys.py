"""API keys and projects."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import exists, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from app.adapters.postgres.schema import ApiKeyRow, ProjectRow
from app.domain.errors import NotFound
from app.domain.identity import new_id
from app.services.ports import Json


class PostgresKeys:
    """Keeps `app.services.ports.Keys`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def default_project(self) -> UUID:
        """Return the project that everything belongs to until others are made."""
        query = select(ProjectRow.id).where(ProjectRow.name == "default")
        found = self._session.scalar(query)
        if found is None:
            statement = upsert(ProjectRow).values(id=new_id(), name="default")
            self._session.execute(statement.on_conflict_do_nothing())
            found = self._session.scalars(query).one()
        return found

    def add(self, key_id: UUID, project_id: UUID, name: str, role: str, sha256: str) -> None:
        self._session.execute(
            insert(ApiKeyRow).values(
                id=key_id, project_id=project_id, name=name, role=role, key_sha256=sha256
            )
        )

    def find(self, sha256: str) -> tuple[str, str, UUID] | None:
        """Return (name, role, project) of a valid key."""
        row = self._session.execute(
            select(ApiKeyRow.name, ApiKeyRow.role, ApiKeyRow.project_id).where(
                ApiKeyRow.key_sha256 == sha256, ApiKeyRow.revoked_at.is_(None)
            )
        ).one_or_none()
        return (row[0], row[1], row[2]) if row else None

    def any(self) -> bool:
        return bool(self._session.scalar(select(exists().where(ApiKeyRow.revoked_at.is_(None)))))

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
