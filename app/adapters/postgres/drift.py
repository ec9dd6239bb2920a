"""Checks and the drift reports they leave."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, insert, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session, defer

from app.adapters.postgres import leases
from app.adapters.postgres.paging import page_of
from app.adapters.postgres.schema import CheckRow, DriftReportRow, ForgottenRow, ReferenceChangeRow
from app.domain.drift import Watch
from app.domain.errors import Conflict, Forgotten, NotFound
from app.domain.estimation import Estimate
from app.domain.identity import new_id
from app.domain.slices import Slice
from app.domain.training import Lease
from app.services.performance import (
    read_estimate,
    read_slices,
    shown_estimate,
    shown_slice,
)
from app.services.ports import Json, Listed, Page

LATE_LABELS = 500
"""Labels after a report that are looked at one by one; where more came, it counts as stale."""

_LATE = text("""
SELECT r.id, count(o.sequence) AS n_looked_at,
       count(*) FILTER (WHERE o.version = r.version AND o.sequence <= r.arrived) AS n
FROM unnest(CAST(:ids AS uuid[]), CAST(:versions AS int[]), CAST(:arrived AS bigint[]),
            CAST(:labels AS bigint[])) AS r(id, version, arrived, labels)
LEFT JOIN LATERAL (
  SELECT version, sequence FROM observations
  WHERE model_id = :model_id AND label_sequence > r.labels
  ORDER BY label_sequence LIMIT :limit) AS o ON true
GROUP BY r.id
""")

_EVER = datetime(1970, 1, 1, tzinfo=UTC)
IN_FLIGHT = ("queued", "running")


# A report finds drift anew where the one before of its version did not.
_ALARMS: Final = text("""
WITH newest AS (
  SELECT id, version_id, finding, ("window"->>'n_new')::bigint AS n_new, created_at
  FROM drift_reports WHERE model_id = :model_id AND "window" ? 'n_new'
  ORDER BY created_at DESC LIMIT :limit
), marked AS (
  SELECT n.*, d.trigger, d.situation,
    CASE WHEN finding = 'drift' AND lag(finding, 1, '') OVER w <> 'drift' THEN 1 ELSE 0 END AS rose
  FROM newest n LEFT JOIN decisions d ON d.report_id = n.id AND d.model_id = :model_id
  WINDOW w AS (PARTITION BY version_id ORDER BY n.created_at, n.id)
), numbered AS (
  SELECT *, sum(rose) OVER (PARTITION BY version_id ORDER BY created_at, id) AS episode FROM marked
), alarms AS (
  SELECT bool_or(trigger IN ('drift', 'performance')) AS is_confirmed,
    max((situation->>'n_labels_since_drift')::bigint)
      FILTER (WHERE jsonb_typeof(situation->'performance') = 'object') AS n_labels
  FROM numbered WHERE finding = 'drift' GROUP BY version_id, episode
)
SELECT (SELECT min(created_at) FROM newest) AS since, (SELECT count(*) FROM newest) AS n_reports,
  (SELECT coalesce(sum(n_new), 0) FROM newest) AS n_rows, count(*) AS n_alarms,
  count(*) FILTER (WHERE is_confirmed) AS n_confirmed,
  count(*) FILTER (WHERE is_confirmed IS NOT TRUE AND n_labels >= :enough) AS n_refuted
FROM alarms
""")
NEWEST_REPORTS: Final = 10_000


class PostgresChecks:
    """Keeps `app.services.ports.Checks`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def request(self, model_id: UUID, *, requested_by: str) -> tuple[UUID, bool]:
        """Ask for a check; return its id, and False when one was in flight already."""
        added = self._session.scalar(
            upsert(CheckRow)
            .values(id=new_id(), model_id=model_id, requested_by=requested_by)
            .on_conflict_do_nothing()
            .returning(CheckRow.id)
        )
        if added is not None:
            return added, True
        flying = self._session.scalar(
            select(CheckRow.id).where(CheckRow.model_id == model_id, CheckRow.state.in_(IN_FLIGHT))
        )
        if flying is None:
            raise Conflict("a check of this model has just ended; ask again")
        return flying, False

    def get(self, check_id: UUID, model_id: UUID) -> Json:
        row = self._session.get(CheckRow, check_id)
        if row is None or row.model_id != model_id:
            raise NotFound(f"there is no check {check_id}")
        return {
            "id": row.id,
            "state": row.state,
            "report": row.report_id,
            "decision": row.decision_id,
            "error": row.error,
            "requested_by": row.requested_by,
            "requested_at": row.requested_at,
            "finished_at": row.finished_at,
        }

    def lease(self, check_id: UUID, *, owner: str, seconds: float) -> tuple[Lease, UUID] | None:
        lease = leases.take(
            self._session,
            CheckRow,
            check_id,
            owner=owner,
            seconds=seconds,
            allowed=CheckRow.state.in_(IN_FLIGHT),
            state="running",
            attempt=CheckRow.attempt + 1,
        )
        if lease is None:
            return None
        return lease, self._session.get_one(CheckRow, check_id).model_id

    def renew(self, lease: Lease, *, seconds: float) -> bool:
        return leases.renew(self._session, CheckRow, lease, seconds=seconds)

    def complete(self, lease: Lease, *, report_id: UUID | None, decision_id: UUID | None) -> None:
        self._end(lease, state="completed", report_id=report_id, decision_id=decision_id)

    def fail(self, lease: Lease, error: Json) -> None:
        self._end(lease, state="failed", error=error)

    def _end(self, lease: Lease, **values: Any) -> None:
        ended = self._session.scalar(
            update(CheckRow)
            .where(CheckRow.id == lease.job_id, CheckRow.fencing_token == lease.token)
            .values(finished_at=func.now(), lease_expires_at=None, **values)
            .returning(CheckRow.id)
        )
        if ended is None:
            raise Conflict(f"check {lease.job_id} was given to another worker meanwhile")

    def add_report(self, report: Json, *, html: bytes | None) -> None:
        self._session.execute(insert(DriftReportRow).values(**report, evidently_html=html))

    def watch(self, version_id: UUID) -> Watch:
        """Return where the watch of a version stood after its newest report.

        It starts anew where the version's reference was replaced since.
        """
        state = self._newest(DriftReportRow.watch, version_id)
        return Watch(**state) if state else Watch()

    def estimate(self, version_id: UUID) -> Estimate | None:
        """Return the estimate of a version's accuracy after its newest report; None before one."""
        state = self._newest(DriftReportRow.estimate, version_id)
        return read_estimate(state) if state else None

    def slices(self, version_id: UUID) -> Sequence[Slice]:
        """Return where the slices of a version stood after its newest report; none before one."""
        return read_slices(self._newest(DriftReportRow.slices, version_id))

    def _newest(self, column: Any, version_id: UUID) -> Any:
        """Return a column of a version's newest report since its reference was last replaced."""
        changed_at = select(func.max(ReferenceChangeRow.at)).where(
            ReferenceChangeRow.version_id == version_id
        )
        return self._session.scalar(
            select(column)
            .where(
                DriftReportRow.version_id == version_id,
                DriftReportRow.created_at > func.coalesce(changed_at.scalar_subquery(), _EVER),
            )
            .order_by(DriftReportRow.created_at.desc(), DriftReportRow.id.desc())
            .limit(1)
        )

    def alarms(self, model_id: UUID, *, enough_labels: int) -> Json:
        """Return what came of the alarms of a model's newest reports.

        Args:
            model_id: whose.
            enough_labels: with fewer since an alarm, nobody can judge it.
        """
        parameters = {"model_id": model_id, "limit": NEWEST_REPORTS, "enough": enough_labels}
        return dict(self._session.execute(_ALARMS, parameters).one()._mapping)

    def report(self, report_id: UUID, model_id: UUID) -> Json:
        query = (
            select(DriftReportRow)
            .where(DriftReportRow.id == report_id, DriftReportRow.model_id == model_id)
            .options(defer(DriftReportRow.evidently_html), defer(DriftReportRow.evidently_json))
        )
        row = self._session.scalar(query)
        if row is None:
            raise NotFound(f"there is no drift report {report_id}")
        return self._shown(model_id, [row])[0]

    def report_html(self, report_id: UUID, model_id: UUID) -> bytes:
        html: bytes | None = self._column(DriftReportRow.evidently_html, report_id, model_id)
        if html is None:
            raise self._lacking(report_id, model_id, "page")
        return html

    def report_json(self, report_id: UUID, model_id: UUID) -> Json:
        body: Json | None = self._column(DriftReportRow.evidently_json, report_id, model_id)
        if body is None:
            raise self._lacking(report_id, model_id, "JSON")
        return body

    def report_moved(self, report_id: UUID, model_id: UUID) -> Json:
        """Return what moved: a part of the JSON, read alone; nothing where that is gone."""
        part = DriftReportRow.evidently_json["moved"]
        found: Json | None = self._column(part, report_id, model_id)
        return found or {"histograms": {}, "exemplars": [], "classes": {}}

    def _lacking(self, report_id: UUID, model_id: UUID, what: str) -> NotFound:
        before = self._session.scalar(
            select(ForgottenRow.before).where(
                ForgottenRow.model_id == model_id, ForgottenRow.kind == "reports"
            )
        )
        made = self._column(DriftReportRow.created_at, report_id, model_id)
        if before and made and made.astimezone(UTC).date() < before:
            return Forgotten(
                f"retention has forgotten Evidently's {what} of all reports before {before}; the "
                "report itself has its scores and finding"
            )
        return NotFound(f"drift report {report_id} has no Evidently {what}")

    def _column(self, column: Any, report_id: UUID, model_id: UUID) -> Any:
        return self._session.scalar(
            select(column).where(
                DriftReportRow.id == report_id, DriftReportRow.model_id == model_id
            )
        )

    def reports(self, model_id: UUID, page: Page) -> Listed:
        query = (
            select(DriftReportRow)
            .where(DriftReportRow.model_id == model_id)
            .options(defer(DriftReportRow.evidently_html), defer(DriftReportRow.evidently_json))
        )
        listed = page_of(self._session, query, page, (DriftReportRow.id,), lambda row: row)
        return Listed(self._shown(model_id, listed.items), listed.next_cursor)

    def _shown(self, model_id: UUID, rows: Sequence[DriftReportRow]) -> list[Json]:
        """Return reports, each with how many labels of the rows it had seen came since."""
        known = [row for row in rows if row.window.get("labels_through") is not None]
        late = self._session.execute(
            _LATE,
            {
                "model_id": model_id,
                "ids": [row.id for row in known],
                "versions": [row.version_number for row in known],
                "arrived": [row.window["arrived_through"] for row in known],
                "labels": [row.window["labels_through"] for row in known],
                "limit": LATE_LABELS,
            },
        )
        since = {row.id: (row.n, row.n_looked_at >= LATE_LABELS) for row in late}
        return [_report(row, since.get(row.id)) for row in rows]

    def stalled(self, *, resend_seconds: float) -> Sequence[UUID]:
        """Return checks in flight that no worker holds, though they were sent a while ago."""
        sent = func.now() - timedelta(seconds=resend_seconds)
        free = or_(CheckRow.lease_expires_at < func.now(), CheckRow.lease_expires_at.is_(None))
        return list(
            self._session.scalars(
                select(CheckRow.id)
                .where(CheckRow.state.in_(IN_FLIGHT), CheckRow.requested_at < sent, free)
                .with_for_update(skip_locked=True)
            )
        )


def _shown(watch: Json | None) -> Json | None:
    """Return what a reader wants of a watch: the numbers that bets stand at are the machine's."""
    if watch is None:
        return None
    return {key: value for key, value in watch.items() if key not in {"values", "columns"}}


def _report(row: DriftReportRow, late: tuple[int, bool] | None) -> Json:
    performance = row.performance
    if performance is not None:
        n, is_at_least = late or (None, None)
        performance = {
            **performance,
            "is_stale": None if n is None else bool(n or is_at_least),
            "n_labels_since": n,
            "is_at_least": is_at_least,
        }
    return {
        "id": row.id,
        "version": row.version_number,
        "finding": row.finding,
        "window": row.window,
        "n_reference": row.n_reference,
        "fdr": row.fdr,
        "scores": row.scores,
        "performance": performance,
        "watch": _shown(row.watch),
        "estimate": shown_estimate(row.estimate),
        "slices": [shown_slice(one) for one in row.slices or ()],
        "created_at": row.created_at,
    }
