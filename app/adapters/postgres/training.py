"""Training runs and their leases."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import case, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.adapters.postgres import leases, run_changes, run_queue
from app.adapters.postgres.paging import page_of
from app.adapters.postgres.run_counts import RunCounts
from app.adapters.postgres.schema import ModelVersionRow, TrainingRunRow
from app.domain.errors import Conflict, NotFound
from app.domain.queueing import UnderWay, Waiting
from app.domain.states import after
from app.domain.training import (
    IN_FLIGHT,
    TRANSITIONS,
    Lease,
    News,
    RunChange,
    RunEvent,
    RunSpec,
    RunState,
)
from app.domain.training import TrainingRun as Run
from app.services.documents import document
from app.services.ports import Json, Listed, Page

_FINAL = frozenset(RunState) - IN_FLIGHT


class PostgresRuns(RunCounts):
    """Keeps `app.services.ports.Runs`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(
        self,
        run: Run,
        *,
        idempotency_key: str | None,
        request_sha256: str | None,
        most_in_flight: int = 1,
    ) -> None:
        """Queue a run.

        Raises:
            Conflict: its model has as many in flight as it may.
        """
        values = {
            "slot": self._free_slot(run.model_id, most_in_flight),
            "priority": run.priority,
            "n_changes": 1,
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
        run_changes.add_move(
            self._session, run.id, number=1, what=run.state, state=run.state, attempt=0
        )

    def _free_slot(self, model_id: UUID, most: int) -> int:
        query = select(TrainingRunRow.slot).where(
            TrainingRunRow.model_id == model_id, TrainingRunRow.state.in_(IN_FLIGHT)
        )
        taken = set(self._session.scalars(query))
        free = next((slot for slot in range(most) if slot not in taken), None)
        if free is None or len(taken) >= most:
            raise Conflict(f"{len(taken)} training runs of this model are in flight")
        return free

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
        """Return the run in flight, of several the one that has come furthest."""
        order = {RunState.RUNNING: 0, RunState.TRAINED: 1, RunState.QUEUED: 2}
        row = self._session.scalar(
            select(TrainingRunRow)
            .where(TrainingRunRow.model_id == model_id, TrainingRunRow.state.in_(IN_FLIGHT))
            .order_by(case(order, value=TrainingRunRow.state), TrainingRunRow.id)
            .limit(1)
        )
        return self._run(row) if row else None

    def ids_in_flight(self, model_id: UUID) -> Sequence[UUID]:
        query = select(TrainingRunRow.id).where(
            TrainingRunRow.model_id == model_id, TrainingRunRow.state.in_(IN_FLIGHT)
        )
        return list(self._session.scalars(query.order_by(TrainingRunRow.id)))

    def waiting(self) -> Sequence[Waiting]:
        return run_queue.waiting(self._session)

    def under_way(self) -> Sequence[UnderWay]:
        return run_queue.under_way(self._session)

    def lease_next(
        self, *, owner: str, seconds: float, devices: Sequence[str] = (), only: UUID | None = None
    ) -> Lease | None:
        return run_queue.lease_next(
            self._session, owner=owner, seconds=seconds, devices=devices, only=only
        )

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
        """Lease a run that waits to be judged; those that wait to be trained take turns."""
        return leases.take(
            self._session,
            TrainingRunRow,
            run_id,
            owner=owner,
            seconds=seconds,
            allowed=TrainingRunRow.state == RunState.TRAINED,
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
        values: dict[str, Any] = {"state": reached, "n_changes": TrainingRunRow.n_changes + 1}
        if event is RunEvent.STARTED:
            values |= {
                "started_at": func.coalesce(TrainingRunRow.started_at, func.now()),
                "attempt": TrainingRunRow.attempt + 1,
            }
        if reached in _FINAL:
            values |= {"finished_at": func.now()}
        if event is not RunEvent.STARTED:
            values |= {"lease_owner": None, "lease_expires_at": None, "device": None}
        if event is RunEvent.LOST:  # whoever was silent must not hold on to it
            values |= {"fencing_token": TrainingRunRow.fencing_token + 1}
        statement = update(TrainingRunRow).where(
            TrainingRunRow.id == run_id, TrainingRunRow.state == before
        )
        if lease is not None:
            statement = statement.where(TrainingRunRow.fencing_token == lease.token)
        moved = self._session.execute(
            statement.values(**values).returning(TrainingRunRow.n_changes, TrainingRunRow.attempt)
        ).one_or_none()
        if moved is None:
            raise Conflict(f"training run {run_id} is no longer {before}, or no longer yours")
        run_changes.add_move(
            self._session, run_id, number=moved[0], what=event, state=reached, attempt=moved[1]
        )
        return reached

    def set_progress(self, lease: Lease, progress: Json, *, usage: Json | None = None) -> bool:
        row = TrainingRunRow
        told = self._session.execute(
            update(row)
            .where(row.id == lease.job_id, row.fencing_token == lease.token)
            .values(
                progress=progress,
                n_changes=row.n_changes + 1,
                n_lines=row.n_lines + 1,
                **({} if usage is None else {"usage": usage}),
            )
            .returning(row.n_changes, row.n_lines, row.state, row.attempt)
        ).one_or_none()
        if told is None:
            return False
        number, line, state, attempt = told
        run_changes.add_line(
            self._session,
            lease.job_id,
            number=number,
            line=line,
            state=state,
            attempt=attempt,
            progress=progress,
        )
        return True

    def set_usage(self, lease: Lease, usage: Json) -> bool:
        return self._under(lease, usage=usage)

    def set_trials(self, lease: Lease, trials: Sequence[Json]) -> None:
        if not self._under(lease, trials=list(trials)):
            raise Conflict(f"training run {lease.job_id} was given to another worker meanwhile")

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
        if not values:
            return
        self._session.execute(
            update(TrainingRunRow).where(TrainingRunRow.id == run_id).values(**values)
        )

    def request_cancel(self, run_id: UUID) -> None:
        row = TrainingRunRow
        asked = self._session.execute(
            update(row)
            .where(row.id == run_id, row.cancel_requested_at.is_(None))
            .values(cancel_requested_at=func.now(), n_changes=row.n_changes + 1)
            .returning(row.n_changes, row.state, row.attempt)
        ).one_or_none()
        if asked is not None:
            number, state, attempt = asked
            what = "cancel_requested"
            run_changes.add_move(
                self._session, run_id, number=number, what=what, state=state, attempt=attempt
            )

    def history(self, run_id: UUID) -> Sequence[RunChange]:
        return run_changes.history(self._session, run_id)

    def news(self, after: Mapping[UUID, int]) -> Mapping[UUID, News]:
        return run_changes.news(self._session, after)

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

    def stalled(self, *, resend_seconds: float) -> Sequence[tuple[UUID, RunState]]:
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
        return [(item.id, RunState(item.state)) for item in found]

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
            priority=row.priority,
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
            device=row.device,
            usage=row.usage,
            trials=row.trials or (),
        )


def _spec(body: Json) -> RunSpec:
    return RunSpec(
        start_from=body["start_from"],
        champion=UUID(body["champion"]) if body["champion"] else None,
        recipe=body["recipe"],
        through_label=body["through_label"],
        through_dataset=datetime.fromisoformat(body["through_dataset"]),
        seed=body["seed"],
        selection=body.get("selection") or {},
        search=body.get("search"),
    )
