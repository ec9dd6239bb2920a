"""What a person can do from a page: the same use cases as over REST, each with a reason."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Form
from fastapi.responses import RedirectResponse

from app.domain.errors import Fault, Invalid
from app.services import decisions, drift, incidents, models, promotion, training
from app.services.clock import now
from app.web.context import Approver, Operator, Work
from app.web.guard import PageRoute

DONE: Final[Mapping[str, str]] = {
    "check": "A check was asked for; its finding appears here when it is done.",
    "retrain": "A training run is queued.",
    "pause": "Paused: observations still come in, but nothing starts by itself.",
    "resume": "Resumed: it decides by itself again.",
    "rollback": "Rolled back. The version that was in charge is quarantined.",
    "promote": "Promoted.",
    "cancel": "The run is being stopped.",
    "acknowledge": "Acknowledged: the incident goes on blocking until it is resolved.",
    "resolve": "Resolved; a check follows.",
}
"""What a page says after an action."""

Reason = Annotated[str, Form(max_length=2000)]


router = APIRouter(prefix="/models/{name}", route_class=PageRoute, include_in_schema=False)


def _said(reason: str) -> str:
    if not reason.strip():
        raise Invalid("a reason is needed", [Fault("reason", "say why, for the audit")])
    return reason.strip()


def _done(name: str, what: str) -> RedirectResponse:
    return RedirectResponse(f"/models/{quote(name)}?done={what}", 303)


@router.post("/check")
def check(name: str, visitor: Operator, work: Work) -> RedirectResponse:
    """Ask for a look at the model now."""
    drift.request_check(work, visitor.actor, name)
    return _done(name, "check")


@router.post("/retrain")
def retrain(
    name: str,
    visitor: Operator,
    work: Work,
    reason: Reason = "",
    start_from: Annotated[Literal["champion", "base"], Form()] = "champion",
    nonce: Annotated[str, Form(max_length=100)] = "",
    force: Annotated[bool, Form()] = False,
) -> RedirectResponse:
    """Start a training run; the same form sent twice starts one."""
    asked = training.Request(_said(reason), start_from, is_forced=force)
    key = f"page:{nonce}" if nonce else None
    decisions.retrain(work, visitor.actor, name, asked, key=key, now=now())
    return _done(name, "retrain")


@router.post("/runs/{run_id}/cancel")
def cancel(
    name: str, run_id: UUID, visitor: Operator, work: Work, reason: Reason = ""
) -> RedirectResponse:
    """Stop a run."""
    training.cancel(work, visitor.actor, name, run_id, reason=_said(reason))
    return _done(name, "cancel")


@router.post("/incidents/{incident_id}/acknowledge")
def acknowledge(
    name: str, incident_id: UUID, visitor: Operator, work: Work, reason: Reason = ""
) -> RedirectResponse:
    """Say that somebody looks after an incident."""
    incidents.acknowledge(work, visitor.actor, name, incident_id, reason=_said(reason))
    return _done(name, "acknowledge")


@router.post("/incidents/{incident_id}/resolve")
def resolve(
    name: str,
    incident_id: UUID,
    visitor: Operator,
    work: Work,
    reason: Reason = "",
    is_genuine: Annotated[bool, Form()] = False,
) -> RedirectResponse:
    """End an incident."""
    incidents.resolve(
        work,
        visitor.actor,
        name,
        incident_id,
        reason=_said(reason),
        is_genuine=is_genuine,
        now=now(),
    )
    return _done(name, "resolve")


@router.post("/pause")
def pause(name: str, visitor: Operator, work: Work, reason: Reason = "") -> RedirectResponse:
    """Stop deciding by itself."""
    models.set_paused(work, visitor.actor, name, is_paused=True, reason=_said(reason))
    return _done(name, "pause")


@router.post("/resume")
def resume(name: str, visitor: Operator, work: Work, reason: Reason = "") -> RedirectResponse:
    """Go on deciding by itself."""
    models.set_paused(work, visitor.actor, name, is_paused=False, reason=_said(reason))
    return _done(name, "resume")


@router.post("/rollback")
def roll_back(
    name: str,
    visitor: Approver,
    work: Work,
    reason: Reason = "",
    to: Annotated[int | None, Form()] = None,
) -> RedirectResponse:
    """Put an earlier version back in charge."""
    promotion.roll_back(work, visitor.actor, name, to=to, reason=_said(reason))
    return _done(name, "rollback")


@router.post("/promote")
def promote(
    name: str,
    visitor: Approver,
    work: Work,
    number: Annotated[int, Form()],
    reason: Reason = "",
    force: Annotated[bool, Form()] = False,
    judged_against: Annotated[int | None, Form()] = None,
) -> RedirectResponse:
    """Make a version the champion, as judged against the champion that the page showed."""
    promotion.promote(
        work,
        visitor.actor,
        name,
        number,
        reason=_said(reason),
        force=force,
        judged_against=judged_against,
    )
    return _done(name, "promote")
