"""Judging a challenger: what it is shown, and what becomes of the evidence."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from app.domain.answers import Answer
from app.domain.errors import Conflict, StaleVerdict
from app.domain.evaluation import Evidence
from app.domain.models import MaintainedModel
from app.domain.promotion import Verdict
from app.domain.training import Lease, RunEvent, RunState, TrainingRun
from app.domain.versions import ModelVersion, VersionEvent, VersionState
from app.gates import gates
from app.services import promotion
from app.services.documents import document
from app.services.examples import row_key
from app.services.policies import read_policy
from app.services.ports import Artifacts, Example, Json, UnitOfWork
from app.services.snapshots import Snapshot, read_snapshot, rows_may_repeat
from app.services.training import problem


@dataclass(frozen=True, slots=True)
class ToJudge:
    """One challenger, what it is compared with, and the rows both answer."""

    model: MaintainedModel
    run: TrainingRun
    challenger: ModelVersion
    champion: ModelVersion | None
    examples: Mapping[str, Sequence[Example]]
    snapshot: Snapshot
    leaked_rows: int
    needs_baseline: bool


def begin(
    work: UnitOfWork, artifacts: Artifacts, run_id: UUID, *, owner: str, seconds: float
) -> tuple[Lease, ToJudge] | None:
    """Lease a run that waits to be judged; None when there is nothing to do."""
    with work:
        run = work.runs.get(run_id)
        if run.state is not RunState.TRAINED:
            return None
        lease = work.runs.lease(run_id, owner=owner, seconds=seconds)
        if lease is None:
            return None
        challenger = work.versions.of_run(run_id)
        if challenger is None:
            raise Conflict(f"training run {run_id} is trained but has no version")
        if run.cancel_requested_at is not None:
            _cancel(work, lease, challenger.id)
            return None
        model = work.models.by_id(run.model_id)
        champion = work.versions.champion(model.id)
        may_repeat = rows_may_repeat(work, model)
    snapshot = read_snapshot(artifacts, run)
    examples = {
        role: list(rows)
        for role, rows in (
            ("holdout", snapshot.holdout),
            ("window", snapshot.window),
            ("golden", snapshot.golden),
        )
        if rows
    }
    judged = Counter(
        row_key(row, may_repeat=may_repeat) for rows in examples.values() for row in rows
    )
    keys = (row_key(row, may_repeat=may_repeat) for row in snapshot.train)
    leaked = sum(judged[key] for key in {key for key in keys if key in judged})
    needs_baseline = model.objective.baseline is None and model.measured_baseline is None
    return lease, ToJudge(
        model, run, challenger, champion, examples, snapshot, leaked, needs_baseline
    )


def finish(work: UnitOfWork, lease: Lease, evidence: Evidence, *, baseline: float | None) -> str:
    """Store the evidence, ask the gates, and promote or reject; return "promoted" or "rejected".

    A run that was cancelled meanwhile ends as "cancelled", its version rejected unjudged.

    Raises:
        StaleVerdict: the champion was replaced meanwhile; the challenger must be judged again.
        Conflict: another worker holds the run.
    """
    with work:
        run = work.runs.get(lease.job_id)
        model = work.models.by_id(run.model_id)
        if not work.runs.renew(lease, seconds=60):
            raise Conflict(f"training run {run.id} was given to another worker meanwhile")
        if work.runs.is_cancelled(run.id):
            return _cancel(work, lease, evidence.challenger_id)
        if baseline is not None:
            work.models.set_baseline(model.id, baseline)
        if not keep_scale(work, model, [found.challenger for found in evidence.comparisons]):
            raise StaleVerdict("the model's scale was set meanwhile; judge again")
        known = model.objective.baseline
        yardstick = known if known is not None else model.measured_baseline
        evidence = replace(evidence, baseline=yardstick if yardstick is not None else baseline)
        policy = read_policy(model.policy)
        verdicts = [
            gates.get(name).judge(evidence, options) for name, options in policy.gates.items()
        ]
        verdicts += _lost_labels(work, run, evidence)
        work.versions.add_evidence(
            model.id,
            evidence.challenger_id,
            evidence.champion_id,
            document(evidence),
            document(verdicts),
        )
        version = work.versions.by_id(evidence.challenger_id)
        if version.state is VersionState.TRAINED:
            version = work.versions.advance(
                version, VersionEvent.EVALUATED, actor="upkeep", reason="evidence was gathered"
            )
        metrics = {**version.metrics, **_by_role(evidence)}
        work.versions.set_accepted(version.id, _accepted(evidence, model.answer), metrics)
        outcome = promotion.conclude(work, model, version, evidence, verdicts)
        work.runs.set_result(run.id, outcome=outcome)
        work.runs.advance(run.id, RunEvent.SUCCEEDED, lease=lease)
        return outcome


def _cancel(work: UnitOfWork, lease: Lease, challenger_id: UUID) -> str:
    version = work.versions.by_id(challenger_id)
    if version.state is VersionState.TRAINED:
        work.versions.advance(
            version, VersionEvent.REJECTED, actor="upkeep", reason="its run was cancelled"
        )
    work.runs.advance(lease.job_id, RunEvent.CANCELLED, lease=lease)
    model = work.models.by_id(version.model_id)
    work.events.record(
        "training_run.cancelled",
        actor="upkeep",
        subject=model.name,
        project_id=model.project_id,
        model_id=model.id,
        detail={"run": lease.job_id},
    )
    return "cancelled"


def _by_role(evidence: Evidence) -> Json:
    return {found.role: document(found.challenger) for found in evidence.comparisons}


def keep_scale(
    work: UnitOfWork, model: MaintainedModel, summaries: Iterable[Mapping[str, Any]]
) -> bool:
    """Keep the scale that answers were summarised with; tell whether the model has no other.

    It is learned once, from the first rows that a version is judged on, so that all versions of
    a model are held to one yardstick. In an open transaction.
    """
    known = model.answer.document() or {}
    for scale in {one["scale"] for one in summaries if one.get("scale") is not None}:
        if known.get("scale") is None:
            work.models.learn_scale(model.id, scale)
        elif known["scale"] != scale:
            return False
    return True


def _lost_labels(work: UnitOfWork, run: TrainingRun, evidence: Evidence) -> list[Verdict]:
    """Return that a challenger, of a run before labels were added, lacks some of the champion's."""
    champion = work.versions.by_id(evidence.champion_id) if evidence.champion_id else None
    if champion is None or champion.run_id is None:
        return []
    theirs = (work.runs.get(champion.run_id).snapshot or {}).get("labels", ())
    ours = set((run.snapshot or {}).get("labels", theirs))
    lost = [label for label in theirs if label not in ours]
    if not lost:
        return []
    reason = f"the champion knows {', '.join(map(repr, lost[:20]))}, which it does not; retrain"
    return [Verdict("knows-all-labels", False, reason, {"lost": lost})]


def _accepted(evidence: Evidence, answer: Answer) -> Json:
    """Return the score a version is held to: on the newest unseen rows that are enough to tell."""
    window, holdout = evidence.comparison("window"), evidence.comparison("holdout")
    enough = window is not None and (holdout is None or window.n >= 100)
    found = window if enough else holdout
    if found is None:
        return {}
    return {
        "metric": evidence.metric,
        "value": found.challenger.get(evidence.metric),
        "accuracy": found.challenger.get(answer.measure),
        "n": found.n,
        "role": found.role,
    }


def fail(work: UnitOfWork, lease: Lease, detail: str) -> None:
    """Record that a challenger could not be judged: it is rejected, its run has failed."""
    with work:
        run = work.runs.get(lease.job_id)
        version = work.versions.of_run(run.id)
        if version is not None and version.state is VersionState.TRAINED:
            work.versions.advance(
                version, VersionEvent.REJECTED, actor="upkeep", reason=detail[:2000]
            )
        work.runs.set_result(run.id, error=problem("evaluation-failed", detail))
        work.runs.advance(run.id, RunEvent.FAILED, lease=lease)
        model = work.models.by_id(run.model_id)
        work.events.record(
            "training_run.failed",
            actor="upkeep",
            subject=model.name,
            project_id=model.project_id,
            model_id=model.id,
            detail={"run": run.id, "detail": detail},
        )
