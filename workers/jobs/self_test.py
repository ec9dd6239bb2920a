"""The job that shows a model's detectors known shifts in a copy of live rows."""

import time
from collections.abc import Callable
from uuid import UUID

import numpy as np
import structlog
from celery import shared_task
from numpy.typing import NDArray

from app.domain.errors import Conflict, UpkeepError
from app.domain.observations import microseconds
from app.domain.self_tests import SelfTest, judged, planned
from app.services import self_tests
from app.services.training import problem
from app.services.windows import Window
from workers.jobs.columns import reference_columns, sample_columns
from workers.jobs.context import current, kept_alive
from workers.jobs.fields import Columns
from workers.jobs.looking import fit, reference_times
from workers.jobs.trials import Copy, Examiner
from workers.statistics.profile import FittedReference
from workers.statistics.watching import table_of

log = structlog.get_logger()


@shared_task(name="upkeep.self_test")
def self_test(test_id: str) -> None:
    """Copy, shift, measure, store."""
    context = current()
    work = context.open_work()
    begun = self_tests.begin(
        work,
        context.artifacts,
        UUID(test_id),
        owner=context.owner,
        seconds=context.lease_seconds,
    )
    if begun is None:
        return
    lease, window = begun
    with kept_alive(
        lambda other: other.self_tests.renew(lease, seconds=context.lease_seconds)
    ) as lost:
        try:
            found = examined(
                window, is_stopped=lambda: lost.is_set() or context.is_stopping.is_set()
            )
        except UpkeepError as error:
            log.warning("self_test.failed", self_test_id=test_id, detail=str(error))
            self_tests.fail(work, lease, problem("self-test-failed", str(error)))
            return
        except Exception as error:  # a test must end, and the worker must outlive it
            log.exception("self_test.failed", self_test_id=test_id)
            self_tests.fail(work, lease, problem("self-test-failed", repr(error)))
            return
    if found is None:
        self_tests.give_back(work, lease)
        log.info("self_test.interrupted", self_test_id=test_id)
        return
    try:
        self_tests.finish(work, lease, window, found)
    except Conflict as error:
        log.warning("self_test.lost", self_test_id=test_id, detail=str(error))
        return
    blind = [one.label for one in found.shifts if one.is_blind]
    log.info("self_test.completed", self_test_id=test_id, outcome=found.outcome, blind=blind)


def examined(
    window: Window,
    *,
    is_stopped: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
) -> SelfTest | None:
    """Return how well a policy's detectors see known shifts; None if it was stopped.

    Args:
        window: what a check would compare, with twice as many rows where there are.
        is_stopped: whether to give up.
        clock: seconds from any start.
    """
    began, rules = clock(), window.policy.check
    reference = reference_columns(window)
    if not reference:
        return SelfTest("deferred", "the champion has no reference")
    times = np.array([microseconds(row.at) for row in window.current], dtype=np.int64)
    live = Copy(reference, fit(window, reference)[0], sample_columns(window), times)
    plan = planned(
        n_live=live.n_rows,
        n_reference=_n_rows(reference),
        full_rows=rules.most_read,
        minimum_rows=rules.minimum_rows,
        unfit=_unfit(window, live),
    )
    if isinstance(plan, str):
        return SelfTest("deferred", plan)
    copy = live if plan.source == "live" else _halved(reference, reference_times(window))
    examiner = _examiner(window, copy, plan.window_rows)
    over_at = began + rules.self_test.budget_seconds
    found = examiner.run(lambda: is_stopped() or clock() >= over_at)
    if is_stopped():
        return None
    least = rules.self_test.minimum_power
    return SelfTest(
        outcome="measured",
        reason=plan.reason,
        source=plan.source,
        n_rows=copy.n_rows,
        window_rows=plan.window_rows,
        n_reference=_n_rows(copy.reference),
        level=found.level,
        n_windows=found.n_rounds,
        n_false_alarms=found.n_false,
        n_false_watches=found.n_false_watched,
        seed=examiner.seed,
        seconds=clock() - began,
        shifts=[judged(each, trials, minimum_power=least) for each, trials in found.trials.items()],
    )


def _examiner(window: Window, copy: Copy, window_rows: int) -> Examiner:
    return Examiner(copy, window.policy.check, window_rows, seed=window.through[0] % 2**31)


def _unfit(window: Window, live: Copy) -> str | None:
    """Return why shifts on top of the live rows would say nothing; None where they would."""
    if window.known.standing:
        return "the inputs are broken: an incident stands"
    if window.watch.stood:
        return "the live rows have drifted already: the last report says so"
    if live.n_rows < window.policy.check.minimum_rows:
        return None  # too few to tell, and to be taken
    moved = _examiner(window, live, live.n_rows // 2).moved()
    return f"the live rows have drifted already: {', '.join(moved)}" if moved else None


def _halved(reference: Columns, times: NDArray[np.int64]) -> Copy:
    """Return one half of a reference as rows to be compared with the other; they take turns."""
    kept, rows = (
        {
            kind: {name: values[start::2] for name, values in columns.items()}
            for kind, columns in reference.items()
        }
        for start in (0, 1)
    )
    fitted = FittedReference.of(table_of(kept), times=times[::2])
    return Copy(kept, fitted, rows, times[1::2])


def _n_rows(columns: Columns) -> int:
    return max((len(v) for found in columns.values() for v in found.values()), default=0)
