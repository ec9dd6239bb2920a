"""The job that measures one window against its reference."""

from uuid import UUID

import structlog
from celery import shared_task

from app.domain.errors import StaleVerdict, UpkeepError
from app.domain.slices import with_drift
from app.services import drift
from app.services.training import problem
from workers.detectors.evidently_report import build_report
from workers.jobs.context import current, kept_alive, now
from workers.jobs.estimating import estimated, sliced
from workers.jobs.faults import faults_of
from workers.jobs.looking import look_at
from workers.jobs.measuring import measured
from workers.jobs.moved import illustration
from workers.jobs.slicing import drift_by_slice

log = structlog.get_logger()


@shared_task(name="upkeep.check_drift")
def check_drift(check_id: str) -> None:
    """Measure, report, decide."""
    context = current()
    work = context.open_work()
    begun = drift.begin(
        work,
        context.artifacts,
        UUID(check_id),
        owner=context.owner,
        seconds=context.lease_seconds,
    )
    if begun is None:
        return
    lease, window = begun
    with kept_alive(lambda other: other.checks.renew(lease, seconds=context.lease_seconds)):
        try:
            sight = look_at(work, window)
            scores = measured(window, sight)
            estimate = estimated(window, sight.reference, sight.sample, now=now())
            slices = sliced(window, sight.reference)
            slices = with_drift(slices, drift_by_slice(window, sight, slices))
            seen = faults_of(window, sight.reference, sight.sample)
            html, body = build_report(sight.reference, sight.sample, scores)
            body |= illustration(window, sight.reference, sight.sample, scores, sight.looked.watch)
        except UpkeepError as error:
            log.warning("drift_check.failed", check_id=check_id, detail=str(error))
            drift.fail(work, lease, window, problem("check-failed", str(error)))
            return
        except Exception as error:  # a check must end, and the worker must outlive it
            log.exception("drift_check.failed", check_id=check_id)
            drift.fail(work, lease, window, problem("check-failed", repr(error)))
            return
        try:
            report_id, decision_id = drift.finish(
                work,
                lease,
                window,
                scores,
                sight.looked,
                estimate=estimate,
                slices=slices,
                html=html,
                evidently=body,
                now=now(),
                seen=seen,
            )
        except StaleVerdict as error:  # its rows stay unchecked, so that they are looked at again
            drift.fail(work, lease, None, problem("stale-verdict", str(error)))
            return
    log.info("drift_check.completed", report_id=str(report_id), decision_id=str(decision_id))
