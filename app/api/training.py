"""Retraining over REST: ask, watch, cancel."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse, StreamingResponse

from app.api.context import Operator, Paged, Reader, Work, answer, in_thread, listing, now
from app.api.schemas import Listing, ReasonBody, RetrainBody, RunAnswer
from app.domain.training import IN_FLIGHT, TrainingRun
from app.services import decisions, training
from app.services.documents import document
from app.services.ports import Json

router = APIRouter(prefix="/v1/models/{name}", tags=["training"])

EVENT_SECONDS = 0.5


def shown(name: str, run: TrainingRun) -> Json:
    """Return a run as the API shows it."""
    return {
        "id": run.id,
        "state": run.state,
        "attempt": run.attempt,
        "reason": run.reason,
        "actor": run.actor,
        "start_from": run.spec.start_from,
        "recipe": run.spec.recipe,
        "seed": run.spec.seed,
        "progress": run.progress,
        "decision": run.decision_id,
        "version": run.version_number,
        "outcome": run.outcome,
        "error": run.error,
        "snapshot_sha256": run.snapshot_sha256,
        "snapshot": run.snapshot,
        "result": run.result,
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
        body.reason, body.start_from, body.recipe, body.seed, body.repeat_of, body.force
    )
    run = decisions.retrain(work, actor, name, request, key=idempotency_key, now=now())
    return answer(shown(name, run), 202, {"Location": f"/v1/models/{name}/runs/{run.id}"})


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
        return listing(listed, lambda run: document(shown(name, run)))


@router.get("/runs/{run_id}", response_model=RunAnswer)
def get_run(name: str, run_id: UUID, actor: Reader, work: Work) -> JSONResponse:
    """Return one run with its live progress."""
    with work:
        model = work.models.get(name, actor.project_id)
        return answer(shown(name, work.runs.get(run_id, model.id)))


@router.post("/runs/{run_id}/cancel", status_code=202, response_model=RunAnswer)
def cancel_run(
    name: str, run_id: UUID, body: ReasonBody, actor: Operator, work: Work
) -> JSONResponse:
    """Stop a run: at once if it waits, else within seconds."""
    run = training.cancel(work, actor, name, run_id, reason=body.reason)
    return answer(shown(name, run), 202)


@router.get("/runs/{run_id}/events", response_class=StreamingResponse)
async def follow_run(
    name: str, run_id: UUID, request: Request, actor: Reader, work: Work
) -> StreamingResponse:
    """Follow a run as server-sent events until it ends."""

    def look() -> TrainingRun:
        with work:
            model = work.models.get(name, actor.project_id)
            return work.runs.get(run_id, model.id)

    first = await in_thread(look)

    async def events() -> AsyncIterator[str]:
        run, sent = first, ""
        while True:
            text = json.dumps(document(shown(name, run)))
            if text != sent:
                yield f"event: {run.state}\ndata: {text}\n\n"
                sent = text
            if run.state not in IN_FLIGHT or await request.is_disconnected():
                return
            await asyncio.sleep(EVENT_SECONDS)
            run = await in_thread(look)

    headers = {"Cache-Control": "no-store"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)
