"""What has happened to runs, numbered within each: for whoever follows one, and for its history."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import delete, insert, select, text
from sqlalchemy.orm import Session

from app.adapters.postgres.schema import RunChangeRow
from app.domain.training import FRESH_LINES, News, RunChange, RunState, line_stride
from app.services.ports import Json

_NEWS = text("""
SELECT r.id, r.state AS stands, c.number, c.at, c.what, c.state, c.attempt, c.progress
FROM unnest(CAST(:ids AS uuid[]), CAST(:after AS bigint[])) AS asked(id, after)
JOIN training_runs r ON r.id = asked.id
LEFT JOIN run_changes c ON c.run_id = r.id AND c.number > asked.after
ORDER BY r.id, c.number
""")


def add_move(
    session: Session, run_id: UUID, *, number: int, what: str, state: str, attempt: int
) -> None:
    """Keep that a run moved, or was asked to stop."""
    session.execute(
        insert(RunChangeRow).values(
            run_id=run_id, number=number, what=what, state=state, attempt=attempt
        )
    )


def add_line(
    session: Session,
    run_id: UUID,
    *,
    number: int,
    line: int,
    state: str,
    attempt: int,
    progress: Json,
) -> None:
    """Keep a line of progress, and forget older ones whose turn it is not."""
    row, stride = RunChangeRow, line_stride(line)
    values = {"number": number, "line": line, "state": state, "attempt": attempt}
    session.execute(insert(row).values(run_id=run_id, what="progress", progress=progress, **values))
    if stride > 1:
        session.execute(
            delete(row).where(
                row.run_id == run_id, row.line <= line - FRESH_LINES, (row.line - 1) % stride != 0
            )
        )


def history(session: Session, run_id: UUID) -> Sequence[RunChange]:
    """Return what is kept of a run, oldest first."""
    rows = session.scalars(
        select(RunChangeRow).where(RunChangeRow.run_id == run_id).order_by(RunChangeRow.number)
    )
    return [_change(row) for row in rows]


def news(session: Session, after: Mapping[UUID, int]) -> Mapping[UUID, News]:
    """Return where runs stand and what happened to each after a number; those there are."""
    found: dict[UUID, tuple[RunState, list[RunChange]]] = {}
    asked = {"ids": list(after), "after": list(after.values())}
    for row in session.execute(_NEWS, asked):
        _, changes = found.setdefault(row.id, (RunState(row.stands), []))
        if row.number is not None:
            changes.append(_change(row))
    return {run_id: News(state, changes) for run_id, (state, changes) in found.items()}


def _change(row: Any) -> RunChange:
    return RunChange(row.number, row.at, row.what, RunState(row.state), row.attempt, row.progress)
