"""The job that lets champion and challenger answer the same rows, and asks the gates."""

from uuid import UUID

import structlog
from celery import shared_task

from app.domain.errors import Conflict, StaleVerdict, Unavailable, UpkeepError
from app.domain.evaluation import Evidence
from app.services import evaluation
from app.services.evaluation import ToJudge
from workers.jobs.context import current, kept_alive
from workers.jobs.kinds import kind_of

log = structlog.get_logger()


@shared_task(name="upkeep.evaluate")
def evaluate(run_id: str) -> None:
    """Compare, judge, promote or reject."""
    context = current()
    work = context.open_work()
    while True:
        begun = evaluation.begin(
            work,
            context.artifacts,
            UUID(run_id),
            owner=context.owner,
            seconds=context.lease_seconds,
        )
        if begun is None:
            return
        lease, found = begun
        with kept_alive(lambda other: other.runs.renew(lease, seconds=context.lease_seconds)):  # noqa: B023  ends with this turn
            try:
                evidence = evidence_of(found)
                baseline = baseline_of(found) if found.needs_baseline else None
                outcome = evaluation.finish(work, lease, evidence, baseline=baseline)
            except StaleVerdict:
                with work:
                    work.runs.release(lease)
                continue
            except (Conflict, Unavailable) as error:
                log.warning("evaluation.given_away", run_id=run_id, detail=str(error))
                return
            except Exception as error:  # a run must end, and the worker must outlive it
                log.exception("evaluation.failed", run_id=run_id)
                detail = str(error) if isinstance(error, UpkeepError) else repr(error)
                evaluation.fail(work, lease, detail)
                return
        log.info("evaluation.completed", run_id=run_id, outcome=outcome)
        return


def evidence_of(found: ToJudge) -> Evidence:
    """Return what the gates are shown."""
    kind, examples = kind_of(found.model), found.examples
    model = kind.settled(found.model, examples.get("holdout") or examples.get("window", ()))
    comparisons = [
        kind.compared(role, rows, model, found.challenger, found.champion)
        for role, rows in examples.items()
    ]
    return Evidence(
        challenger_id=found.challenger.id,
        champion_id=found.champion.id if found.champion else None,
        comparisons=comparisons,
        metric=model.objective.metric,
        margin=model.objective.margin,
        leaked_rows=found.leaked_rows,
        direction=model.objective.direction,
    )


def baseline_of(found: ToJudge) -> float | None:
    """Return the fixed yardstick: the simplest model of the base, on the rows of the first gate."""
    rows = found.examples.get("holdout") or found.examples.get("window")
    return kind_of(found.model).baseline(found, rows) if rows else None
