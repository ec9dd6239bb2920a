"""Training runs and their leases."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.adapters.postgres import leases
from app.adapters.postgres.paging import page_of
from app.adapters.postgres.schema import ModelVersionRow, TrainingRunRow
from app.domain.errors import Conflict, NotFound
from app.domain.states import after
from app.domain.training import IN_FLIGHT, TRANSITIONS, Lease, RunEvent, RunSpec, RunState
from app.domain.training import TrainingRun as Run
from app.services.documents import document
from app.services.ports import Json, Listed, Page

_FINAL = frozenset(RunState) - IN_FLIGHT


class PostgresRuns:
    """Keeps `app.services.ports.Runs`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, run: Run, *, idempotency_key: str | None, request_sha256: str | None) -> None:
        values = {
            "id": run.id,
            "model_id": run.model_id,
            "spec": document(run.spec),
            "reason": run.reason,
            "actor": run.actor,
            "decision_id": run.decision_id,
            "idempotency_key": idempotency_key,
            "request_sha256": request_sha256,
            "snapshot": document(run.snapshot) if run.snapshot else None,
            "snapshot_sha256": run.snapshot_sha256,
        }
        try:
            self._session.execute(insert(TrainingRunRow).values(**values))
        except IntegrityError as error:
            raise Conflict("another training run of this model is in flight") from error

    def by_key(self, model_id: UUID, key: str) -> tuple[Run, str | None] | None:
        row = self._session.scalar(
            select(TrainingRunRow).where(
                TrainingRunRow.model_id == model_id, TrainingRunRow.idempotency_key == key
            )
        )
        return (self._run(row), row.request_sha256) if row else None

    def get(self, run_id: UUID, model_id: UUID | None = None) -> Run:
        row = self._session.get(TrainingRunRow, run_id, populate_existing=True)
        if row is None or (model_id is not None and row.model_id != model_id):
            raise NotFound(f"there is no training run {run_id}")
        return self._run(row)

    def in_flight(self, model_id: UUID) -> Run | None:
        row = self._session.scalar(
            select(TrainingRunRow).where(
                TrainingRunRow.model_id == model_id, TrainingRunRow.state.in_(IN_FLIGHT)
            )
        )
        return self._run(row) if row else None

    def newest(self, model_id: UUID) -> Run | None:
        row = self._session.scalar(
            select(TrainingRunRow)
            .where(TrainingRunRow.model_id == model_id)
            .order_by(TrainingRunRow.id.desc())
            .limit(1)
        )
        return self._run(row) if row else None

    def listed(self, model_id: UUID, page: Page, *, state: str | None = None) -> Listed:
        query = select(TrainingRunRow).where(TrainingRunRow.model_id == model_id)
        if state is not None:
            query = query.where(TrainingRunRow.state == state)
        return page_of(self._session, query, page, (TrainingRunRow.id,), self._run)

    def lease(self, run_id: UUID, *, owner: str, seconds: float) -> Lease | None:
        """Lease a run that is queued, lost by its worker, or waits to be judged."""
        return leases.take(
            self._session,
            TrainingRunRow,
            run_id,
            owner=owner,
            seconds=seconds,
            allowed=TrainingRunRow.state.in_(IN_FLIGHT),
        )

    def renew(self, lease: Lease, *, seconds: float) -> bool:
        return leases.renew(self._session, TrainingRunRow, lease, seconds=seconds)

    def release(self, lease: Lease) -> None:
        leases.release(self._session, TrainingRunRow, lease)

    def advance(self, run_id: UUID, event: RunEvent, *, lease: Lease | None = None) -> RunState:
        """Move a run along one edge, in one guarded update.

        Raises:
            IllegalTransition: there is no such edge from where it is.
            Conflict: it has moved meanwhile, or another worker holds the lease.
        """
        before = self.get(run_id).state
        reached = after(TRANSITIONS, "training run", before, event)
        values: dict[str, Any] = {"state": reached}
        if event is RunEvent.STARTED:
            values |= {
                "started_at": func.coalesce(TrainingRunRow.started_at, func.now()),
                "attempt": TrainingRunRow.attempt + 1,
            }
        if reached in _FINAL:
            values |= {"finished_at": func.now()}
        if event is not RunEvent.STARTED:
            values |= {"lease_owner": None, "lease_expires_at": None}
        if event is RunEvent.LOST:  # whoever was silent must not hold on to it
            values |= {"fencing_token": TrainingRunRow.fencing_token + 1}
        statement = update(TrainingRunRow).where(
            TrainingRunRow.id == run_id, TrainingRunRow.state == before
        )
        if lease is not None:
            statement = statement.where(TrainingRunRow.fencing_token == lease.token)
        moved = self._session.scalar(statement.values(**values).returning(TrainingRunRow.id))
        if moved is None:
            raise Conflict(f"training run {run_id} is no longer {before}, or no longer yours")
        return reached

    def set_progress(self, lease: Lease, progress: Json) -> bool:
        return self._under(lease, progress=progress)

    def set_snapshot(self, lease: Lease, sha256: str, parts: Json) -> None:
        if not self._under(lease, snapshot_sha256=sha256, snapshot=parts):
            raise Conflict(f"training run {lease.job_id} was given to another worker meanwhile")

    def _under(self, lease: Lease, **values: Any) -> bool:
        written = self._session.scalar(
            update(TrainingRunRow)
            .where(TrainingRunRow.id == lease.job_id, TrainingRunRow.fencing_token == lease.token)
            .values(**values)
            .returning(TrainingRunRow.id)
        )
        return written is not None

    def set_result(
        self,
        run_id: UUID,
        *,
        result: Json | None = None,
        error: Json | None = None,
        outcome: str | None = None,
    ) -> None:
        given = {"result": result, "error": error, "outcome": outcome}
        values = {name: value for name, value in given.items() if value is not None}
        self._session.execute(
            update(TrainingRunRow).where(TrainingRunRow.id == run_id).values(**values)
        )

    def request_cancel(self, run_id: UUID) -> None:
        self._session.execute(
            update(TrainingRunRow)
            .where(TrainingRunRow.id == run_id, TrainingRunRow.cancel_requested_at.is_(None))
            .values(cancel_requested_at=func.now())
        )

    def is_cancelled(self, run_id: UUID) -> bool:
        query = select(TrainingRunRow.cancel_requested_at).where(TrainingRunRow.id == run_id)
        return self._session.scalar(query) is not None

    def lost(self) -> Sequence[UUID]:
        """Return runs whose worker has not renewed its lease in time."""
        return list(
            self._session.scalars(
                select(TrainingRunRow.id)
                .where(
                    TrainingRunRow.state == RunState.RUNNING,
                    or_(
                        TrainingRunRow.lease_expires_at < func.now(),
                        TrainingRunRow.lease_expires_at.is_(None),
                    ),
                )
                .with_for_update(skip_locked=True)
            )
        )

    def stalled(self, *, resend_seconds: float) -> Sequence[tuple[UUID, str]]:
        """Return (run, state) of runs that wait for a worker though they were sent a while ago."""
        row = TrainingRunRow
        since: Any = func.greatest(row.queued_at, row.started_at)
        free = or_(row.lease_expires_at < func.now(), row.lease_expires_at.is_(None))
        found = self._session.execute(
            select(row.id, row.state)
            .where(
                row.state.in_((RunState.QUEUED, RunState.TRAINED)),
                since < func.now() - timedelta(seconds=resend_seconds),
                free,
            )
            .with_for_update(skip_locked=True)
        )
        return [(item.id, item.state) for item in found]

    def _run(self, row: TrainingRunRow) -> Run:
        version = self._session.execute(
            select(ModelVersionRow.id, ModelVersionRow.number).where(
                ModelVersionRow.run_id == row.id
            )
        ).one_or_none()
        return Run(
            id=row.id,
            model_id=row.model_id,
            state=RunState(row.state),
            spec=_spec(row.spec),
            queued_at=row.queued_at,
            attempt=row.attempt,
            fencing_token=row.fencing_token,
            decision_id=row.decision_id,
            version_id=version[0] if version else None,
            version_number=version[1] if version else None,
            outcome=row.outcome,
            progress=row.progress,
            result=row.result,
            error=row.error,
            snapshot_sha256=row.snapshot_sha256,
            snapshot=row.snapshot,
            started_at=row.started_at,
            finished_at=row.finished_at,
            cancel_requested_at=row.cancel_requested_at,
            reason=row.reason,
            actor=row.actor,
        )


def _spec(body: Json) -> RunSpec:
    return RunSpec(
        start_from=body["start_from"],
        champion=UUID(body["champion"]) if body["champion"] else None,
        recipe=body["recipe"],
        through_label=body["through_label"],
        through_dataset=datetime.fromisoformat(body["through_dataset"]),
        seed=body["seed"],
    )
