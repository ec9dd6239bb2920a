"""Checks, drift reports and decisions over REST."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from app.api.context import Operator, Paged, Reader, Work, answer, listing
from app.api.schemas import (
    AlarmsAnswer,
    CheckAnswer,
    DecisionAnswer,
    Listing,
    MovedAnswer,
    ReportAnswer,
)
from app.services import alarms, drift
from app.services.ports import Json

router = APIRouter(prefix="/v1/models/{name}", tags=["drift"])


@router.post("/checks", status_code=202, response_model=CheckAnswer)
def request_check(name: str, actor: Operator, work: Work) -> JSONResponse:
    """Ask for a look at the model now; a look that is in flight is joined."""
    check_id = drift.request_check(work, actor, name)
    url = f"/v1/models/{name}/checks/{check_id}"
    with work:
        model = work.models.get(name, actor.project_id)
        body = work.checks.get(check_id, model.id)
    return answer({**body, "url": url}, 202, {"Location": url})


@router.get("/checks/{check_id}", response_model=CheckAnswer)
def get_check(name: str, check_id: UUID, actor: Reader, work: Work) -> JSONResponse:
    """Return one check: its state, and the report and decision it left."""
    with work:
        model = work.models.get(name, actor.project_id)
        return answer(work.checks.get(check_id, model.id))


def _linked(name: str, report: Json) -> Json:
    base = f"/v1/models/{name}/reports/{report['id']}"
    links = {"html": f"{base}/evidently.html", "json": f"{base}/evidently.json"}
    return {**report, "evidently": links}


@router.get("/reports", response_model=Listing)
def list_reports(name: str, actor: Reader, work: Work, page: Paged) -> JSONResponse:
    """List drift reports, newest first."""
    with work:
        model = work.models.get(name, actor.project_id)
        return listing(work.checks.reports(model.id, page), lambda item: _linked(name, item))


@router.get("/reports/{report_id}", response_model=ReportAnswer)
def get_report(name: str, report_id: UUID, actor: Reader, work: Work) -> JSONResponse:
    """Return one drift report: its finding, every score, and what the labels say."""
    with work:
        model = work.models.get(name, actor.project_id)
        return answer(_linked(name, work.checks.report(report_id, model.id)))


@router.get("/reports/{report_id}/evidently.html", response_class=Response)
def get_report_html(
    name: str, report_id: UUID, request: Request, actor: Reader, work: Work
) -> Response:
    """Return the Evidently page of a report."""
    with work:
        model = work.models.get(name, actor.project_id)
        body = work.checks.report_html(report_id, model.id)
    headers = {
        "Content-Encoding": "gzip",
        "Content-Security-Policy": "sandbox allow-scripts; default-src 'self' 'unsafe-inline' "
        "'unsafe-eval' data: blob:; connect-src 'none'",
        "Cache-Control": "private, max-age=31536000, immutable",
    }
    return Response(body, media_type="text/html; charset=utf-8", headers=headers)


@router.get("/reports/{report_id}/evidently.json")
def get_report_json(name: str, report_id: UUID, actor: Reader, work: Work) -> JSONResponse:
    """Return the Evidently JSON of a report."""
    with work:
        model = work.models.get(name, actor.project_id)
        return answer(work.checks.report_json(report_id, model.id))


@router.get("/reports/{report_id}/moved", response_model=MovedAnswer)
def get_report_moved(name: str, report_id: UUID, actor: Reader, work: Work) -> JSONResponse:
    """Return what moved: histograms of what drifted, the strangest rows, the classes concerned."""
    with work:
        model = work.models.get(name, actor.project_id)
        work.checks.report(report_id, model.id)
        return answer(work.checks.report_moved(report_id, model.id))


@router.get("/alarms", response_model=AlarmsAnswer)
def get_alarms(name: str, actor: Reader, work: Work) -> JSONResponse:
    """Return the measured rate of false alarms of drift, as far as labels tell, and the promise."""
    with work:
        model = work.models.get(name, actor.project_id)
        return answer(alarms.shown(work, model))


@router.get("/decisions", response_model=Listing)
def list_decisions(
    name: str,
    actor: Reader,
    work: Work,
    page: Paged,
    outcome: Annotated[Literal["retrain", "skip", "defer"] | None, Query()] = None,
) -> JSONResponse:
    """List decisions, newest first: what was concluded and why."""
    with work:
        model = work.models.get(name, actor.project_id)
        return listing(work.decisions.listed(model.id, page, outcome=outcome))


@router.get("/decisions/{decision_id}", response_model=DecisionAnswer)
def get_decision(name: str, decision_id: UUID, actor: Reader, work: Work) -> JSONResponse:
    """Return one decision with everything it read."""
    with work:
        model = work.models.get(name, actor.project_id)
        return answer(work.decisions.get(decision_id, model.id))
