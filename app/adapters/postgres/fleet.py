"""What the workers can run, which processes are alive, and the outbox of jobs."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import delete, func, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from app.adapters.postgres.schema import HeartbeatRow, OutboxRow, PluginRow
from app.services.ports import Json, Plugin

QUEUES: Final = {
    "check_drift": "checks",
    "evaluate": "checks",
    "self_test": "checks",
    "verify_version": "checks",
    "train": "training",
}


def _plugin(row: PluginRow) -> Plugin:
    return Plugin(row.kind, row.name, row.description, row.options, row.detail, row.version)


class PostgresPlugins:
    """Keeps `app.services.ports.Plugins`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def announce(self, plugins: Iterable[Plugin]) -> None:
        for plugin in sorted(plugins, key=lambda plugin: (plugin.kind, plugin.name)):
            values = {
                "description": plugin.description,
                "options": dict(plugin.options),
                "detail": dict(plugin.detail),
                "version": plugin.version,
            }
            statement = upsert(PluginRow).values(kind=plugin.kind, name=plugin.name, **values)
            self._session.execute(
                statement.on_conflict_do_update(
                    index_elements=["kind", "name"], set_={**values, "last_seen_at": func.now()}
                )
            )

    def of_kind(self, kind: str) -> Sequence[Plugin]:
        rows = self._session.scalars(
            select(PluginRow).where(PluginRow.kind == kind).order_by(PluginRow.name)
        )
        return [_plugin(row) for row in rows]

    def find(self, kind: str, name: str) -> Plugin | None:
        row = self._session.get(PluginRow, (kind, name))
        return None if row is None else _plugin(row)

    def beat(self, name: str, kind: str, detail: Json) -> None:
        statement = upsert(HeartbeatRow).values(name=name, kind=kind, detail=detail)
        self._session.execute(
            statement.on_conflict_do_update(
                index_elements=["name"],
                set_={"kind": kind, "detail": detail, "seen_at": func.now()},
            )
        )
        stale = func.now() - timedelta(days=1)
        self._session.execute(delete(HeartbeatRow).where(HeartbeatRow.seen_at < stale))

    def alive(self, *, seconds: float) -> Sequence[Json]:
        rows = self._session.scalars(
            select(HeartbeatRow)
            .where(HeartbeatRow.seen_at > func.now() - timedelta(seconds=seconds))
            .order_by(HeartbeatRow.name)
        )
        return [
            {"name": row.name, "kind": row.kind, "detail": row.detail, "seen_at": row.seen_at}
            for row in rows
        ]


class PostgresOutbox:
    """Keeps `app.services.ports.Outbox`; the relay reads it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def send(self, job: str, subject_id: UUID) -> None:
        self._session.execute(
            insert(OutboxRow).values(job=job, queue=QUEUES[job], subject_id=subject_id)
        )

    def take(self, limit: int = 100) -> Sequence[tuple[str, str, UUID]]:
        """Remove and return (job, queue, subject) of the oldest rows; others skip them."""
        oldest = (
            select(OutboxRow.sequence)
            .order_by(OutboxRow.sequence)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        rows = self._session.execute(
            delete(OutboxRow)
            .where(OutboxRow.sequence.in_(oldest))
            .returning(OutboxRow.sequence, OutboxRow.job, OutboxRow.queue, OutboxRow.subject_id)
        ).all()
        return [(row.job, row.queue, row.subject_id) for row in sorted(rows)]

    def n_waiting(self) -> int:
        """Return how many jobs wait for the relay."""
        return self._session.scalar(select(func.count()).select_from(OutboxRow)) or 0
