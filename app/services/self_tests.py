"""Self-tests: which are due, what a worker is to try, and what is said when detectors go blind."""

from dataclasses import replace
from datetime import datetime
from typing import Final
from uuid import UUID

from app.domain.errors import Conflict
from app.domain.policies import SelfTestPolicy
from app.domain.self_tests import SelfTest, turned
from app.domain.training import Lease
from app.services import windows
from app.services.documents import document
from app.services.policies import read_policy
from app.services.ports import Actor, Artifacts, Json, UnitOfWork
from app.services.training import problem
from app.services.windows import Window

JOB: Final = "self_test"


def request(work: UnitOfWork, actor: Actor, name: str) -> UUID:
    """Ask for a self-test of a model's detectors now; one that is in flight is joined.

    Raises:
        NotFound: no such model.
        Conflict: it has no champion with a reference to hold rows against.
    """
    with work:
        model = work.models.get(name, actor.project_id)
        champion = work.versions.champion(model.id)
        if champion is None or champion.reference is None:
            raise Conflict(
                "there is no champion with a reference yet; import a version or start a retrain "
                "first"
            )
        return _ask(work, model.id, requested_by=actor.name)


def schedule(work: UnitOfWork, *, now: datetime) -> int:
    """Ask for a self-test of every model that is due; safe with several schedulers."""
    with work:
        due = work.self_tests.due(now=now, every_days=SelfTestPolicy().every_days)
        for model_id in due:
            _ask(work, model_id, requested_by="scheduler")
    return len(due)


def _ask(work: UnitOfWork, model_id: UUID, *, requested_by: str) -> UUID:
    test_id, added = work.self_tests.request(model_id, requested_by=requested_by)
    if added:
        work.outbox.send(JOB, test_id)
    return test_id


def resend_stalled(work: UnitOfWork, *, resend_seconds: float) -> int:
    """Send again the self-tests that nobody picked up or whose worker died."""
    with work:
        stalled = work.self_tests.stalled(resend_seconds=resend_seconds)
        for test_id in stalled:
            work.outbox.send(JOB, test_id)
    return len(stalled)


def begin(
    work: UnitOfWork, artifacts: Artifacts, test_id: UUID, *, owner: str, seconds: float
) -> tuple[Lease, Window] | None:
    """Lease a self-test and load what a check would compare; None when there is nothing to do.

    Of the newest rows there are twice as many as a check reads, where they are: windows are drawn
    from them.
    """
    with work:
        taken = work.self_tests.lease(test_id, owner=owner, seconds=seconds)
        if taken is None:
            return None
        lease, model_id = taken
        model = work.models.by_id(model_id)
        policy = read_policy(model.policy)
        champion = work.versions.champion(model_id)
        if champion is None:
            gone = problem("self-test-failed", "the model has no champion any more")
            work.self_tests.fail(lease, gone)
            return None
        window = windows.load(work, artifacts, model, policy, champion, None)
        newest = work.observations.newest(
            model_id, version=champion.number, limit=2 * policy.check.most_read
        )
    return lease, replace(window, current=newest)


def finish(work: UnitOfWork, lease: Lease, window: Window, found: SelfTest) -> None:
    """Store what a self-test found, and say what its detectors are newly blind to, or see again.

    Raises:
        Conflict: another worker holds it.
    """
    model = window.model
    with work:
        work.models.lock(model.id)
        blind, sighted = turned(work.self_tests.blind(model.id), found.shifts)
        work.self_tests.complete(lease, version=window.champion.number, result=document(found))
        for event, shifts in (("detector.blind", blind), ("detector.sighted", sighted)):
            if shifts:
                work.events.record(
                    event,
                    actor="upkeep",
                    subject=model.name,
                    project_id=model.project_id,
                    model_id=model.id,
                    detail={"self_test": str(lease.job_id), "shifts": shifts},
                )


def give_back(work: UnitOfWork, lease: Lease) -> None:
    """Leave a self-test to another worker, if this one still holds it."""
    with work:
        work.self_tests.release(lease)


def fail(work: UnitOfWork, lease: Lease, error: Json) -> None:
    """Record that a self-test could not be done."""
    with work:
        work.self_tests.fail(lease, error)
