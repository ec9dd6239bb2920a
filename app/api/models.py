"""Models over REST: register, read, change the policy, pause."""

from typing import Annotated

from fastapi import APIRouter, Body
from fastapi.responses import JSONResponse

from app.api.context import Operator, Paged, Reader, Work, answer, listing, now
from app.api.schemas import (
    Document,
    FieldBody,
    LabelSetBody,
    Listing,
    ModelAnswer,
    NewModelBody,
    ObjectiveBody,
    PolicyAnswer,
    ReasonBody,
    RetentionAnswer,
)
from app.domain.answers import Answer, Number
from app.domain.models import MaintainedModel, Objective
from app.domain.observations import ContractField, FieldType, time_text
from app.domain.privacy import Privacy
from app.gates import gates
from app.services import incidents, models, retention
from app.services.ports import Json, UnitOfWork
from app.triggers import triggers

router = APIRouter(prefix="/v1", tags=["models"])


def shown(work: UnitOfWork, model: MaintainedModel) -> Json:
    """Return a model as the API shows it, in an open transaction."""
    champion = work.versions.champion(model.id)
    return {
        "id": model.id,
        "name": model.name,
        "task_type": model.task_type,
        "base_model": model.base_model,
        "labels": model.labels,
        "answers": model.answer.kind,
        "target": _target(model.answer),
        "input_contract": {"fields": [_field(field) for field in model.contract.fields]},
        "objective": model.objective,
        "measured_baseline": model.measured_baseline,
        "policy": {"version": model.policy_version, "document": model.policy},
        "is_paused": model.is_paused,
        "champion": champion.number if champion else None,
        "created_at": model.created_at,
        "watch": work.models.watch(model.id),
        "incidents": [
            incidents.shown(model.name, one) for one in work.incidents.standing(model.id)
        ],
    }


def _target(answer: Answer) -> Json | None:
    if not isinstance(answer, Number):
        return None
    bounds = {"min": answer.minimum, "max": answer.maximum}
    return {"unit": answer.unit, **bounds, "scale": answer.scale}


def _field(field: ContractField) -> Json:
    bounds: tuple[float | str | None, ...] = (field.minimum, field.maximum)
    if field.type is FieldType.DATETIME:
        bounds = tuple(None if b is None else time_text(b) for b in field.microsecond_bounds)
    return {
        "name": field.name,
        "type": field.type,
        "required": field.is_required,
        "min": bounds[0],
        "max": bounds[1],
        "categories": field.categories,
        "max_length": field.maximum_length,
        "dimension": field.dimension,
        "privacy": field.privacy,
    }


def _contract_field(stated: FieldBody) -> ContractField:
    minimum, maximum = stated.bounds
    return ContractField(
        name=stated.name,
        type=FieldType(stated.type),
        is_required=stated.required,
        minimum=minimum,
        maximum=maximum,
        categories=stated.categories,
        maximum_length=stated.max_length,
        dimension=stated.dimension,
        privacy=Privacy(stated.privacy) if stated.privacy else None,
    )


def _objective(stated: ObjectiveBody) -> Objective:
    """Return an objective whose metric and direction are empty where nobody stated them."""
    whole = stated.model_dump()
    left_out = {"metric", "direction"} - stated.model_fields_set
    return Objective(**whole | dict.fromkeys(left_out, ""))


@router.post("/models", status_code=201, response_model=ModelAnswer)
def create_model(body: NewModelBody, actor: Operator, work: Work) -> JSONResponse:
    """Register a model to be maintained."""
    stated = body.input_contract.fields if body.input_contract else ()
    target = body.target
    new = models.NewModel(
        name=body.name,
        task_type=body.task_type,
        base_model=body.base_model,
        labels=body.labels,
        contract=[_contract_field(field) for field in stated] or None,
        objective=_objective(body.objective),
        policy=body.policy,
        target=Number(target.unit, target.min, target.max, target.scale) if target else None,
    )
    model = models.create(work, actor, new, now=now())
    with work:
        return answer(shown(work, model), 201, {"Location": f"/v1/models/{model.name}"})


@router.get("/models", response_model=Listing)
def list_models(actor: Reader, work: Work, page: Paged) -> JSONResponse:
    """List the models of the caller's project."""
    with work:
        listed = work.models.listed(actor.project_id, page)
        return listing(listed, lambda model: shown(work, model))


@router.get("/models/{name}", response_model=ModelAnswer)
def get_model(name: str, actor: Reader, work: Work) -> JSONResponse:
    """Return one model, with how far its watch has come."""
    with work:
        return answer(shown(work, work.models.get(name, actor.project_id)))


@router.get("/models/{name}/policy", response_model=PolicyAnswer)
def get_policy(name: str, actor: Reader, work: Work) -> JSONResponse:
    """Return the policy in force."""
    with work:
        model = work.models.get(name, actor.project_id)
    return answer({"version": model.policy_version, "document": model.policy})


@router.patch("/models/{name}/policy", response_model=PolicyAnswer)
def change_policy(
    name: str,
    patch: Annotated[Document, Body(description="a JSON merge patch (RFC 7396)")],
    actor: Operator,
    work: Work,
) -> JSONResponse:
    """Change the policy; every change is a new version."""
    version, document = models.change_policy(work, actor, name, patch)
    return answer({"version": version, "document": document})


@router.get("/models/{name}/retention", response_model=RetentionAnswer)
def get_retention(name: str, actor: Reader, work: Work) -> JSONResponse:
    """Return what is forgotten after how many days, and what was so far."""
    with work:
        return answer(retention.shown(work, work.models.get(name, actor.project_id)))


@router.get("/models/{name}/policy/versions", response_model=Listing)
def list_policies(name: str, actor: Reader, work: Work) -> JSONResponse:
    """List every version of the policy: who changed what when."""
    with work:
        model = work.models.get(name, actor.project_id)
        versions = work.models.policy_versions(model.id)
    return answer({"items": versions, "next_cursor": None})


@router.post("/models/{name}/label-set", response_model=ModelAnswer)
def add_labels(name: str, body: LabelSetBody, actor: Operator, work: Work) -> JSONResponse:
    """Let the model know more labels; the next run learns them, and none is taken away."""
    model = models.add_labels(work, actor, name, body.add, reason=body.reason)
    with work:
        return answer(shown(work, model))


@router.post("/models/{name}/pause", response_model=ModelAnswer)
def pause(name: str, body: ReasonBody, actor: Operator, work: Work) -> JSONResponse:
    """Stop deciding by itself; ingest, reads and people's requests go on."""
    model = models.set_paused(work, actor, name, is_paused=True, reason=body.reason)
    with work:
        return answer(shown(work, model))


@router.post("/models/{name}/resume", response_model=ModelAnswer)
def resume(name: str, body: ReasonBody, actor: Operator, work: Work) -> JSONResponse:
    """Go on deciding by itself."""
    model = models.set_paused(work, actor, name, is_paused=False, reason=body.reason)
    with work:
        return answer(shown(work, model))


def _announced(work: UnitOfWork, kind: str) -> JSONResponse:
    with work:
        plugins = work.plugins.of_kind(kind)
    items = [
        {
            "name": plugin.name,
            "description": plugin.description,
            "options": plugin.options,
            **plugin.detail,
        }
        for plugin in plugins
    ]
    return answer({"items": items, "next_cursor": None})


@router.get("/task-types", response_model=Listing)
def list_task_types(actor: Reader, work: Work) -> JSONResponse:
    """List what workers announced that they can train."""
    return _announced(work, "task_type")


@router.get("/detectors", response_model=Listing)
def list_detectors(actor: Reader, work: Work) -> JSONResponse:
    """List what workers announced that they can measure with."""
    return _announced(work, "detector")


@router.get("/triggers", response_model=Listing)
def list_triggers(actor: Reader) -> JSONResponse:
    """List the reasons to retrain that a policy may name."""
    items = [
        {"name": name, "description": plugin.description, "options": plugin.options}
        for name, plugin in triggers.items()
    ]
    return answer({"items": items, "next_cursor": None})


@router.get("/gates", response_model=Listing)
def list_gates(actor: Reader) -> JSONResponse:
    """List the conditions of promotion that a policy may name."""
    items = [
        {"name": name, "description": plugin.description, "options": plugin.options}
        for name, plugin in gates.items()
    ]
    return answer({"items": items, "next_cursor": None})
