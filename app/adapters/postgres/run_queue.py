"""Which waiting run goes next? One order of the queue, for taking from it and for showing it."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.domain.queueing import UnderWay, Waiting
from app.domain.training import Lease

_TURN: Final = 0x72756E73  # any fixed number: those that take a run do so one after the other
_N_NEWEST: Final = 10
"""Runs of a model whose times say how long one usually takes."""

_STANDING: Final = """
queued AS (
  SELECT r.id, r.model_id, r.priority, served.at AS served_at,
         (SELECT count(*) FROM training_runs b
           WHERE b.model_id = r.model_id AND b.state = 'running') AS n_running,
         coalesce((p.document #>> '{retrain,concurrency}')::int, 1) AS concurrency
  FROM training_runs r
  JOIN models m ON m.id = r.model_id
  JOIN policies p ON p.model_id = m.id AND p.version = m.policy_version
  CROSS JOIN LATERAL (SELECT max(s.started_at) AS at FROM training_runs s
                      WHERE s.model_id = r.model_id) AS served
  WHERE r.state = 'queued'
), standing AS (
  SELECT q.*,
         n_running + row_number() OVER (PARTITION BY model_id, priority ORDER BY id) AS round,
         n_running + row_number() OVER (PARTITION BY model_id ORDER BY priority DESC, id)
           <= concurrency AS may_start
  FROM queued q
)"""
_ORDER: Final = "w.priority DESC, w.round, w.served_at NULLS FIRST, w.id"

_LEASE_NEXT = text(f"""
WITH {_STANDING}
UPDATE training_runs SET
  lease_owner = :owner,
  lease_expires_at = now() + make_interval(secs => :seconds),
  fencing_token = fencing_token + 1,
  device = :device
WHERE state = 'queued' AND id = (
  SELECT r.id FROM standing AS w JOIN training_runs r ON r.id = w.id
  WHERE w.may_start AND r.state = 'queued'
    AND (CAST(:only AS uuid) IS NULL OR r.id = CAST(:only AS uuid))
  ORDER BY {_ORDER}
  LIMIT 1 FOR UPDATE OF r SKIP LOCKED
)
RETURNING id, fencing_token, attempt
""")  # noqa: S608  built of constants

_USUAL: Final = f"""(
  SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS seconds FROM (
    SELECT (s.result ->> 'seconds')::float AS seconds FROM training_runs s
    WHERE s.model_id = w.model_id AND s.result ? 'seconds'
    ORDER BY s.id DESC LIMIT {_N_NEWEST}) AS newest
) AS usual"""  # noqa: S608  built of constants

_WAITING = text(f"""
WITH {_STANDING}
SELECT w.*, usual.seconds AS usual_seconds
FROM standing AS w
CROSS JOIN LATERAL {_USUAL}
ORDER BY {_ORDER}
""")  # noqa: S608  built of constants

_UNDER_WAY = text(f"""
SELECT w.id, w.model_id, (w.progress ->> 'eta_seconds')::float AS eta_seconds,
       extract(epoch FROM now() - w.started_at)::float AS spent_seconds,
       usual.seconds AS usual_seconds
FROM training_runs AS w
CROSS JOIN LATERAL {_USUAL}
WHERE w.state = 'running'
ORDER BY w.id
""")  # noqa: S608  built of constants

_HELD = text("SELECT device FROM training_runs WHERE state = 'running' AND device IS NOT NULL")


def lease_next(
    session: Session, *, owner: str, seconds: float, devices: Sequence[str], only: UUID | None
) -> Lease | None:
    """Lease the run that goes next; None when none may start, or no device is free.

    Whoever takes a run sees what all before have taken: they take turns on a lock that ends with
    the transaction, and so concurrency and devices are counted right.

    Args:
        session: an open transaction.
        owner: names the worker.
        seconds: until the lease runs out.
        devices: GPUs of this machine, or groups of them by commas; where there are any, the run
            gets a free one to itself.
        only: this run or none.
    """
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _TURN})
    device = None
    if devices:
        held = {gpu for device in session.scalars(_HELD) for gpu in device.split(",")}
        device = next((one for one in devices if held.isdisjoint(one.split(","))), None)
        if device is None:
            return None
    values = {"owner": owner, "seconds": seconds, "device": device, "only": only}
    row = session.execute(_LEASE_NEXT, values).one_or_none()
    return Lease(row.id, owner, row.fencing_token, row.attempt, device=device) if row else None


def waiting(session: Session) -> Sequence[Waiting]:
    """Return every queued run of all models, in the order in which they go."""
    return [
        Waiting(
            run_id=row.id,
            model_id=row.model_id,
            priority=row.priority,
            position=position,
            waits_for="worker" if row.may_start else "model",
            concurrency=row.concurrency,
            n_under_way=row.n_running,
            usual_seconds=row.usual_seconds,
        )
        for position, row in enumerate(session.execute(_WAITING), 1)
    ]


def under_way(session: Session) -> Sequence[UnderWay]:
    """Return the runs that are being trained."""
    return [
        UnderWay(row.id, row.model_id, _left(row.eta_seconds, row.usual_seconds, row.spent_seconds))
        for row in session.execute(_UNDER_WAY)
    ]


def _left(eta: float | None, usual: float | None, spent: float | None) -> float | None:
    if eta is not None:
        return eta
    return None if usual is None or spent is None else max(0.0, usual - spent)
