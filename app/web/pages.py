"""The pages: a list of models, and one model's story."""

from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode
from uuid import UUID

from fastapi import APIRouter, FastAPI, Header, Query
from fastapi.responses import HTMLResponse, JSONResponse, Response

from app.domain.identity import new_id
from app.services import cards, keys
from app.services.ports import Json, Page
from app.web import actions, signing_in
from app.web.context import Reader, Visitor, Work
from app.web.guard import PageRoute
from app.web.templating import ETAGS, STATIC, page, render
from app.web.views import course, fleet, live, overview, record, story

router = APIRouter(route_class=PageRoute, include_in_schema=False)

EVIDENTLY_POLICY = (
    "sandbox allow-scripts; default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "connect-src 'none'"
)
"""Evidently's page brings its own scripts: it may run them, but as nobody."""


def mount(api: FastAPI) -> None:
    """Add the pages to the API's app."""
    api.include_router(router)
    api.include_router(actions.router)
    api.include_router(signing_in.router)


@router.get("/")
def list_models(
    visitor: Reader, work: Work, cursor: Annotated[str | None, Query()] = None
) -> HTMLResponse:
    """Show all models at a glance."""
    rows, next_cursor = overview(work, visitor.actor, Page(50, cursor))
    older = f"?{urlencode({'cursor': next_cursor})}" if next_cursor else None
    values = {"visitor": visitor, "rows": rows, "older": older, "fleet": fleet(work)}
    return page("overview.html", values)


@router.get("/models/{name}")
def show_model(
    name: str,
    visitor: Reader,
    work: Work,
    bucket: Annotated[int | None, Query(ge=10, le=1_000_000)] = None,
    outcome: Annotated[Literal["retrain", "defer", "skip"] | None, Query()] = None,
    decisions: Annotated[str | None, Query()] = None,
    versions: Annotated[str | None, Query()] = None,
    done: Annotated[str | None, Query()] = None,
) -> HTMLResponse:
    """Show one model's story: what it sees, what was concluded, and what became of it."""
    older = {"decisions": decisions, "versions": versions}
    told = story(work, visitor.actor, name, bucket=bucket, outcome=outcome, older=older)
    _, stamp = live(work, visitor.actor, name)
    values = {
        **told,
        **_around(visitor, name),
        "stamp": stamp,
        "done": actions.DONE.get(done or ""),
        "kept": {"bucket": bucket, "outcome": outcome, **older},
    }
    return page("model.html", values)


def _around(visitor: Visitor, name: str) -> Json:
    base = f"/models/{quote(name)}"
    return {
        "visitor": visitor,
        "base": base,
        "api": f"/v1{base}",
        "may_operate": visitor.may(keys.OPERATE),
        "may_approve": visitor.may(keys.APPROVE),
        "nonce": new_id(),
        "link": lambda kept, **changed: _link(base, {**kept, **changed}),
    }


def _link(base: str, query: dict[str, Any]) -> str:
    given = {key: value for key, value in query.items() if value is not None}
    return f"{base}?{urlencode(given)}" if given else base


@router.get("/models/{name}/live")
def show_live(name: str, visitor: Reader, work: Work) -> JSONResponse:
    """Return the run in flight as HTML, and a stamp that changes with the rest of the story."""
    run, stamp = live(work, visitor.actor, name)
    values = {**_around(visitor, name), "run": run}
    return JSONResponse(
        {"stamp": stamp, "is_running": run is not None, "run": render("_run.html", values)}
    )


@router.get("/models/{name}/reports/{report_id}/evidently")
def show_evidently(name: str, report_id: UUID, visitor: Reader, work: Work) -> Response:
    """Return the Evidently page of a drift report."""
    with work:
        model = work.models.get(name, visitor.actor.project_id)
        body = work.checks.report_html(report_id, model.id)
    headers = {
        "Content-Encoding": "gzip",
        "Content-Security-Policy": EVIDENTLY_POLICY,
        "Cache-Control": "private, max-age=31536000, immutable",
    }
    return Response(body, media_type="text/html; charset=utf-8", headers=headers)


@router.get("/models/{name}/records/{kind}/{record_id}")
def show_record(
    name: str,
    kind: Literal["decisions", "reports", "incidents", "runs"],
    record_id: UUID,
    visitor: Reader,
    work: Work,
) -> HTMLResponse:
    """Show one record in full, as the API gives it."""
    told = record(work, visitor.actor, name, kind, record_id)
    values = {**_around(visitor, name), "name": name, "what": f"{kind[:-1]} {record_id}"}
    curves = course(work, visitor.actor, name, record_id) if kind == "runs" else ()
    return page("record.html", {**values, "body": told, "curves": curves})


@router.get("/models/{name}/versions/{number}/card")
def show_card(name: str, number: int, visitor: Reader, work: Work) -> HTMLResponse:
    """Show the model card of a version."""
    with work:
        model = work.models.get(name, visitor.actor.project_id)
        body = cards.card(work, model, work.versions.get(model.id, number))
    values = {**_around(visitor, name), "name": name, "what": f"card of version {number}"}
    return page("card.html", {**values, "body": body})


@router.get("/models/{name}/policy")
def show_policy(name: str, visitor: Reader, work: Work) -> HTMLResponse:
    """Show the policy in force in full."""
    with work:
        model = work.models.get(name, visitor.actor.project_id)
    values = {**_around(visitor, name), "name": name, "what": f"policy {model.policy_version}"}
    return page("record.html", {**values, "body": model.policy})


@router.get("/audit")
def show_audit(
    visitor: Reader,
    work: Work,
    model: Annotated[str | None, Query()] = None,
    cursor: Annotated[str | None, Query()] = None,
) -> HTMLResponse:
    """Show who changed what, when and why."""
    with work:
        actor = visitor.actor
        model_id = work.models.get(model, actor.project_id).id if model else None
        listed = work.events.listed(actor.project_id, Page(50, cursor), model_id=model_id)
    older = {"model": model, "cursor": listed.next_cursor} if listed.next_cursor else None
    values = {
        "visitor": visitor,
        "model": model,
        "entries": listed.items,
        "older": _link("/audit", older) if older else None,
    }
    return page("audit.html", values)


@router.get("/static/{file}")
def get_static(
    file: str,
    v: Annotated[str | None, Query()] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Return a style sheet, script or picture; for good when its address names its content."""
    if file not in STATIC:
        return Response(status_code=404)
    is_pinned = v == ETAGS[file]
    headers = {
        "ETag": f'"{ETAGS[file]}"',
        "Cache-Control": f"public, max-age={'31536000, immutable' if is_pinned else '300'}",
    }
    if if_none_match is not None and headers["ETag"] in if_none_match:
        return Response(status_code=304, headers=headers)
    body, media_type = STATIC[file]
    return Response(body, media_type=media_type, headers=headers)
