"""Forgetting what policies want forgotten, in steps that hold nobody up for long."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final
from uuid import UUID

from psycopg import sql
from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.adapters.postgres import copying, segments, writing
from app.adapters.postgres.schema import ForgottenRow
from app.services.ports import Dropped, Due, Json

_TURN: Final = 0x666F7267  # any fixed number: two schedulers take turns on it

_DUE: Final = text("""
SELECT m.id AS model_id, k.kind, k.before
FROM models m
JOIN policies p ON p.model_id = m.id AND p.version = m.policy_version
CROSS JOIN LATERAL (VALUES
  ('inputs', p.document #>> '{retention,inputs_days}'),
  ('quarantine', p.document #>> '{retention,quarantine_days}'),
  ('reports', p.document #>> '{retention,reports_days}')) AS w(kind, days)
CROSS JOIN LATERAL (SELECT w.kind, CAST(:today AS date) - w.days::int AS before) AS k
LEFT JOIN forgotten f ON f.model_id = m.id AND f.kind = k.kind
WHERE k.before IS NOT NULL AND (:all OR f.before IS NULL OR f.before < k.before)
ORDER BY k.before
""")

# The rows' turn is held, so that none of them moves under a label that arrives meanwhile.
_INLINE: Final = """
UPDATE observations SET inputs = NULL, scores = NULL
WHERE inputs IS NOT NULL AND ctid = ANY(ARRAY(
  SELECT ctid FROM observations
  WHERE model_id = %(model_id)s AND inputs IS NOT NULL
    AND received_at < %(before)s::date::timestamp AT TIME ZONE 'UTC'
  ORDER BY received_at LIMIT 1000))
"""

_SEGMENTS: Final = text("""
WITH gone AS (
  DELETE FROM observation_segments WHERE arrived_on < :before AND (arrived_on, id) IN (
    SELECT arrived_on, id FROM observation_segments
    WHERE model_id = :model_id AND arrived_on < :before LIMIT 64)
  RETURNING n_rows
)
SELECT coalesce(sum(n_rows), 0) FROM gone
""")

# The innermost LIMIT bounds what is read where nothing is old enough.
_QUARANTINE: Final = text("""
WITH gone AS (
  DELETE FROM quarantined_observations WHERE sequence IN (
    SELECT sequence FROM (
      SELECT sequence, received_at FROM quarantined_observations
      WHERE model_id = :model_id ORDER BY sequence LIMIT 1000) AS oldest
    WHERE received_at < CAST(:before AS date)::timestamp AT TIME ZONE 'UTC')
  RETURNING 1
)
SELECT count(*) FROM gone
""")

_REPORTS: Final = text("""
WITH gone AS (
  UPDATE drift_reports SET evidently_html = NULL, evidently_json = NULL WHERE id IN (
    SELECT id FROM drift_reports
    WHERE model_id = :model_id
      AND created_at < CAST(:before AS date)::timestamp AT TIME ZONE 'UTC'
      AND (evidently_html IS NOT NULL OR evidently_json IS NOT NULL)
    ORDER BY created_at LIMIT 200)
  RETURNING 1
)
SELECT count(*) FROM gone
""")


class PostgresRetention:
    """Keeps `app.services.ports.Retention`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def take_turn(self) -> bool:
        """Tell whether nobody else forgets now; if so, hold it until the transaction ends."""
        query = select(func.pg_try_advisory_xact_lock(_TURN))
        return bool(self._session.scalar(query))

    def due(self, today: date) -> Sequence[Due]:
        """Return what has not been forgotten yet though a policy says so."""
        rows = self._session.execute(_DUE, {"today": today, "all": False})
        return [Due(row.model_id, row.kind, row.before) for row in rows]

    def drop_day(self, today: date) -> Dropped | None:
        """Drop the oldest partition that no model needs.

        None where there is none, or where it is being read just now: then it is tried again
        another time, for who waits for a lock makes all others wait behind it.
        """
        rows = self._session.execute(_DUE, {"today": today, "all": True})
        needed = {row.model_id: row.before for row in rows if row.kind == "inputs"}
        for name, day in segments.partitions(self._session):
            held = segments.rows_by_model(self._session, name)
            if day >= today or any(day >= needed.get(model, date.min) for model in held):
                continue
            return Dropped(day, held) if self._drop(name) else None
        return None

    def _drop(self, partition: str) -> bool:
        self._session.execute(text("SET LOCAL lock_timeout = '200ms'"))
        drop = sql.SQL("DROP TABLE {}").format(sql.Identifier(partition))
        try:
            with self._session.begin_nested():
                self._session.execute(text(drop.as_string(None)))
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != "55P03":  # lock_not_available
                raise
            return False
        return True

    def forget(self, due: Due) -> int:
        """Forget a little of what is due; return how much, 0 where nothing is left."""
        values: dict[str, Any] = {"model_id": due.model_id, "before": due.before}
        if due.kind == "quarantine":
            return int(self._session.scalar(_QUARANTINE, values) or 0)
        if due.kind == "reports":
            return int(self._session.scalar(_REPORTS, values) or 0)
        return int(self._session.scalar(_SEGMENTS, values) or 0) or self._forget_inline(values)

    def _forget_inline(self, values: dict[str, Any]) -> int:
        with copying.raw_cursor(self._session) as cursor:
            writing.take_turn(cursor, values["model_id"])
            return cursor.execute(_INLINE, values).rowcount

    def note(self, model_id: UUID, kind: str, *, n: int = 0, before: date | None = None) -> None:
        """Add to what was forgotten of a model; with `before`, all that arrived until then is."""
        add = upsert(ForgottenRow).values(model_id=model_id, kind=kind, n=n, before=before)
        self._session.execute(
            add.on_conflict_do_update(
                index_elements=["model_id", "kind"],
                set_={
                    "n": ForgottenRow.n + n,
                    "before": func.greatest(ForgottenRow.before, before),
                    "updated_at": func.now(),
                },
            )
        )

    def of(self, model_id: UUID) -> Mapping[str, Json]:
        """Return what was forgotten of a model, by kind."""
        rows = self._session.scalars(select(ForgottenRow).where(ForgottenRow.model_id == model_id))
        return {
            row.kind: {"before": row.before, "n_forgotten": row.n, "updated_at": row.updated_at}
            for row in rows
        }
