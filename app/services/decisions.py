"""Retrain, skip or defer: gathering the situation, asking the triggers, leaving a record."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from app.domain.decisions import Decision, Outcome, Signal, Situation, decide
from app.domain.drift import Finding
from app.domain.errors import Conflict
from app.domain.estimation import Bounded
from app.domain.identity import new_id
from app.domain.models import MaintainedModel
from app.domain.performance import PerformanceEvidence
from app.domain.policies import Policy
from app.domain.training import TrainingRun
from app.services import training
from app.services.documents import document
from app.services.observations import expected_lag
from app.services.policies import read_policy
from app.services.ports import Actor, UnitOfWork
from app.triggers import triggers


def gather(
    work: UnitOfWork,
    model: MaintainedModel,
    *,
    now: datetime,
    finding: Finding | None = None,
    drifted: tuple[str, ...] = (),
    n_labels_since_drift: int | None = None,
    drift_began_after: int | None = None,
    performance: PerformanceEvidence | None = None,
    estimated: Bounded | None = None,
    fallen_slices: tuple[str, ...] = (),
    yardstick: float | None = None,
    request: str | None = None,
    incidents: Sequence[str] | None = None,
    is_forced: bool = False,
) -> Situation:
    """Return everything a decision about a model reads, in an open transaction."""
    champion = work.versions.champion(model.id)
    newest = work.runs.newest(model.id)
    since = max(
        newest.spec.through_label if newest else 0, champion.trained_through if champion else 0
    )
    if incidents is None:
        incidents = [one.says for one in work.incidents.standing(model.id)]
    return Situation(
        now=now,
        is_paused=model.is_paused,
        finding=finding,
        drifted=drifted,
        n_labels_since_drift=n_labels_since_drift,
        drift_began_at=None
        if drift_began_after is None
        else work.observations.seen_after(model.id, drift_began_after),
        label_lag=expected_lag(work, model.id, champion.number if champion else None, now),
        performance=performance,
        estimated=estimated,
        fallen_slices=fallen_slices,
        champion_age_seconds=(now - champion.state_since).total_seconds() if champion else None,
        n_labels=performance.n if performance else 0,
        n_new_labels=work.observations.n_labelled(model.id, after_label=since),
        n_training_rows=champion.n_training_rows if champion else 0,
        regret=_regret(performance, yardstick),
        n_classes_labelled=work.observations.n_classes(model.id),
        runs_in_flight=work.runs.ids_in_flight(model.id),
        last_run_ended_at=newest.finished_at if newest else None,
        last_triggered_at=work.models.last_scheduled_at(model.id),
        request=request,
        incidents=incidents,
        is_forced=is_forced,
    )


def _regret(performance: PerformanceEvidence | None, yardstick: float | None) -> float:
    """Return how many errors a champion as good as the yardstick would not have made."""
    if performance is None or performance.accuracy is None or yardstick is None:
        return 0.0
    return performance.n * (yardstick - performance.accuracy)


def conclude(
    work: UnitOfWork,
    model: MaintainedModel,
    situation: Situation,
    *,
    report_id: UUID | None,
    actor: str = "upkeep",
    request: training.Request | None = None,
    idempotency_key: str | None = None,
    request_sha256: str | None = None,
) -> tuple[UUID, Decision, TrainingRun | None]:
    """Decide, leave the record, and queue the run it calls for; in an open transaction."""
    policy = read_policy(model.policy)
    decision = decide(situation, signals(situation, policy), policy)
    decision_id = new_id()
    work.decisions.add(
        {
            "id": decision_id,
            "model_id": model.id,
            "outcome": decision.outcome,
            "trigger": decision.trigger,
            "reason": decision.reason,
            "signals": document(decision.signals),
            "situation": document(situation),
            "defer_until": decision.defer_until,
            "policy_version": model.policy_version,
            "report_id": report_id,
            "actor": actor,
        }
    )
    if decision.outcome is not Outcome.RETRAIN:
        if decision.trigger is not None:
            _tell(work, model, "retraining.suppressed", actor, decision, decision_id)
        return decision_id, decision, None
    run = training.start(
        work,
        model,
        reason=decision.reason,
        actor=actor,
        now=situation.now,
        decision_id=decision_id,
        request=request,
        idempotency_key=idempotency_key,
        request_sha256=request_sha256,
    )
    work.decisions.attach_run(decision_id, run.id)
    _tell(work, model, "retraining.triggered", actor, decision, decision_id)
    return decision_id, decision, run


def signals(situation: Situation, policy: Policy) -> list[Signal]:
    """Return what each trigger of a policy makes of a situation, in the order they are asked."""
    if situation.request is not None:
        return [triggers.get("manual").read(situation, policy, {})]
    order = {"drift": 0, "performance": 1}
    names = sorted(policy.triggers, key=lambda name: (order.get(name, 2), name))
    return [
        triggers.get(name).read(situation, policy, policy.triggers[name])
        for name in names
        if name != "manual"
    ]


def _tell(
    work: UnitOfWork,
    model: MaintainedModel,
    action: str,
    actor: str,
    decision: Decision,
    decision_id: UUID,
) -> None:
    work.events.record(
        action,
        actor=actor,
        subject=model.name,
        project_id=model.project_id,
        model_id=model.id,
        detail={
            "decision": decision_id,
            "trigger": decision.trigger,
            "reason": decision.reason,
        },
    )


def retrain(
    work: UnitOfWork,
    actor: Actor,
    name: str,
    request: training.Request,
    *,
    key: str | None,
    now: datetime,
) -> TrainingRun:
    """Start a run because somebody asked; the same Idempotency-Key gives the same run.

    Raises:
        NotFound: no such model.
        Invalid: the recipe is wrong, or there is nothing to learn from.
        Conflict: another run is in flight, the key belongs to another request, or the inputs are
            broken upstream and the request is not forced.
    """
    with work:
        model = work.models.get(name, actor.project_id)
        work.models.lock(model.id)
        known, request_sha256 = training.known_request(work, model, request, key)
        if known is not None:
            return known
        training.check_request(work, model, request)
        situation = gather(
            work, model, now=now, request=request.reason, is_forced=request.is_forced
        )
        if situation.incidents and not request.is_forced:
            raise Conflict(
                f"{'; '.join(situation.incidents)}. Resolve it once upstream is mended, or as "
                "genuine if it is no fault; or repeat the request with force, which learns from "
                "the other rows"
            )
        most = read_policy(model.policy).retrain.maximum_in_flight
        if len(situation.runs_in_flight) >= most:
            raise Conflict(
                f"training run {situation.runs_in_flight[0]} of this model is in flight; wait for "
                f"it or cancel it (the policy's retrain.maximum_in_flight is {most})"
            )
        _, decision, run = conclude(
            work,
            model,
            situation,
            report_id=None,
            actor=actor.name,
            request=request,
            idempotency_key=key,
            request_sha256=request_sha256,
        )
        if run is None:
            raise Conflict(decision.reason)
        return run


def on_schedule(work: UnitOfWork, *, now: datetime) -> int:
    """Decide for every model whose schedule came due; safe with several schedulers."""
    n = 0
    with work:
        for model_id, cron, since in work.models.with_schedule():
            model = work.models.by_id(model_id)
            policy = read_policy(model.policy)
            situation = gather(work, model, now=now)
            due = triggers.get("schedule").read(situation, policy, {"cron": cron})
            if not due.fired or since > now:
                continue
            work.models.scheduled(model_id, now)
            conclude(work, model, situation, report_id=None)
            n += 1
    return n
