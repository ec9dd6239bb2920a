"""Incidents over REST: what arrives broken, and who looks after it."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from app.api.context import Operator, Paged, Reader, Work, answer, listing, now
from app.api.schemas import IncidentAnswer, Listing, ReasonBody, ResolveBody
from app.services import incidents

router = APIRouter(prefix="/v1/models/{name}/incidents", tags=["drift"])


@router.get("", response_model=Listing)
def list_incidents(
    name: str,
    actor: Reader,
    work: Work,
    page: Paged,
    state: Annotated[Literal["open", "acknowledged", "resolved"] | None, Query()] = None,
    kind: Annotated[
        Literal["schema", "missing", "constant", "blank", "scale", "range", "categories"] | None,
        Query(),
    ] = None,
    field: Annotated[str | None, Query(description="of the input")] = None,
) -> JSONResponse:
    """List incidents, newest first: faults upstream, and what became of them."""
    with work:
        model = work.models.get(name, actor.project_id)
        listed = work.incidents.listed(model.id, page, state=state, kind=kind, field=field)
        return listing(listed, lambda one: incidents.shown(name, one))


@router.get("/{incident_id}", response_model=IncidentAnswer)
def get_incident(name: str, incident_id: UUID, actor: Reader, work: Work) -> JSONResponse:
    """Return one incident: what is broken, since when, and what it blocks."""
    with work:
        model = work.models.get(name, actor.project_id)
        return answer(incidents.shown(name, work.incidents.get(incident_id, model.id)))


@router.post("/{incident_id}/acknowledge", response_model=IncidentAnswer)
def acknowledge(
    name: str, incident_id: UUID, body: ReasonBody, actor: Operator, work: Work
) -> JSONResponse:
    """Say that somebody looks after it; it goes on blocking."""
    incident = incidents.acknowledge(work, actor, name, incident_id, reason=body.reason)
    return answer(incidents.shown(name, incident))


@router.post("/{incident_id}/resolve", response_model=IncidentAnswer)
def resolve(
    name: str, incident_id: UUID, body: ResolveBody, actor: Operator, work: Work
) -> JSONResponse:
    """End an incident: upstream is mended, or it was no fault (`is_genuine`)."""
    incident = incidents.resolve(
        work,
        actor,
        name,
        incident_id,
        reason=body.reason,
        is_genuine=body.is_genuine,
        now=now(),
    )
    return answer(incidents.shown(name, incident))
