"""Observations, labels and datasets over REST."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from app.api.context import (
    Ingester,
    Operator,
    Paged,
    Reader,
    Wired,
    Work,
    answer,
    body_of,
    in_thread,
    listing,
    now,
)
from app.api.schemas import (
    Answer,
    DatasetAnswer,
    IngestAnswer,
    LabelLagAnswer,
    LabelsAnswer,
    Listing,
    PerformanceAnswer,
)
from app.domain.observations import Rejected
from app.services import datasets, observations, performance, tables
from app.services.documents import document

router = APIRouter(prefix="/v1/models/{name}", tags=["observations"])

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {kind: {"schema": {}} for kind in tables.MEDIA_TYPES},
    }
}


def _shown(rejected: Rejected) -> dict[str, Any]:
    return {"index": rejected.index, "id": rejected.id, "errors": document(rejected.faults)}


@router.post("/observations", response_model=IngestAnswer, openapi_extra=_BODY)
async def log_observations(
    name: str, request: Request, actor: Ingester, work: Work, wired: Wired
) -> JSONResponse:
    """Log a batch of inferences; durable before the answer, and idempotent by id.

    A body is `{"observations": [{id, at?, inputs, prediction?, scores?, version?, shadow?}]}`, or
    the rows as NDJSON, Parquet or an Arrow IPC stream. Bad rows are reported by index, the good
    ones kept.
    """
    body, kind = await body_of(request, wired), request.headers.get("content-type", "")

    def store() -> JSONResponse:
        done = observations.ingest_body(work, actor, name, body, kind, now=now())
        rejected = [_shown(row) for row in done.rejected]
        return answer(
            {"accepted": done.n_accepted, "duplicates": done.n_duplicates, "rejected": rejected}
        )

    return await in_thread(store)


@router.post("/labels", response_model=LabelsAnswer, openapi_extra=_BODY)
async def log_labels(
    name: str, request: Request, actor: Ingester, work: Work, wired: Wired
) -> JSONResponse:
    """Send true labels by the observations' ids, hours or weeks later; a correction stands.

    A body is `{"labels": [{id, label, at?}]}`, or the rows as NDJSON, Parquet or Arrow IPC.
    """
    body, kind = await body_of(request, wired), request.headers.get("content-type", "")

    def store() -> JSONResponse:
        rows = tables.read_rows(body, kind, key="labels")
        done = observations.add_labels(work, actor, name, rows, now=now())
        rejected = [_shown(row) for row in done.rejected]
        return answer(
            {"accepted": done.n_accepted, "unchanged": done.n_duplicates, "rejected": rejected}
        )

    return await in_thread(store)


@router.get("/label-lag", response_model=LabelLagAnswer)
def get_label_lag(name: str, actor: Reader, work: Work) -> JSONResponse:
    """Return how long labels take to come, and what share of the rows old enough has one.

    Of the newest rows and a sparser sample of those before; over all versions, and by version.
    """
    with work:
        model = work.models.get(name, actor.project_id)
        overall, *by_version = observations.label_lags(work, model.id, now=now())
    return answer({**document(overall), "by_version": by_version})


@router.get("/observations/{observation_id}", response_model=Answer)
def get_observation(name: str, observation_id: str, actor: Reader, work: Work) -> JSONResponse:
    """Return one observation with the history of its labels."""
    with work:
        model = work.models.get(name, actor.project_id)
        return answer(observations.shown(work, model, observation_id))


@router.get("/quarantine", response_model=Listing)
def list_quarantined(name: str, actor: Reader, work: Work, page: Paged) -> JSONResponse:
    """List the observations that broke the input contract, and how."""
    with work:
        model = work.models.get(name, actor.project_id)
        return listing(work.observations.quarantined(model.id, page))


@router.get("/violations", response_model=Listing)
def list_violations(name: str, actor: Reader, work: Work, page: Paged) -> JSONResponse:
    """List how often observations broke the input contract: by hour, field and kind of fault.

    Kinds are missing, type, value (out of bounds, set or form) and unknown; all fields that are
    not known are `?`. A row that is sent again counts again.
    """
    with work:
        model = work.models.get(name, actor.project_id)
        return listing(work.observations.violations(model.id, page))


@router.post("/datasets", status_code=201, response_model=DatasetAnswer, openapi_extra=_BODY)
async def upload_dataset(
    name: str,
    request: Request,
    actor: Operator,
    work: Work,
    wired: Wired,
    role: Annotated[str, Query(description="training, reference, holdout or golden")],
) -> JSONResponse:
    """Upload rows as a first training set, reference, holdout or golden set.

    A row is `{"inputs": {...}, "label": "x"}` or flat; images are base64 PNG, nested arrays of
    bytes, or (in Parquet and Arrow) PNG bytes.
    """
    body, kind = await body_of(request, wired), request.headers.get("content-type", "")

    def store() -> JSONResponse:
        rows = tables.read_rows(body, kind, key="rows")
        dataset, rejected = datasets.upload(
            work, wired.artifacts, actor, name, role=role, rows=rows, now=now()
        )
        shown = {
            **document(dataset),
            "n_rejected": len(rejected),
            "rejected": [_shown(row) for row in rejected[:1000]],
        }
        return answer(shown, 201)

    return await in_thread(store)


@router.get("/datasets", response_model=Listing)
def list_datasets(name: str, actor: Reader, work: Work, page: Paged) -> JSONResponse:
    """List the model's datasets."""
    with work:
        model = work.models.get(name, actor.project_id)
        return listing(work.datasets.listed(model.id, page))


@router.get("/performance", response_model=PerformanceAnswer)
def get_performance(
    name: str,
    actor: Reader,
    work: Work,
    bucket: Annotated[int, Query(ge=1, le=200_000, description="observations a bucket")] = 200,
) -> JSONResponse:
    """Return the accuracy that users got over time, what happened when, and what is known now.

    Of the newest 200,000 observations, and at most 1,000 buckets; older ones are in the reports.
    Of the champion: its accuracy by labels, estimated without, corrected by labels, and by slice.
    """
    with work:
        model = work.models.get(name, actor.project_id)
        items = performance.timeline(work, model, bucket)
        moves = work.versions.transitions(model.id)
        champion = performance.of_champion(work, model)
    events = [
        {"at": move.at, "kind": f"model_version.{move.event}", "detail": f"version {move.number}"}
        for move in moves
    ]
    return answer({"items": items, "next_cursor": None, "events": events, "champion": champion})
