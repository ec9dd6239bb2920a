"""Leases on jobs: one worker at a time, each lease with a larger fencing number."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, or_, update
from sqlalchemy.orm import Session

from app.adapters.postgres.schema import CheckRow, SelfTestRow, TrainingRunRow
from app.domain.training import Lease

Leased = type[CheckRow] | type[SelfTestRow] | type[TrainingRunRow]


def take(
    session: Session,
    table: Leased,
    job_id: UUID,
    *,
    owner: str,
    seconds: float,
    allowed: ColumnElement[bool],
    **values: Any,
) -> Lease | None:
    """Take the lease of a job, if it may be worked on and nobody holds it; else return None."""
    free = or_(table.lease_expires_at.is_(None), table.lease_expires_at < func.now())
    row = session.execute(
        update(table)
        .where(table.id == job_id, allowed, free)
        .values(
            lease_owner=owner,
            lease_expires_at=func.now() + timedelta(seconds=seconds),
            fencing_token=table.fencing_token + 1,
            **values,
        )
        .returning(table.fencing_token, table.attempt)
    ).one_or_none()
    return Lease(job_id, owner, row[0], row[1]) if row else None


def renew(session: Session, table: Leased, lease: Lease, *, seconds: float) -> bool:
    """Hold the lease for longer; False when another worker has taken it."""
    renewed = session.execute(
        update(table)
        .where(table.id == lease.job_id, table.fencing_token == lease.token)
        .values(lease_expires_at=func.now() + timedelta(seconds=seconds))
        .returning(table.id)
    ).one_or_none()
    return renewed is not None


def release(session: Session, table: Leased, lease: Lease) -> None:
    """Give the lease back, if it is still held."""
    session.execute(
        update(table)
        .where(table.id == lease.job_id, table.fencing_token == lease.token)
        .values(lease_owner=None, lease_expires_at=None)
    )
