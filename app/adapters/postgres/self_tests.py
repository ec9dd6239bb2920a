"""Self-tests of detectors, and what they found."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from app.adapters.postgres import leases
from app.adapters.postgres.paging import page_of
from app.adapters.postgres.schema import SelfTestRow
from app.domain.errors import Conflict, NotFound
from app.domain.identity import new_id
from app.domain.training import Lease
from app.services.ports import Json, Listed, Page
from app.services.training import problem

IN_FLIGHT: Final = ("queued", "running")
MOST_ATTEMPTS: Final = 5

# What measured nothing is tried again after a day.
_DUE: Final = text("""
WITH planned AS (
  SELECT m.id, make_interval(days =>
      coalesce((p.document #>> '{check,self_test,every_days}')::int, :every_days)) AS every,
    coalesce(t.requested_at, m.created_at) AS since,
    t.state = 'failed' OR t.result->>'outcome' = 'deferred' AS is_open
  FROM models m JOIN policies p ON p.model_id = m.id AND p.version = m.policy_version
  LEFT JOIN LATERAL (SELECT state, requested_at, result FROM self_tests s
    WHERE s.model_id = m.id ORDER BY s.id DESC LIMIT 1) AS t ON true
  WHERE NOT m.is_paused
    AND EXISTS (SELECT 1 FROM model_versions v WHERE v.model_id = m.id AND v.state = 'champion'
                AND v.reference IS NOT NULL)
    AND NOT EXISTS (SELECT 1 FROM self_tests s
                    WHERE s.model_id = m.id AND s.state IN ('queued', 'running'))
)
SELECT m.id FROM models m JOIN planned d ON d.id = m.id
WHERE d.every > interval '0'
  AND d.since + CASE WHEN d.is_open THEN least(d.every, interval '1 day') ELSE d.every END <= :now
FOR UPDATE OF m SKIP LOCKED
""")

_NEWEST: Final = text("""
SELECT m.name, t.finished_at, t.result FROM models m CROSS JOIN LATERAL (
  SELECT finished_at, result FROM self_tests s
  WHERE s.model_id = m.id AND s.result->>'outcome' = 'measured' ORDER BY s.id DESC LIMIT 1) AS t
""")


class PostgresSelfTests:
    """Keeps `app.services.ports.SelfTests`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def request(self, model_id: UUID, *, requested_by: str) -> tuple[UUID, bool]:
        """Ask for a self-test; return its id, and False when one was in flight already."""
        added = self._session.scalar(
            upsert(SelfTestRow)
            .values(id=new_id(), model_id=model_id, requested_by=requested_by)
            .on_conflict_do_nothing()
            .returning(SelfTestRow.id)
        )
        if added is not None:
            return added, True
        flying = self._session.scalar(
            select(SelfTestRow.id).where(
                SelfTestRow.model_id == model_id, SelfTestRow.state.in_(IN_FLIGHT)
            )
        )
        if flying is None:
            raise Conflict("a self-test of this model has just ended; ask again")
        return flying, False

    def due(self, *, now: datetime, every_days: int) -> Sequence[UUID]:
        """Return models whose detectors are to be tested, locked for this transaction.

        Args:
            now: the time.
            every_days: for policies that do not say.
        """
        return list(self._session.scalars(_DUE, {"now": now, "every_days": every_days}))

    def get(self, test_id: UUID, model_id: UUID) -> Json:
        row = self._session.get(SelfTestRow, test_id)
        if row is None or row.model_id != model_id:
            raise NotFound(f"there is no self-test {test_id}")
        return _shown(row)

    def listed(self, model_id: UUID, page: Page) -> Listed:
        query = select(SelfTestRow).where(SelfTestRow.model_id == model_id)
        return page_of(self._session, query, page, (SelfTestRow.id,), _shown)

    def lease(self, test_id: UUID, *, owner: str, seconds: float) -> tuple[Lease, UUID] | None:
        lease = leases.take(
            self._session,
            SelfTestRow,
            test_id,
            owner=owner,
            seconds=seconds,
            allowed=SelfTestRow.state.in_(IN_FLIGHT),
            state="running",
            attempt=SelfTestRow.attempt + 1,
        )
        if lease is None:
            return None
        return lease, self._session.get_one(SelfTestRow, test_id).model_id

    def renew(self, lease: Lease, *, seconds: float) -> bool:
        return leases.renew(self._session, SelfTestRow, lease, seconds=seconds)

    def release(self, lease: Lease) -> None:
        leases.release(self._session, SelfTestRow, lease)

    def complete(self, lease: Lease, *, version: int, result: Json) -> None:
        self._end(lease, state="completed", version_number=version, result=result)

    def fail(self, lease: Lease, error: Json) -> None:
        self._end(lease, state="failed", error=error)

    def _end(self, lease: Lease, **values: Any) -> None:
        ended = self._session.scalar(
            update(SelfTestRow)
            .where(
                SelfTestRow.id == lease.job_id,
                SelfTestRow.fencing_token == lease.token,
                SelfTestRow.state.in_(IN_FLIGHT),
            )
            .values(finished_at=func.now(), lease_expires_at=None, **values)
            .returning(SelfTestRow.id)
        )
        if ended is None:
            raise Conflict(f"self-test {lease.job_id} was given to another worker meanwhile")

    def blind(self, model_id: UUID) -> Collection[str]:
        """Return the shifts, as `kind/name`, that the last test found its detectors blind to."""
        result = self._session.scalar(
            select(SelfTestRow.result)
            .where(
                SelfTestRow.model_id == model_id,
                SelfTestRow.result["outcome"].astext == "measured",
            )
            .order_by(SelfTestRow.id.desc())
            .limit(1)
        )
        shifts = result["shifts"] if result else []
        return {f"{one['kind']}/{one['name']}" for one in shifts if one["is_blind"]}

    def newest(self) -> Sequence[Json]:
        """Return the newest measured self-test of every model that has one."""
        return [dict(row._mapping) for row in self._session.execute(_NEWEST)]

    def stalled(self, *, resend_seconds: float) -> Sequence[UUID]:
        """Return tests in flight that no worker holds, though they were sent a while ago.

        One that took its worker with it too often is given up.
        """
        free = or_(
            SelfTestRow.lease_expires_at < func.now(), SelfTestRow.lease_expires_at.is_(None)
        )
        is_stalled = (
            SelfTestRow.state.in_(IN_FLIGHT),
            SelfTestRow.requested_at < func.now() - timedelta(seconds=resend_seconds),
            free,
        )
        error = problem("attempts-exhausted", f"its worker was lost {MOST_ATTEMPTS} times")
        self._session.execute(
            update(SelfTestRow)
            .where(*is_stalled, SelfTestRow.attempt >= MOST_ATTEMPTS)
            .values(state="failed", finished_at=func.now(), error=error)
        )
        return list(
            self._session.scalars(
                select(SelfTestRow.id).where(*is_stalled).with_for_update(skip_locked=True)
            )
        )


def _shown(row: SelfTestRow) -> Json:
    return {
        "id": row.id,
        "state": row.state,
        "version": row.version_number,
        "result": row.result,
        "error": row.error,
        "requested_by": row.requested_by,
        "requested_at": row.requested_at,
        "finished_at": row.finished_at,
    }
