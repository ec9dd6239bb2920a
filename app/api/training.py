"""Retraining over REST: ask, watch, cancel."""

from collections.abc import Mapping
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Header, Query
from fastapi.responses import JSONResponse, StreamingResponse

from app.api.context import (
    Operator,
    Paged,
    Reader,
    Wired,
    Work,
    answer,
    in_thread,
    listing,
    now,
)
from app.api.schemas import (
    Listing,
    ModelUsageAnswer,
    ReasonBody,
    RetrainBody,
    RunAnswer,
    RunHistoryAnswer,
)
from app.domain.training import TrainingRun
from app.services import decisions, queueing, searches, training, usage
from app.services.documents import document
from app.services.ports import Json

router = APIRouter(prefix="/v1/models/{name}", tags=["training"])

EVENTS = (
    "`state` when the run moved or was asked to stop, `progress` for each line of its training "
    "process. The id counts them, the data are an item of `.../history`. A comment is sent when "
    "nothing else was for 10 s."
)


def shown(name: str, run: TrainingRun, places: Mapping[UUID, Json]) -> Json:
    """Return a run as the API shows it, with its place among those that wait."""
    return {
        "id": run.id,
        "state": run.state,
        "priority": run.priority,
        "queue": places.get(run.id),
        "waited_seconds": run.waited_seconds(now()),
        "device": run.device,
        "attempt": run.attempt,
        "reason": run.reason,
        "actor": run.actor,
        "start_from": run.spec.start_from,
        "recipe": run.spec.recipe,
        "selection": run.spec.selection,
        "search": searches.shown(run),
        "seed": run.spec.seed,
        "progress": run.progress,
        "decision": run.decision_id,
        "version": run.version_number,
        "outcome": run.outcome,
        "error": run.error,
        "snapshot_sha256": run.snapshot_sha256,
        "snapshot": run.snapshot,
        "result": run.result,
        "deterministic": (run.result or {}).get("deterministic"),
        "usage": run.usage,
        "queued_at": run.queued_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "cancel_requested_at": run.cancel_requested_at,
        "url": f"/v1/models/{name}/runs/{run.id}",
    }


@router.post("/retrain", status_code=202, response_model=RunAnswer)
def retrain(
    name: str,
    body: RetrainBody,
    actor: Operator,
    work: Work,
    idempotency_key: Annotated[
        str | None, Header(max_length=200, description="the same key gives the same run")
    ] = None,
) -> JSONResponse:
    """Start a training run; the answer's Location tells how it goes."""
    request = training.Request(
        body.reason,
        body.start_from,
        body.recipe,
        body.seed,
        body.repeat_of,
        is_forced=body.force,
        priority=body.priority,
        selection=body.selection,
        search=body.search,
    )
    run = decisions.retrain(work, actor, name, request, key=idempotency_key, now=now())
    with work:
        places = queueing.places(work, [run])
    location = {"Location": f"/v1/models/{name}/runs/{run.id}"}
    return answer(shown(name, run, places), 202, location)


@router.get("/usage", response_model=ModelUsageAnswer)
def get_usage(name: str, actor: Reader, work: Work) -> JSONResponse:
    """Return what all training runs of a model took, and each promoted point of accuracy."""
    with work:
        return answer(usage.of_model(work, work.models.get(name, actor.project_id)))


@router.get("/runs", response_model=Listing)
def list_runs(
    name: str,
    actor: Reader,
    work: Work,
    page: Paged,
    state: Annotated[
        Literal["queued", "running", "trained", "succeeded", "failed", "cancelled"] | None, Query()
    ] = None,
) -> JSONResponse:
    """List training runs, newest first."""
    with work:
        model = work.models.get(name, actor.project_id)
        listed = work.runs.listed(model.id, page, state=state)
        places = queueing.places(work, listed.items)
        return listing(listed, lambda run: document(shown(name, run, places)))


@router.get("/runs/{run_id}", response_model=RunAnswer)
def get_run(name: str, run_id: UUID, actor: Reader, work: Work) -> JSONResponse:
    """Return one run with its place in the queue or its live progress."""
    with work:
        model = work.models.get(name, actor.project_id)
        run = work.runs.get(run_id, model.id)
        return answer(shown(name, run, queueing.places(work, [run])))


@router.post("/runs/{run_id}/cancel", status_code=202, response_model=RunAnswer)
def cancel_run(
    name: str, run_id: UUID, body: ReasonBody, actor: Operator, work: Work
) -> JSONResponse:
    """Stop a run: at once if it waits, else within seconds."""
    run = training.cancel(work, actor, name, run_id, reason=body.reason)
    return answer(shown(name, run, {}), 202)


@router.get("/runs/{run_id}/history", response_model=RunHistoryAnswer)
def get_history(name: str, run_id: UUID, actor: Reader, work: Work) -> JSONResponse:
    """Return what has happened to a run: each change of state, at most 200 lines of progress."""
    with work:
        model = work.models.get(name, actor.project_id)
        run = work.runs.get(run_id, model.id)
        return answer({"run": run.id, "items": work.runs.history(run.id)})


@router.get(
    "/runs/{run_id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": EVENTS}},
)
async def follow_run(
    name: str,
    run_id: UUID,
    actor: Reader,
    work: Work,
    wired: Wired,
    last_event_id: Annotated[
        int | None,
        Header(
            ge=0, lt=2**63, description="number of the last event seen; 0 or none: from the first"
        ),
    ] = None,
) -> StreamingResponse:
    """Follow a run as server-sent events until it ends."""

    def find() -> None:
        with work:
            model = work.models.get(name, actor.project_id)
            work.runs.get(run_id, model.id)

    await in_thread(find)
    wired.following.check()
    events = wired.following.lines(run_id, after=last_event_id or 0)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)
