"""Checks: which models are due, what a worker measures, and the report and decision it leaves."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np

from app.domain.drift import DriftScore, Finding, Watch, after_look, finding_of
from app.domain.errors import Conflict, StaleVerdict
from app.domain.estimation import Estimate
from app.domain.faults import Look
from app.domain.identity import new_id
from app.domain.observations import time_text
from app.domain.performance import PerformanceEvidence, watch_accuracy
from app.domain.slices import Slice, fallen
from app.domain.training import Lease
from app.domain.versions import ModelVersion
from app.services import decisions, incidents, performance, windows
from app.services.documents import document
from app.services.policies import read_policy
from app.services.ports import Actor, Artifacts, Json, UnitOfWork
from app.services.windows import Looked, Window


def request_check(work: UnitOfWork, actor: Actor, name: str) -> UUID:
    """Ask for a look at a model now; one that is in flight is joined.

    Raises:
        NotFound: no such model.
        Conflict: it has no champion to look at.
    """
    with work:
        model = work.models.get(name, actor.project_id)
        if work.versions.champion(model.id) is None:
            raise Conflict(
                "there is no champion to check yet; import a version or start a retrain first"
            )
        check_id, added = work.checks.request(model.id, requested_by=actor.name)
        if added:
            work.outbox.send("check_drift", check_id)
        return check_id


def schedule_checks(work: UnitOfWork, *, now: datetime) -> int:
    """Ask for a check of every model that is due; safe with several schedulers."""
    with work:
        due = work.models.due(now=now)
        for model_id in due:
            check_id, added = work.checks.request(model_id, requested_by="scheduler")
            if added:
                work.outbox.send("check_drift", check_id)
    return len(due)


def resend_stalled(work: UnitOfWork, *, resend_seconds: float) -> int:
    """Send again the checks and import proofs that nobody picked up or whose worker died."""
    with work:
        stalled = work.checks.stalled(resend_seconds=resend_seconds)
        for check_id in stalled:
            work.outbox.send("check_drift", check_id)
        unverified = work.versions.unverified(resend_seconds=resend_seconds)
        for version_id in unverified:
            work.outbox.send("verify_version", version_id)
    return len(stalled) + len(unverified)


def begin(
    work: UnitOfWork, artifacts: Artifacts, check_id: UUID, *, owner: str, seconds: float
) -> tuple[Lease, Window] | None:
    """Lease a check and load what it compares; None when there is nothing to do.

    Raises:
        Conflict: the champion is gone.
    """
    with work:
        taken = work.checks.lease(check_id, owner=owner, seconds=seconds)
        if taken is None:
            return None
        lease, model_id = taken
        model = work.models.by_id(model_id)
        policy = read_policy(model.policy)
        champion = work.versions.champion(model_id)
        if champion is None:
            work.checks.fail(lease, {"detail": "the model has no champion any more"})
            return None
        accepted = performance.yardstick(work, policy, champion)
        return lease, windows.load(work, artifacts, model, policy, champion, accepted)


def labelled_performance(window: Window) -> PerformanceEvidence | None:
    """Return what the labels say of the champion; None without labels or an accepted score."""
    if window.accepted is None or window.floor is None or not len(window.correct):
        return None
    accuracy, _ = window.accepted
    answer = window.model.answers_with
    found = watch_accuracy(
        np.asarray(window.correct, dtype=np.float64 if answer else bool),
        accepted=accuracy,
        tolerance=accuracy - window.floor,
    )
    return replace(found, measure=answer.measure, errors=window.errors) if answer else found


def finish(
    work: UnitOfWork,
    lease: Lease,
    window: Window,
    scores: Sequence[DriftScore],
    looked: Looked,
    *,
    estimate: Estimate | None = None,
    slices: Sequence[Slice] = (),
    html: bytes | None,
    evidently: Json | None,
    now: datetime,
    seen: Look | None = None,
) -> tuple[UUID, UUID]:
    """Store the report and what it saw, decide, and queue the run it calls for.

    What was seen is kept in the transaction of the report, so that a check that is done again
    counts nothing twice.

    Returns:
        Ids of the report and of the decision.

    Raises:
        StaleVerdict: the champion was replaced meanwhile; its successor's rows are not its own.
        Conflict: another worker holds the check.
    """
    performance = labelled_performance(window)
    seen = seen or Look()
    n_current = looked.counts.n_rows or len(window.current)
    scores = incidents.told_apart(_named(scores, looked), seen)
    finding = finding_of(
        scores,
        n_current=n_current,
        minimum_rows=window.policy.check.minimum_rows,
        is_faulty=any(fault.first_sequence for fault in seen.found),
    )
    watch = _left_by(window, looked, finding, seen)
    if finding is Finding.FAULT or window.is_broken:  # labels of broken rows prove nothing
        estimate, slices = window.estimate, window.slices
    report = {
        **_report(window, looked, finding, scores, watch, performance),
        "estimate": document(estimate) if estimate else None,
        "slices": document(list(slices)),
    }
    report_id = report["id"]
    drifted = tuple(score.feature for score in scores if score.drifted)
    with work:
        work.models.lock(window.model.id)
        champion = _still_the_one(work, lease, window)
        work.checks.add_report({**report, "evidently_json": evidently}, html=html)
        _keep(work, window, looked, finding)
        if finding is Finding.DRIFT:
            work.events.record(
                "drift.detected",
                actor="upkeep",
                subject=window.model.name,
                project_id=window.model.project_id,
                model_id=window.model.id,
                detail={"report": report_id, "drifted": list(drifted)},
            )
        model = work.models.by_id(window.model.id)
        followed = incidents.follow(
            work,
            model,
            champion,
            seen,
            window.known,
            report_id=report_id,
            rules=window.policy.faults,
        )
        situation = decisions.gather(
            work,
            model,
            now=now,
            finding=finding,
            drifted=drifted,
            n_labels_since_drift=window.n_labels_since if watch.stood else None,
            drift_began_after=watch.began_after,
            performance=performance,
            fallen_slices=tuple(
                one.in_words(window.model.answer.measure)
                for one in fallen(slices, window.policy.performance.average_run_length)
            ),
            estimated=estimate.accuracy if estimate and estimate.stands else None,
            yardstick=window.accepted[0] if window.accepted else None,
            incidents=followed.holds,
        )
        decision_id, decision, _ = decisions.conclude(work, model, situation, report_id=report_id)
        work.models.checked(
            window.model.id,
            through=window.through[0],
            labels_through=window.through[1],
            recheck_at=now
            if followed.ended
            else decision.defer_until
            if decision.trigger
            else None,
        )
        work.checks.complete(lease, report_id=report_id, decision_id=decision_id)
    return report_id, decision_id


def _still_the_one(work: UnitOfWork, lease: Lease, window: Window) -> ModelVersion:
    """Return the champion, if the check is still this worker's and what it looked at still holds.

    Raises:
        StaleVerdict: the champion or its reference was replaced meanwhile.
        Conflict: another worker holds the check.
    """
    if not work.checks.renew(lease, seconds=60):
        raise Conflict(f"check {lease.job_id} was given to another worker meanwhile")
    champion = work.versions.champion(window.model.id)
    if champion is None or champion.id != window.champion.id:
        raise StaleVerdict(
            f"version {window.champion.number} was replaced while it was looked at; look again"
        )
    if champion.reference != window.champion.reference:
        raise StaleVerdict(
            f"the reference of version {champion.number} was replaced meanwhile; look again"
        )
    return champion


def _moved_on(watch: Watch, window: Window) -> Watch:
    """Return the watch of a version without rows as having seen up to the newest of others."""
    return watch if watch.n_rows else replace(watch, through=max(watch.through, window.through[0]))


def _left_by(window: Window, looked: Looked, finding: Finding, seen: Look) -> Watch:
    """Return the watch as a report leaves it; behind broken rows it starts anew."""
    level, looked_through = looked.look(window)
    if finding is Finding.FAULT or window.is_broken:
        left = [one for one in window.known.standing if one.place not in seen.mended]
        ends = [seen.mended.get(one.place) or one.last_sequence for one in window.known.standing]
        is_mended = finding is not Finding.FAULT and not any(one.first_sequence for one in left)
        through = max(filter(None, ends)) if is_mended else looked.watch.through
        return Watch(through=through, looked_through=through, level=level)
    return after_look(
        window.watch,
        _moved_on(looked.watch, window),
        level=level,
        looked_through=looked_through,
        drifted=finding is Finding.DRIFT,
    )


def _keep(work: UnitOfWork, window: Window, looked: Looked, finding: Finding) -> None:
    champion = window.champion
    if looked.profile is not None and champion.reference is not None:
        work.profiles.keep(champion.id, looked.profile, reference=champion.reference)
    if finding is Finding.FAULT or window.is_broken:
        work.profiles.clear_window(champion.id)
    elif looked.counts.blocks:
        work.profiles.keep_window(champion.id, looked.counts)


def _report(
    window: Window,
    looked: Looked,
    finding: Finding,
    scores: Sequence[DriftScore],
    watch: Watch,
    performance: PerformanceEvidence | None,
) -> dict[str, Any]:
    return {
        "id": new_id(),
        "model_id": window.model.id,
        "version_id": window.champion.id,
        "version_number": window.champion.number,
        "finding": finding,
        "window": {
            **_span(window, looked),
            "n_forgotten": window.n_forgotten,
            "arrived_through": window.through[0],
            "labels_through": window.through[1],
            **({"season": looked.season} if looked.season else {}),
        },
        "n_reference": window.n_reference,
        "scores": document(list(scores)),
        "performance": document(performance) if performance else None,
        "fdr": watch.level,
        "watch": document(watch),
    }


def _named(scores: Sequence[DriftScore], looked: Looked) -> list[DriftScore]:
    """Return the scores, the leading column marked while rows of an alarm are in the window.

    The e-detectors may know before the window's tests do; then the column with the most evidence
    is the one to look at.
    """
    watch = looked.watch
    alarmed = watch.alarmed_at is not None and watch.alarmed_at >= looked.counts.first
    leader = watch.leader
    if not alarmed or leader is None or any(score.drifted for score in scores):
        return list(scores)
    return [
        replace(score, drifted=True, detail={**score.detail, "e_value": watch.leading[leader]})
        if score.feature == leader
        else score
        for score in scores
    ]


def _span(window: Window, looked: Looked) -> Json:
    """Return which rows were read: all of the window as counts, its newest ones as they are."""
    counts = looked.counts
    read = {"n_new": looked.n_read, "n_sampled": len(window.current)}
    if not counts.blocks:
        return {"n_observations": len(window.current), **read}
    return {
        "n_observations": counts.n_rows,
        **read,
        "first_sequence": counts.first,
        "last_sequence": counts.through,
        "first_at": time_text(min(block.first_at for block in counts.blocks)),
        "last_at": time_text(max(block.last_at for block in counts.blocks)),
    }


def fail(work: UnitOfWork, lease: Lease, window: Window | None, error: Json) -> None:
    """Record that a check could not be done; its rows count as looked at, or it would loop."""
    with work:
        work.checks.fail(lease, error)
        if window is not None:
            work.models.checked(
                window.model.id,
                through=window.through[0],
                labels_through=window.through[1],
                recheck_at=None,
            )
            work.incidents.judged_refusals(window.model.id, window.known.refusals)
