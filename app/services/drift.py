"""Checks: which models are due, what a worker measures, and the report and decision it leaves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np

from app.domain.drift import DriftScore, Finding, Watch, after_look, finding_of, next_look
from app.domain.errors import Conflict, StaleVerdict
from app.domain.identity import new_id
from app.domain.models import MaintainedModel
from app.domain.observations import Observation
from app.domain.performance import PerformanceEvidence, watch_accuracy
from app.domain.policies import Policy
from app.domain.training import Lease
from app.domain.versions import ModelVersion, VersionState
from app.services import decisions
from app.services.documents import document
from app.services.examples import rows_of
from app.services.policies import read_policy
from app.services.ports import Actor, Artifacts, Example, Json, UnitOfWork


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


@dataclass(frozen=True, slots=True)
class Window:
    """What a worker compares: the champion's reference and what it sees now.

    Attributes:
        correct: whether each labelled answer of the champion was right, in order of arrival.
        accepted: accuracy that the champion is held to, and the rows it was measured on.
        through: the newest arrival number and label number that this check looks at.
        watch: where the watch of the champion stood after its last report.
        n_forgotten: rows of the window that retention has forgotten the inputs of.
    """

    model: MaintainedModel
    policy: Policy
    champion: ModelVersion
    reference: Sequence[Example]
    current: Sequence[Observation]
    correct: Sequence[bool]
    accepted: tuple[float, int] | None
    through: tuple[int, int]
    watch: Watch = field(default_factory=Watch)
    n_forgotten: int = 0

    def n_after(self, sequence: int) -> int:
        """Return how many of the window's rows arrived after one."""
        return sum(row.sequence > sequence for row in self.current)

    def n_labels_after(self, sequence: int | None) -> int | None:
        """Return how many rows of the window that arrived after one have a label."""
        if sequence is None:
            return None
        return sum(row.sequence > sequence and row.label is not None for row in self.current)

    def look(self) -> tuple[float, int]:
        """Return the false discovery rate its tests may have, and what the last look reached."""
        rules = self.policy.check
        level, is_new = next_look(
            self.watch,
            n_fresh=self.n_after(self.watch.looked_through),
            minimum_rows=rules.minimum_rows,
            fdr=rules.fdr,
            false_alarm_rows=rules.false_alarm_rows,
        )
        return level, self.current[-1].sequence if is_new else self.watch.looked_through


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
        through = work.observations.horizon(model_id)
        pinned = [work.datasets.get(champion.reference, model_id)] if champion.reference else []
        window = Window(
            model=model,
            policy=policy,
            champion=champion,
            reference=rows_of(artifacts, pinned),
            current=work.observations.newest(
                model_id, version=champion.number, limit=policy.check.window_rows
            ),
            correct=work.observations.correctness(model_id, version=champion.number),
            accepted=_yardstick(work, policy, champion),
            through=through,
            watch=work.checks.watch(champion.id),
            n_forgotten=work.observations.n_forgotten(
                model_id, version=champion.number, limit=policy.check.window_rows
            ),
        )
    return lease, window


def _yardstick(
    work: UnitOfWork, policy: Policy, champion: ModelVersion
) -> tuple[float, int] | None:
    """Return the accuracy a champion is held to, and on how many rows it was measured."""
    held_to = [champion]
    if policy.performance.yardstick == "best":
        held_to = [
            version
            for version in work.versions.served(champion.model_id)
            if version.state is not VersionState.QUARANTINED
        ]
    scores = [
        (float(version.accepted["accuracy"]), int(version.accepted["n"]))
        for version in held_to
        if version.accepted.get("accuracy") is not None
    ]
    return max(scores, key=lambda score: score[0] - standard_error(*score), default=None)


def labelled_performance(window: Window) -> PerformanceEvidence | None:
    """Return what the labels say of the champion; None without labels or an accepted score."""
    if window.accepted is None or not window.correct:
        return None
    accuracy, n = window.accepted
    rules = window.policy.performance
    return watch_accuracy(
        np.asarray(window.correct, dtype=bool),
        accepted=accuracy,
        tolerance=rules.tolerance + rules.allowance_errors * standard_error(accuracy, n),
    )


def standard_error(accuracy: float, n: int) -> float:
    """Return the standard error of an accuracy measured on n rows, never quite 0.

    The rows count as two more, one of them wrong (Laplace), so that a perfect score on a handful
    is not taken for certainty.
    """
    share = (accuracy * n + 1) / (n + 2)
    return math.sqrt(share * (1 - share) / (n + 2))


def finish(
    work: UnitOfWork,
    lease: Lease,
    window: Window,
    scores: Sequence[DriftScore],
    watch: Watch,
    *,
    html: bytes | None,
    evidently: Json | None,
    now: datetime,
) -> tuple[UUID, UUID]:
    """Store the report, decide, and queue the run it calls for; return (report, decision).

    Raises:
        StaleVerdict: the champion was replaced meanwhile; its successor's rows are not its own.
        Conflict: another worker holds the check.
    """
    performance = labelled_performance(window)
    scores = _named(scores, watch, window)
    finding = finding_of(
        scores, n_current=len(window.current), minimum_rows=window.policy.check.minimum_rows
    )
    level, looked_through = window.look()
    watch = after_look(
        window.watch,
        watch,
        level=level,
        looked_through=looked_through,
        drifted=finding is Finding.DRIFT,
    )
    report = _report(window, finding, scores, watch, performance)
    report_id = report["id"]
    drifted = tuple(score.feature for score in scores if score.drifted)
    with work:
        work.models.lock(window.model.id)
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
        work.checks.add_report({**report, "evidently_json": evidently}, html=html)
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
        situation = decisions.gather(
            work,
            model,
            now=now,
            finding=finding,
            drifted=drifted,
            n_labels_since_drift=window.n_labels_after(watch.began_after),
            drift_began_after=watch.began_after,
            performance=performance,
            yardstick=window.accepted[0] if window.accepted else None,
        )
        decision_id, decision, _ = decisions.conclude(work, model, situation, report_id=report_id)
        work.models.checked(
            window.model.id,
            through=window.through[0],
            labels_through=window.through[1],
            recheck_at=decision.defer_until if decision.trigger else None,
        )
        work.checks.complete(lease, report_id=report_id, decision_id=decision_id)
    return report_id, decision_id


def _report(
    window: Window,
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
            **_span(window.current),
            "n_forgotten": window.n_forgotten,
            "arrived_through": window.through[0],
            "labels_through": window.through[1],
        },
        "n_reference": len(window.reference),
        "scores": document(list(scores)),
        "performance": document(performance) if performance else None,
        "fdr": watch.level,
        "watch": document(watch),
    }


def _named(scores: Sequence[DriftScore], watch: Watch, window: Window) -> list[DriftScore]:
    """Return the scores, the leading column marked while rows of an alarm are in the window.

    The e-detectors may know before the window's tests do; then the column with the most evidence
    is the one to look at.
    """
    first = window.current[0].sequence if window.current else 0
    alarmed = watch.alarmed_at is not None and watch.alarmed_at >= first
    if not alarmed or any(score.drifted for score in scores) or not watch.leading:
        return list(scores)
    leader = next(iter(watch.leading))
    return [
        replace(score, drifted=True, detail={**score.detail, "e_value": watch.leading[leader]})
        if score.feature == leader
        else score
        for score in scores
    ]


def _span(current: Sequence[Observation]) -> Json:
    if not current:
        return {"n_observations": 0}
    return {
        "n_observations": len(current),
        "first_sequence": current[0].sequence,
        "last_sequence": current[-1].sequence,
        "first_at": min(row.at for row in current).isoformat(),
        "last_at": max(row.at for row in current).isoformat(),
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
