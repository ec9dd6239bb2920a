"""Incidents: opened and followed by checks, acknowledged and resolved by people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from app.domain.drift import DriftScore
from app.domain.fault_marks import Side
from app.domain.faults import (
    SCHEMA,
    Look,
    Place,
    Prior,
    Refusals,
    Standing,
    Table,
    look_at_columns,
    look_at_refusals,
)
from app.domain.incidents import STANDING, Incident, IncidentEvent
from app.domain.models import MaintainedModel
from app.domain.observations import Observation
from app.domain.policies import FaultPolicy
from app.domain.versions import ModelVersion
from app.services.documents import document
from app.services.ports import Actor, Json, UnitOfWork


@dataclass(frozen=True, slots=True)
class Known:
    """What a check knows of faults before it looks.

    Attributes:
        standing: the incidents that are not resolved.
        settled: what somebody said is no fault.
        refusals: what became of the observations since refusals were last judged.
    """

    standing: Sequence[Incident] = ()
    settled: frozenset[Place] = frozenset()
    refusals: Refusals = field(default_factory=Refusals)


def known_before(work: UnitOfWork, model_id: UUID, champion: ModelVersion) -> Known:
    """Return what is known of a model's faults, in an open transaction."""
    return Known(
        standing=work.incidents.standing(model_id),
        settled=frozenset(work.incidents.settled(model_id, champion.id)),
        refusals=work.incidents.refusals(model_id),
    )


def look(
    known: Known,
    reference: Mapping[str, Side],
    current: Table,
    rows: Sequence[Observation],
    prior: Prior,
    *,
    rules: FaultPolicy,
) -> Look:
    """Say which inputs of a window arrive broken, and which of the broken ones are mended.

    Args:
        known: what was known before.
        reference: the columns of the reference.
        current: the same of the window.
        rows: of the window.
        prior: which columns show which field, and what the last look saw.
        rules: the limits.
    """
    columns = look_at_columns(
        reference,
        current,
        sequences=[row.sequence for row in rows],
        prior=replace(
            prior,
            standing={
                one.place: Standing(one.last_sequence or 0, one.numbers)
                for one in known.standing
                if one.place != SCHEMA
            },
            settled=known.settled,
        ),
        rules=rules,
    )
    if SCHEMA in known.settled:
        return columns
    is_standing = any(one.place == SCHEMA for one in known.standing)
    schema = look_at_refusals(known.refusals, is_standing=is_standing, rules=rules)
    return Look([*columns.found, *schema.found], {**columns.mended, **schema.mended})


def told_apart(scores: Sequence[DriftScore], seen: Look) -> list[DriftScore]:
    """Return the scores, those of broken fields saying so and not counted as drift."""
    kinds = {str(fault.numbers.get("column")): fault for fault in seen.found}
    return [
        replace(
            score,
            drifted=False,
            detail={**score.detail, "fault": {"kind": fault.kind, "reason": fault.reason}},
        )
        if (fault := kinds.get(score.feature)) is not None
        else score
        for score in scores
    ]


MENDED: Final = "the newest rows no longer show it"


@dataclass(frozen=True, slots=True)
class Followed:
    """What stands after a check, and what ended while it looked at broken rows still."""

    standing: Sequence[Incident]
    ended: Sequence[Incident]

    @property
    def holds(self) -> list[str]:
        """What holds up a retrain, in words."""
        ended = (
            f"{one.named} has just ended; a look without its rows follows" for one in self.ended
        )
        return [*(one.says for one in self.standing), *ended]


def follow(
    work: UnitOfWork,
    model: MaintainedModel,
    champion: ModelVersion,
    seen: Look,
    known: Known,
    *,
    report_id: UUID,
    rules: FaultPolicy,
) -> Followed:
    """Open, follow and resolve incidents as a check saw them, in its transaction.

    What a person did to an incident since the check began stands.
    """
    standing = {one.place: one for one in work.incidents.standing(model.id)}
    knew = {one.place: one for one in known.standing}
    ended = [one for place, one in knew.items() if place not in standing]
    for fault in seen.found:
        before = standing.get(fault.place)
        if before is not None:
            standing[fault.place] = work.incidents.see_again(before, fault)
        elif fault.place not in knew:
            opened = work.incidents.open(model.id, champion.id, fault, report_id=report_id)
            standing[fault.place] = opened
            _tell(work, model, "incident.opened", "upkeep", opened, opened.reason)
    for place, last_sequence in seen.mended.items():
        before = standing.pop(place, None)
        if before is not None:
            last = last_sequence or before.last_sequence
            ended.append(_end(work, model, before, "upkeep", MENDED, last_sequence=last))
    came = known.refusals
    if max(came.n_refusals, came.n) >= rules.minimum_rows:
        work.incidents.judged_refusals(model.id, came)
    return Followed(list(standing.values()), [one for one in ended if one.first_sequence])


def acknowledge(
    work: UnitOfWork, actor: Actor, name: str, incident_id: UUID, *, reason: str
) -> Incident:
    """Note that somebody looks after an incident; it goes on holding up retraining.

    Raises:
        NotFound: no such incident.
        IllegalTransition: it is acknowledged or resolved already.
    """
    with work:
        model = work.models.get(name, actor.project_id)
        incident = work.incidents.advance(
            work.incidents.get(incident_id, model.id),
            IncidentEvent.ACKNOWLEDGED,
            by=actor.name,
        )
        _tell(work, model, "incident.acknowledged", actor.name, incident, reason)
        return incident


def resolve(
    work: UnitOfWork,
    actor: Actor,
    name: str,
    incident_id: UUID,
    *,
    reason: str,
    is_genuine: bool,
    now: datetime,
) -> Incident:
    """End an incident, and have the model looked at without its rows.

    Args:
        work: a unit of work, opened here.
        actor: who says so.
        name: of the model.
        incident_id: of the incident.
        reason: kept with it and in the audit.
        is_genuine: it was no fault but is how things are now: its rows count like any others, and
            the same field and kind opens no other incident under the same champion. Otherwise the
            next check opens one if the rows since still show it.
        now: the time.

    Raises:
        NotFound: no such incident.
        IllegalTransition: it is resolved already.
    """
    with work:
        model = work.models.get(name, actor.project_id)
        work.models.lock(model.id)
        incident = work.incidents.get(incident_id, model.id)
        ended = _end(work, model, incident, actor.name, reason, is_genuine=is_genuine)
        if work.versions.champion(model.id) is not None:
            work.models.look_again(model.id, now)
        return ended


def _end(
    work: UnitOfWork,
    model: MaintainedModel,
    incident: Incident,
    actor: str,
    reason: str,
    **values: Any,
) -> Incident:
    ended = work.incidents.advance(
        incident,
        IncidentEvent.RESOLVED,
        by=actor,
        resolution=reason,
        **values,
    )
    _tell(work, model, "incident.resolved", actor, ended, reason)
    return ended


def _tell(
    work: UnitOfWork,
    model: MaintainedModel,
    action: str,
    actor: str,
    incident: Incident,
    reason: str,
) -> None:
    work.events.record(
        action,
        actor=actor,
        subject=model.name,
        project_id=model.project_id,
        model_id=model.id,
        detail={
            "incident": incident.id,
            "field": incident.field,
            "kind": incident.kind,
            "is_genuine": incident.is_genuine,
            "reason": reason,
        },
    )


def shown(name: str, incident: Incident) -> Json:
    """Return an incident as the API and the pages show it."""
    body: Json = document(incident)
    hidden = {"model_id", "version_id", "report_id"}
    return {
        **{key: value for key, value in body.items() if key not in hidden},
        "report": incident.report_id,
        "blocks": ["retraining"] if incident.state in STANDING else [],
        "url": f"/v1/models/{name}/incidents/{incident.id}",
    }
