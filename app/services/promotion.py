"""May the challenger take the champion's place? The switch is one guarded transaction."""

from collections.abc import Sequence
from uuid import UUID

from app.domain.errors import Conflict, Fault, Invalid, StaleVerdict
from app.domain.evaluation import Evidence
from app.domain.models import MaintainedModel
from app.domain.promotion import Verdict
from app.domain.versions import ModelVersion, VersionEvent, VersionState
from app.services.documents import document
from app.services.ports import Actor, UnitOfWork


def conclude(
    work: UnitOfWork,
    model: MaintainedModel,
    challenger: ModelVersion,
    evidence: Evidence,
    verdicts: Sequence[Verdict],
) -> str:
    """Promote a challenger if every gate lets it pass, reject it otherwise; transaction is open.

    Raises:
        StaleVerdict: the champion it was compared with has since been replaced.
    """
    champion = work.versions.lock_champion(model.id)
    _check_fresh(challenger, evidence.champion_id, champion)
    failed = [verdict for verdict in verdicts if not verdict.passed]
    if failed:
        reason = "; ".join(f"{verdict.gate}: {verdict.reason}" for verdict in failed)
        work.versions.advance(challenger, VersionEvent.REJECTED, actor="upkeep", reason=reason)
        _tell(work, model, challenger, "rejected", "upkeep", reason, verdicts)
        return "rejected"
    reason = "; ".join(f"{verdict.gate}: {verdict.reason}" for verdict in verdicts)
    _switch(work, challenger, champion, VersionEvent.PROMOTED, "upkeep", reason)
    _tell(work, model, challenger, "promoted", "upkeep", reason, verdicts)
    return "promoted"


def _check_fresh(
    challenger: ModelVersion, judged_against: UUID | None, champion: ModelVersion | None
) -> None:
    present = champion.id if champion else None
    if judged_against != present:
        raise StaleVerdict(
            f"version {challenger.number} was judged against another champion than the present "
            f"one ({f'version {champion.number}' if champion else 'none'}); judge it again"
        )


def _switch(
    work: UnitOfWork,
    successor: ModelVersion,
    champion: ModelVersion | None,
    event: VersionEvent,
    actor: str,
    reason: str,
) -> ModelVersion:
    if champion is not None:
        work.versions.advance(
            champion,
            VersionEvent.SUPERSEDED,
            actor=actor,
            reason=f"version {successor.number} took its place",
        )
    return work.versions.advance(successor, event, actor=actor, reason=reason)


def promote(
    work: UnitOfWork,
    actor: Actor,
    name: str,
    number: int,
    *,
    reason: str,
    force: bool,
    judged_against: int | None,
) -> ModelVersion:
    """Make a version the champion because a person says so.

    Without force it must be a challenger whose gates all passed against the present champion;
    with force any loaded version may take over, and the audit says who forced it.

    Raises:
        NotFound: no such model or version.
        Conflict: it is champion already, its gates did not pass, or its state forbids it.
        StaleVerdict: the champion is not the one it was judged against.
    """
    _need_reason(reason)
    with work:
        model = work.models.get(name, actor.project_id)
        champion = work.versions.lock_champion(model.id)
        version = work.versions.get(model.id, number)
        if judged_against is not None and judged_against != (champion.number if champion else 0):
            raise StaleVerdict(
                f"you judged against version {judged_against}, but the champion is "
                f"{f'version {champion.number}' if champion else 'none'}; look again"
            )
        if champion is not None and champion.id == version.id:
            raise Conflict(f"version {number} is the champion already")
        if not force:
            _check_passed(work, version, champion)
        event = VersionEvent.FORCED if force else VersionEvent.PROMOTED
        promoted = _switch(work, version, champion, event, actor.name, reason)
        _tell(work, model, promoted, f"{event}", actor.name, reason, ())
        return promoted


def _check_passed(work: UnitOfWork, version: ModelVersion, champion: ModelVersion | None) -> None:
    evidence = work.versions.evidence(version.id)
    if version.state is not VersionState.CHALLENGER or not evidence:
        raise Conflict(
            f"version {version.number} is {version.state}, not a challenger whose gates passed; "
            "send force with a reason to promote it all the same"
        )
    newest = evidence[-1]
    _check_fresh(version, newest["champion_id"], champion)
    if not all(verdict["passed"] for verdict in newest["verdicts"]):
        raise Conflict(
            f"version {version.number} did not pass its gates; send force with a reason to "
            "promote it all the same"
        )


def roll_back(
    work: UnitOfWork, actor: Actor, name: str, *, to: int | None, reason: str
) -> ModelVersion:
    """Put an earlier version back in charge; the present champion is quarantined.

    Raises:
        NotFound: no such model or version.
        Conflict: there is no earlier champion to go back to, or it never served.
    """
    _need_reason(reason)
    with work:
        model = work.models.get(name, actor.project_id)
        champion = work.versions.lock_champion(model.id)
        if champion is None:
            raise Conflict("there is no champion to roll back from; promote a version first")
        target = _rollback_target(work, model, champion, to)
        work.versions.advance(champion, VersionEvent.ROLLED_BACK, actor=actor.name, reason=reason)
        restored = work.versions.advance(
            target, VersionEvent.RESTORED, actor=actor.name, reason=reason
        )
        _tell(work, model, champion, "rolled_back", actor.name, reason, (), to=target.number)
        return restored


def _rollback_target(
    work: UnitOfWork, model: MaintainedModel, champion: ModelVersion, to: int | None
) -> ModelVersion:
    if to is not None:
        target = work.versions.get(model.id, to)
        if target.id == champion.id:
            raise Conflict(f"version {to} is the champion already")
        if target.state not in {VersionState.SUPERSEDED, VersionState.QUARANTINED}:
            raise Conflict(f"version {to} is {target.state} and never served; promote it instead")
        return target
    served = [
        move.version_id
        for move in work.versions.transitions(model.id)
        if move.after is VersionState.CHAMPION and move.version_id != champion.id
    ]
    for version_id in reversed(served):
        target = work.versions.by_id(version_id)
        if target.state is VersionState.SUPERSEDED:
            return target
    raise Conflict("no earlier version served and is not quarantined; name one with `to`")


def _need_reason(reason: str) -> None:
    if not reason.strip():
        raise Invalid("a reason is needed", [Fault("/reason", "say why, for the audit")])


def _tell(
    work: UnitOfWork,
    model: MaintainedModel,
    version: ModelVersion,
    event: str,
    actor: str,
    reason: str,
    verdicts: Sequence[Verdict],
    **more: int,
) -> None:
    work.events.record(
        f"model_version.{event}",
        actor=actor,
        subject=model.name,
        project_id=model.project_id,
        model_id=model.id,
        detail={
            "version": version.number,
            "reason": reason,
            "verdicts": document(list(verdicts)),
            **more,
        },
    )


def adopt(
    work: UnitOfWork, model: MaintainedModel, version: ModelVersion, champion: ModelVersion | None
) -> ModelVersion:
    """Make an imported, loaded version the champion, in an open transaction."""
    reason = "imported to be adopted, and loaded once in a worker"
    adopted = _switch(work, version, champion, VersionEvent.PROMOTED, "upkeep", reason)
    _tell(work, model, adopted, "promoted", "upkeep", reason, ())
    return adopted
