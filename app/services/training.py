"""Training runs: asking for one, what it learns from, and how it ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.domain.errors import Conflict, Fault, IllegalTransition, Invalid
from app.domain.identity import content_hash, digest_of_files, new_id
from app.domain.models import MaintainedModel
from app.domain.policies import Policy, SearchPolicy, SelectionPolicy
from app.domain.training import MAXIMUM_ATTEMPTS, Lease, RunEvent, RunSpec, RunState, TrainingRun
from app.domain.versions import ModelFile, ModelVersion, Origin, VersionState
from app.services import performance, queueing, searches
from app.services.documents import document
from app.services.options import option_faults
from app.services.policies import read_policy
from app.services.ports import Actor, Artifacts, Json, UnitOfWork
from app.services.snapshots import Snapshot, add_dataset, evenly


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody who asks for a retrain says.

    Attributes:
        is_forced: start in spite of incidents; their rows are not learned from all the same.
        priority: among all runs that wait; None = the policy's.
        selection: which rows it trains on; None = the policy's.
        search: how its recipe is searched for; None = the policy's.
    """

    reason: str
    start_from: str | None = None
    recipe: Mapping[str, Any] | None = None
    seed: int | None = None
    repeat_of: UUID | None = None
    is_forced: bool = False
    priority: int | None = None
    selection: SelectionPolicy | None = None
    search: SearchPolicy | None = None


def start(
    work: UnitOfWork,
    model: MaintainedModel,
    *,
    reason: str,
    actor: str,
    now: datetime,
    decision_id: UUID | None,
    request: Request | None = None,
    idempotency_key: str | None = None,
    request_sha256: str | None = None,
) -> TrainingRun:
    """Queue a run inside an open transaction; its job goes out when that commits."""
    champion = work.versions.champion(model.id)
    policy = read_policy(model.policy)
    wanted = request or Request(reason)
    run_id = new_id()
    repeated = work.runs.get(wanted.repeat_of, model.id) if wanted.repeat_of else None
    start_from = wanted.start_from or policy.retrain.start_from
    recipe = dict(policy.retrain.recipe if wanted.recipe is None else wanted.recipe)
    search = _search_of(work, model, wanted.search or policy.retrain.search)
    recipe = _with_aim(work, model, policy, champion, recipe, is_searched=search is not None)
    asked = RunSpec(
        start_from="base" if champion is None else start_from,
        champion=champion.id if champion else None,
        recipe=recipe,
        through_label=work.observations.horizon(model.id)[1],
        through_dataset=now,
        seed=run_id.int % 2**31 if wanted.seed is None else wanted.seed,
        selection=document(wanted.selection or policy.retrain.selection),
        search=search,
    )
    run = TrainingRun(
        id=run_id,
        model_id=model.id,
        state=RunState.QUEUED,
        spec=repeated.spec if repeated else asked,
        queued_at=now,
        priority=policy.retrain.priority if wanted.priority is None else wanted.priority,
        decision_id=decision_id,
        snapshot=repeated.snapshot if repeated else None,
        snapshot_sha256=repeated.snapshot_sha256 if repeated else None,
        reason=reason,
        actor=actor,
    )
    work.runs.add(
        run,
        idempotency_key=idempotency_key,
        request_sha256=request_sha256,
        most_in_flight=policy.retrain.maximum_in_flight,
    )
    work.outbox.send("train", run.id)
    work.events.record(
        "training_run.queued",
        actor=actor,
        subject=model.name,
        project_id=model.project_id,
        model_id=model.id,
        detail={"run": run.id, "reason": reason, "start_from": run.spec.start_from},
    )
    return run


def _with_aim(
    work: UnitOfWork,
    model: MaintainedModel,
    policy: Policy,
    champion: ModelVersion | None,
    recipe: dict[str, Any],
    *,
    is_searched: bool,
) -> dict[str, Any]:
    """Return the recipe with the accuracy at which a cheap rung suffices: what is held to now.

    It is written down with the run, so that a repetition aims at the same. A search looks for the
    best, so that nothing suffices.
    """
    plugin = work.plugins.find("task_type", model.task_type)
    has_rungs = plugin is not None and "sufficient" in plugin.options.get("properties", {})
    if not has_rungs or recipe.get("sufficient") is not None:
        return recipe
    if is_searched:
        return {**recipe, "sufficient": 1.0}
    if champion is None:
        return recipe
    held_to = performance.yardstick(work, policy, champion)
    return recipe if held_to is None else {**recipe, "sufficient": held_to[0]}


def _search_of(
    work: UnitOfWork, model: MaintainedModel, search: SearchPolicy | None
) -> Json | None:
    """Return a search with its space written out.

    Raises:
        Invalid: no worker has said yet what can be searched.
    """
    if search is None:
        return None
    plugin = work.plugins.find("task_type", model.task_type)
    if plugin is None:
        raise Invalid(f"no worker has announced the recipe of {model.task_type}; start one")
    return searches.resolved(plugin.options, search, model.objective)


def known_request(
    work: UnitOfWork, model: MaintainedModel, request: Request, key: str | None
) -> tuple[TrainingRun | None, str]:
    """Return the run that this Idempotency-Key already made, and the request's hash.

    Raises:
        Conflict: the key was used for a different request.
    """
    sha256 = content_hash(
        {
            "reason": request.reason,
            "start_from": request.start_from,
            "recipe": dict(request.recipe) if request.recipe is not None else None,
            "seed": request.seed,
            "repeat_of": str(request.repeat_of) if request.repeat_of else None,
            **({"force": True} if request.is_forced else {}),
            **({} if request.priority is None else {"priority": request.priority}),
            **({} if request.selection is None else {"selection": document(request.selection)}),
            **({} if request.search is None else {"search": document(request.search)}),
        }
    )
    found = work.runs.by_key(model.id, key) if key else None
    if found is None:
        return None, sha256
    run, before = found
    if before != sha256:
        raise Conflict(
            f"Idempotency-Key {key!r} was used for another request; send a new key with this one"
        )
    return run, sha256


def check_request(work: UnitOfWork, model: MaintainedModel, request: Request) -> None:
    """Refuse a request that could not lead to a run.

    Raises:
        Invalid: an unknown start or recipe knob, or nothing to learn from.
    """
    faults = []
    if request.start_from not in {None, "champion", "base"}:
        faults.append(Fault("/start_from", "must be 'champion' or 'base'"))
    plugin = work.plugins.find("task_type", model.task_type)
    if plugin is not None and request.recipe:
        faults += option_faults(plugin.options, request.recipe, "/recipe")
    if plugin is not None and request.search is not None:
        faults += searches.search_faults(plugin.options, request.search, "/search")
    if faults:
        raise Invalid("the request is not valid", faults)
    has_dataset = work.datasets.of(model.id, "training") or work.datasets.of(model.id, "reference")
    if not has_dataset and work.observations.n_classes(model.id) < 2:
        distinct = model.answer.distinct
        raise Invalid(
            "there is nothing to learn from: upload a training dataset of at least two "
            f"{distinct}, or send labels of at least two {distinct}"
        )


def begin(
    work: UnitOfWork,
    *,
    owner: str,
    seconds: float,
    devices: Sequence[str] = (),
    only: UUID | None = None,
) -> Lease | None:
    """Lease the run that goes next and start its next attempt; None when none may start.

    A job may arrive twice, late or never, and for whichever run: the queue in Postgres decides
    what is worked on, the lease who works.

    Args:
        work: a unit of work, opened here.
        owner: names the worker.
        seconds: until the lease runs out unless it is renewed.
        devices: GPUs of this machine, or groups of them; where there are any, the run gets one to
            itself or waits.
        only: this run or none.
    """
    requeue_lost(work)
    with work:
        while lease := work.runs.lease_next(
            owner=owner, seconds=seconds, devices=devices, only=only
        ):
            run = work.runs.get(lease.job_id)
            if _gave_up(work, run):
                continue
            work.runs.advance(run.id, RunEvent.STARTED, lease=lease)
            told = {"attempt": run.attempt + 1, "owner": owner}
            _tell(work, run, "training_run.started", told)
            return lease
    return None


def _gave_up(work: UnitOfWork, run: TrainingRun) -> bool:
    if run.cancel_requested_at is not None:
        work.runs.advance(run.id, RunEvent.CANCELLED)
        _tell(work, run, "training_run.cancelled", {})
        return True
    if run.attempt < MAXIMUM_ATTEMPTS:
        return False
    work.runs.set_result(
        run.id,
        error=problem(
            "attempts-exhausted",
            f"the run was lost or killed {run.attempt} times; look at its worker's log and memory",
        ),
    )
    work.runs.advance(run.id, RunEvent.FAILED)
    _tell(work, run, "training_run.failed", {"attempts": run.attempt})
    return True


def problem(kind: str, detail: str, title: str | None = None) -> Json:
    """Return the JSON of what went wrong, in the form of RFC 9457."""
    return {
        "type": f"/problems/{kind}",
        "title": title or kind.replace("-", " ").capitalize(),
        "detail": detail,
    }


def succeed(
    work: UnitOfWork,
    artifacts: Artifacts,
    lease: Lease,
    files: Sequence[ModelFile],
    result: Json,
    snapshot: Snapshot,
    *,
    now: datetime,
) -> ModelVersion | None:
    """Record the version a run has made, and ask for its evaluation; all or nothing.

    Raises:
        Conflict: the lease was lost; the other worker's outcome stands.
    """
    with work:
        run = work.runs.get(lease.job_id)
        work.runs.advance(run.id, RunEvent.TRAINED, lease=lease)
        policy = read_policy(work.models.by_id(run.model_id).policy)
        pinned = evenly(snapshot.reference, policy.check.reference_rows)
        reference = add_dataset(work, artifacts, run.model_id, "pinned", pinned, now)
        version = work.versions.add(
            ModelVersion(
                id=new_id(),
                model_id=run.model_id,
                number=work.versions.next_number(run.model_id),
                state=VersionState.TRAINED,
                origin=Origin.TRAINED,
                digest=digest_of_files({file.path: file.sha256 for file in files}),
                files=tuple(files),
                created_at=now,
                state_since=now,
                metrics={"validation": result.get("metrics", {})},
                reference=reference.id,
                run_id=run.id,
                parent_id=run.spec.champion if run.spec.start_from == "champion" else None,
                snapshot_sha256=snapshot.sha256,
                trained_through=run.spec.through_label,
                n_training_rows=len(snapshot.train),
            )
        )
        work.runs.set_result(run.id, result=result)
        work.outbox.send("evaluate", run.id)
        _call_next(work)
        _tell(work, run, "training_run.trained", {"version": version.number})
        return version


def end_early(work: UnitOfWork, lease: Lease, event: RunEvent, error: Json | None = None) -> None:
    """Record that an attempt ended without a version: preempted, failed or cancelled."""
    with work:
        run = work.runs.get(lease.job_id)
        work.runs.advance(run.id, event, lease=lease)
        if event is not RunEvent.PREEMPTED:
            work.runs.set_result(run.id, error=error)
        _call_next(work)
        _tell(work, run, f"training_run.{event}", error or {})


def cancel(work: UnitOfWork, actor: Actor, name: str, run_id: UUID, *, reason: str) -> TrainingRun:
    """Stop a run: at once if it waits, else within seconds by its worker.

    Raises:
        NotFound: no such run.
        Conflict: it has ended already.
    """
    with work:
        model = work.models.get(name, actor.project_id)
        run = work.runs.get(run_id, model.id)
        if run.state not in {RunState.QUEUED, RunState.RUNNING, RunState.TRAINED}:
            raise Conflict(f"the run has {run.state} already; there is nothing to cancel")
        work.runs.request_cancel(run.id)
        if run.state is RunState.QUEUED:
            work.runs.advance(run.id, RunEvent.CANCELLED)
        work.events.record(
            "training_run.cancel_requested",
            actor=actor.name,
            subject=model.name,
            project_id=model.project_id,
            model_id=model.id,
            detail={"run": run.id, "reason": reason},
        )
        return work.runs.get(run.id)


def _call_next(work: UnitOfWork) -> None:
    """Call a worker, as a place has come free, if a run waits that may start."""
    first = next((run for run in work.runs.waiting() if run.waits_for == "worker"), None)
    if first is not None:
        work.outbox.send("train", first.run_id)


def requeue_lost(work: UnitOfWork) -> int:
    """Give runs of silent workers back to the queue; return how many."""
    n = 0
    with work:
        for run_id in work.runs.lost():
            run = work.runs.get(run_id)
            try:
                work.runs.advance(run_id, RunEvent.LOST)
            except (Conflict, IllegalTransition):
                continue
            if _gave_up(work, work.runs.get(run_id)):
                _call_next(work)
            else:
                work.outbox.send("train", run_id)
            _tell(work, run, "training_run.lost", {"attempt": run.attempt})
            n += 1
    return n


def resend_stalled(work: UnitOfWork, *, resend_seconds: float) -> int:
    """Send again the jobs that no worker picked up, lest Redis lost them; return how many.

    A run that waits its turn is no lost job: of those that may start, only as many are called for
    as places are free, so that a long queue does not fill Redis.
    """
    with work:
        stalled = dict(work.runs.stalled(resend_seconds=resend_seconds))
        judged = [run_id for run_id, state in stalled.items() if state is RunState.TRAINED]
        n_free = max(0, queueing.n_slots(work) - len(work.runs.under_way()))
        may_start = [
            run.run_id
            for run in (work.runs.waiting() if n_free and len(judged) < len(stalled) else ())
            if run.waits_for == "worker" and run.run_id in stalled
        ]
        for run_id in may_start[:n_free]:
            work.outbox.send("train", run_id)
        for run_id in judged:
            work.outbox.send("evaluate", run_id)
    return len(judged) + len(may_start[:n_free])


def _tell(work: UnitOfWork, run: TrainingRun, action: str, detail: Json) -> None:
    model = work.models.by_id(run.model_id)
    work.events.record(
        action,
        actor="upkeep",
        subject=model.name,
        project_id=model.project_id,
        model_id=model.id,
        detail={"run": run.id, **detail},
    )


def policy_of(work: UnitOfWork, model_id: UUID) -> Policy:
    """Return the policy in force of a model, in an open transaction."""
    return read_policy(work.models.by_id(model_id).policy)
