"""Forgetting inputs, quarantined rows and Evidently's pages when a policy says so."""

from datetime import UTC, datetime, timedelta
from typing import Final

from app.domain.models import MaintainedModel
from app.services.policies import read_policy
from app.services.ports import Dropped, Due, Json, UnitOfWork

STEPS_A_TURN: Final = 20
"""Transactions of one turn, each short: the scheduler has other things to do."""


def enforce(work: UnitOfWork, *, now: datetime) -> int:
    """Forget a share of what policies want forgotten; return how many rows and reports it was.

    Every step is a transaction that holds no writer up for long, and leaves an entry in the audit.
    A whole day is dropped where no model needs it any more; else a model's part of it is deleted.
    Safe with several schedulers, and to stop anywhere.
    """
    today, forgotten, may_drop = now.astimezone(UTC).date(), 0, True
    for _ in range(STEPS_A_TURN):
        with work:
            due = work.retention.due(today)
            if not due or not work.retention.take_turn():
                return forgotten
            may_drop = may_drop and any(one.kind == "inputs" for one in due)
            dropped = work.retention.drop_day(today) if may_drop else None
            may_drop = dropped is not None  # each try may make writers wait: one a turn
            forgotten += _forget(work, due[0]) if dropped is None else _note_day(work, dropped)
    return forgotten


def _forget(work: UnitOfWork, due: Due) -> int:
    n = work.retention.forget(due)
    if n:
        _note(work, due, n)
    else:
        work.retention.note(due.model_id, due.kind, before=due.before)
    return n


def _note_day(work: UnitOfWork, dropped: Dropped) -> int:
    for model_id, n in dropped.rows.items():
        _note(work, Due(model_id, "inputs", dropped.day + timedelta(days=1)), n)
    return sum(dropped.rows.values())


def _note(work: UnitOfWork, due: Due, n: int) -> None:
    model = work.models.by_id(due.model_id)
    work.retention.note(model.id, due.kind, n=n)
    work.events.record(
        f"{due.kind}.forgotten",
        actor="upkeep",
        subject=model.name,
        project_id=model.project_id,
        model_id=model.id,
        detail={"n": n, "before": due.before.isoformat()},
    )


def shown(work: UnitOfWork, model: MaintainedModel) -> Json:
    """Return by kind what is forgotten after how many days, and what was; in a transaction."""
    rules, done = read_policy(model.policy).retention, work.retention.of(model.id)
    days = {
        "inputs": rules.inputs_days,
        "quarantine": rules.quarantine_days,
        "reports": rules.reports_days,
    }
    nothing = {"before": None, "n_forgotten": 0, "updated_at": None}
    return {kind: {"days": n, **done.get(kind, nothing)} for kind, n in days.items()}
