"""The audit and the API keys over REST."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response

from app.api.context import Admin, Paged, Reader, Work, answer, listing
from app.api.schemas import Answer, KeyBody, Listing
from app.services import keys

router = APIRouter(prefix="/v1", tags=["govern"])


@router.get("/audit", response_model=Listing)
def list_audit(
    actor: Reader,
    work: Work,
    page: Paged,
    model: Annotated[str | None, Query(description="of this model only")] = None,
) -> JSONResponse:
    """List who changed what, when and why, newest first."""
    with work:
        model_id = work.models.get(model, actor.project_id).id if model else None
        return listing(work.events.listed(actor.project_id, page, model_id=model_id))


@router.get("/audit/verify", response_model=Answer)
def verify_audit(actor: Reader, work: Work) -> JSONResponse:
    """Walk the audit's hash chain; say whether anything was changed afterwards."""
    with work:
        return answer(work.events.verify())


@router.post("/keys", status_code=201, response_model=Answer)
def create_key(body: KeyBody, actor: Admin, work: Work) -> JSONResponse:
    """Make an API key; it is shown this once. From the first one on every call needs a key."""
    key_id, key = keys.create(work, actor, body.name, body.role)
    return answer({"id": key_id, "name": body.name, "role": body.role, "key": key}, 201)


@router.get("/keys", response_model=Listing)
def list_keys(actor: Admin, work: Work) -> JSONResponse:
    """List the keys of the caller's project, without their secrets."""
    with work:
        items = work.keys.listed(actor.project_id)
    return answer({"items": items, "next_cursor": None})


@router.delete("/keys/{key_id}", status_code=204, response_class=Response)
def revoke_key(key_id: UUID, actor: Admin, work: Work) -> Response:
    """End a key at once."""
    keys.revoke(work, actor, key_id)
    return Response(status_code=204)
