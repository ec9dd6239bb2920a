"""What the pages tell, gathered from the ports: all models, and one model's story."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from app.domain.identity import content_hash
from app.domain.incidents import Incident
from app.domain.models import MaintainedModel
from app.domain.training import RunState, TrainingRun
from app.domain.versions import ModelVersion, Transition, VersionState
from app.services import observations, performance, queueing, versions
from app.services.documents import document
from app.services.ports import Actor, Json, Listed, Page, UnitOfWork
from app.web import bars, curves
from app.web.chart import Chart, Happening, bucket_size, draw, sequence_at

ALIVE_SECONDS: Final = 20.0
_N_HISTOGRAMS = 9
_N_REPORTS, _N_DECISIONS, _N_VERSIONS, _N_RUNS, _N_STARTS = 100, 10, 10, 6, 50

_MOVES: Final[Mapping[str, tuple[str, str]]] = {
    "promoted": ("promoted", "promoted"),
    "forced": ("promoted", "promoted by force"),
    "restored": ("rolled_back", "put back in charge"),
    "rejected": ("rejected", "rejected"),
}
"""The kind of mark and the words for a version's move; other moves follow from these."""


def overview(work: UnitOfWork, actor: Actor, page: Page) -> tuple[list[Json], str | None]:
    """Return a row for each model, and where the next page of them starts."""
    with work:
        listed = work.models.listed(actor.project_id, page)
        return [_row(work, model) for model in listed.items], listed.next_cursor


def _row(work: UnitOfWork, model: MaintainedModel) -> Json:
    champion = work.versions.champion(model.id)
    run = work.runs.in_flight(model.id)
    watch = work.models.watch(model.id)
    report = next(iter(work.checks.reports(model.id, Page(1)).items), None)
    return {
        "name": model.name,
        "task_type": model.task_type,
        "measure": model.answer.measure,
        "champion": champion,
        "report": _of_champion(report, champion),
        "performance": performance_of(report, champion),
        "run": progress_of(run),
        "watch": watch,
        "state": state_of(model, champion, run, watch, work.incidents.standing(model.id)),
    }


def _of_champion(report: Json | None, champion: ModelVersion | None) -> Json | None:
    """Return a report if it is about the version that is in charge now."""
    is_its = report is not None and champion and report["version"] == champion.number
    return report if is_its else None


def performance_of(report: Json | None, champion: ModelVersion | None) -> Json:
    """Return what the labels say of the champion, else what it was accepted with."""
    found = _of_champion(report, champion)
    if found and found["performance"] and found["performance"]["accuracy"] is not None:
        return {"errors": {}, **found["performance"], "source": "labels"}
    accepted = champion.accepted if champion else {}
    if accepted.get("accuracy") is None:
        return {"source": None, "accuracy": None, "n": 0, "floor": None, "errors": {}}
    return {
        "source": accepted.get("role", "holdout"),
        "accuracy": accepted["accuracy"],
        "n": accepted.get("n", 0),
        "floor": None,
        "errors": {},
    }


def state_of(
    model: MaintainedModel,
    champion: ModelVersion | None,
    run: TrainingRun | None,
    watch: Mapping[str, Any],
    incidents: Sequence[Incident] = (),
) -> str:
    """Return in a word or two what is going on with a model."""
    if run is not None:
        return "training"
    if incidents:
        return "broken input"
    if model.is_paused:
        return "paused"
    if watch["is_checking"]:
        return "checking"
    return "watching" if champion else "waiting"


def placed(work: UnitOfWork, run: TrainingRun | None) -> Json | None:
    """Return a run as the pages show it, with its place in the queue; in an open transaction."""
    shown = progress_of(run)
    if run is None or shown is None:
        return None
    return {**shown, "queue": queueing.places(work, [run]).get(run.id)}


def progress_of(run: TrainingRun | None) -> Json | None:
    """Return a run as the pages show it, with the share of its steps that are done."""
    if run is None:
        return None
    progress = dict(run.progress or {}) if run.state is not RunState.QUEUED else {}
    total = progress.get("total_steps")
    is_judged = run.state is RunState.TRAINED
    return {
        "id": run.id,
        "state": run.state.value,
        "says": "being judged" if is_judged else run.state.value,
        "reason": run.reason,
        "actor": run.actor,
        "attempt": run.attempt,
        "priority": run.priority,
        "device": run.device,
        "start_from": run.spec.start_from,
        "version": run.version_number,
        "outcome": run.outcome,
        "error": run.error,
        "result": run.result,
        "decision": run.decision_id,
        "progress": progress,
        "share": 1.0 if is_judged else progress.get("step", 0) / total if total else None,
        "queued_at": run.queued_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "cancel_requested_at": run.cancel_requested_at,
    }


def live(work: UnitOfWork, actor: Actor, name: str) -> tuple[Json | None, str]:
    """Return the run in flight, and a stamp that changes when the page would tell another story."""
    with work:
        model = work.models.get(name, actor.project_id)
        run = work.runs.in_flight(model.id)
        newest = work.runs.newest(model.id)
        champion = work.versions.champion(model.id)
        reports = work.checks.reports(model.id, Page(1)).items
        decided = work.decisions.listed(model.id, Page(1)).items
        told = [
            str(champion.id) if champion else None,
            [str(newest.id), newest.state, str(newest.version_number)] if newest else None,
            [str(item["id"]) for item in (*reports, *decided)],
            list(work.observations.horizon(model.id)),
            [model.is_paused, model.policy_version],
            [[str(one.id), one.state] for one in work.incidents.standing(model.id)],
        ]
        shown = placed(work, run)
    return shown, content_hash(told)[:16]


def story(
    work: UnitOfWork,
    actor: Actor,
    name: str,
    *,
    bucket: int | None = None,
    outcome: str | None = None,
    older: Mapping[str, str | None] | None = None,
) -> Json:
    """Return everything that one model's page tells.

    Args:
        work: a unit of work, opened here.
        actor: who looks.
        name: of the model.
        bucket: observations a point of the chart stands for; None = what fits.
        outcome: show only decisions with this outcome.
        older: cursors of the page's lists, by "decisions" and "versions".

    Raises:
        NotFound: no such model.
    """
    cursors = older or {}
    with work:
        model = work.models.get(name, actor.project_id)
        champion = work.versions.champion(model.id)
        run = work.runs.in_flight(model.id)
        watch = work.models.watch(model.id)
        reports = work.checks.reports(model.id, Page(_N_REPORTS)).items
        newest = reports[0] if reports else None
        decided = work.decisions.listed(
            model.id, Page(_N_DECISIONS, cursors.get("decisions")), outcome=outcome
        )
        listed = work.versions.listed(model.id, Page(_N_VERSIONS, cursors.get("versions")))
        runs = work.runs.listed(model.id, Page(_N_RUNS)).items
        performance = performance_of(newest, champion)
        incidents = work.incidents.standing(model.id)
        return {
            "model": model,
            "measure": model.answer.measure,
            "incidents": incidents,
            "state": state_of(model, champion, run, watch, incidents),
            "champion": champion,
            "watch": watch,
            "performance": performance,
            "label_lag": observations.expected_lag(
                work, model.id, champion.number if champion else None, datetime.now(UTC)
            ),
            "report": newest,
            "is_report_current": _of_champion(newest, champion) is not None,
            "scores": ranked(newest["scores"]) if newest else [],
            "moved": _moved(work, newest, model.id),
            "reports": reports[:8],
            "run": placed(work, run),
            "runs": [progress_of(one) for one in runs],
            "decisions": decided,
            "outcome": outcome,
            "versions": Listed([_version(work, model, one) for one in listed.items],
                               listed.next_cursor),
            "choices": choices(work.versions.listed(model.id, Page(50)).items, champion),
            "chart": _chart(work, model, watch, reports, performance["floor"], bucket),
        }  # fmt: skip


def _moved(work: UnitOfWork, report: Json | None, model_id: UUID) -> Json:
    """Return drawings of what moved most in a report, its strangest rows and their classes."""
    found = work.checks.report_moved(report["id"], model_id) if report else {}
    histograms = found.get("histograms", {})  # in no order of their own, as Postgres keeps them
    shown = as_ranked(histograms, report["scores"] if report else ())[:_N_HISTOGRAMS]
    return {
        "bars": [bars.drawn(name, histograms[name]) for name in shown],
        "exemplars": found.get("exemplars", ()),
        "classes": found.get("classes", {}),
    }


def ranked(scores: Sequence[Json]) -> list[Json]:
    """Return scores with the drifted ones first, then by how far they moved."""
    return sorted(scores, key=lambda score: (not score["drifted"], -(score["effect"] or 0.0)))


def as_ranked(names: Iterable[str], scores: Sequence[Json]) -> list[str]:
    """Return names of signals, or of a part of one ("scores of cat"), as their scores rank."""
    places = {score["feature"]: place for place, score in enumerate(ranked(scores))}

    def place_of(name: str) -> int:
        return places.get(name, places.get(name.partition(" of ")[0], len(places)))

    return sorted(names, key=lambda name: (place_of(name), name))


def choices(
    listed: Sequence[ModelVersion], champion: ModelVersion | None
) -> Mapping[str, Sequence[ModelVersion]]:
    """Return which versions may be promoted, and which rolled back to."""
    others = [one for one in listed if champion is None or one.id != champion.id]
    can_rise = {VersionState.CHALLENGER, VersionState.REJECTED, VersionState.SUPERSEDED}
    can_return = {VersionState.SUPERSEDED, VersionState.QUARANTINED}
    return {
        "promote": [one for one in others if one.state in can_rise],
        "rollback": [one for one in others if champion and one.state in can_return],
    }


def is_share(model: MaintainedModel) -> bool:
    """Return whether the objective's metric is a share, which is shown in percent."""
    return bool(model.answer.labels)


def _version(work: UnitOfWork, model: MaintainedModel, version: ModelVersion) -> Json:
    shown = versions.shown(work, model, version)
    newest = shown["evidence"][-1] if shown["evidence"] else None
    return {
        **shown,
        "is_share": is_share(model),
        "size_bytes": sum(file["size_bytes"] for file in shown["files"]),
        "comparisons": newest["comparisons"] if newest else [],
        "why": shown["history"][-1] if shown["history"] else None,
    }


def _chart(
    work: UnitOfWork,
    model: MaintainedModel,
    watch: Mapping[str, Any],
    reports: Sequence[Json],
    floor: float | None,
    bucket: int | None,
) -> Chart | None:
    chosen = bucket or bucket_size(min(watch["n_observations"], performance.MOST_SHOWN))
    moves = work.versions.transitions(model.id)
    reigns = [move.number for move in moves if move.after is VersionState.CHAMPION]
    starts = work.decisions.listed(model.id, Page(_N_STARTS), outcome="retrain").items
    return draw(
        performance.timeline(work, model, chosen),
        happenings(work, model.id, moves, reports, starts),
        bucket=chosen,
        first_version=reigns[0] if reigns else 1,
        lowest_tolerated=floor,
    )


def happenings(
    work: UnitOfWork,
    model_id: UUID,
    moves: Sequence[Transition],
    reports: Sequence[Json],
    starts: Sequence[Json],
) -> list[Happening]:
    """Return what the chart marks, each with the newest observation of its time.

    Reports say which observation was the newest when; a version's reign begins with the first
    observation it answered, as the reports about it say.
    """
    known = {report["id"]: report for report in reports}
    told_by = [one["report"] for one in starts if one["report"] and one["report"] not in known]
    known |= {report_id: work.checks.report(report_id, model_id) for report_id in told_by}
    ordered = sorted(known.values(), key=lambda report: report["created_at"])
    seen = [one for one in ordered if one["window"].get("last_sequence")]
    anchors = [(one["created_at"], int(one["window"]["last_sequence"])) for one in seen]
    found = [*_onsets(ordered, anchors), *_starts(starts, anchors), *_moves(moves, seen, anchors)]
    return sorted(found, key=lambda one: one.at)


def _onsets(reports: Sequence[Json], anchors: Sequence[tuple[datetime, int]]) -> list[Happening]:
    found, before = [], None
    for report in reports:
        state = (report["finding"], report["version"])
        if report["finding"] == "drift" and state != before:
            drifted = [score["feature"] for score in report["scores"] if score["drifted"]]
            text = f"drift detected in {', '.join(drifted[:4])}"
            text += f" and {len(drifted) - 4} more" if len(drifted) > 4 else ""
            at = report["created_at"]
            found.append(Happening("drift", at, sequence_at(anchors, at), text, href="#finding"))
        before = state
    return found


def _starts(starts: Sequence[Json], anchors: Sequence[tuple[datetime, int]]) -> list[Happening]:
    return [
        Happening(
            "run",
            one["created_at"],
            sequence_at(anchors, one["created_at"]),
            f"run started ({one['trigger']}): {one['reason']}",
            href=f"#decision-{one['id']}",
        )
        for one in starts
    ]


def _moves(
    moves: Sequence[Transition], reports: Sequence[Json], anchors: Sequence[tuple[datetime, int]]
) -> list[Happening]:
    found = []
    for move in moves:
        if move.event.value not in _MOVES:
            continue
        kind, words = _MOVES[move.event.value]
        sequence = sequence_at(anchors, move.at)
        if kind != "rejected":
            sequence = max(sequence, _first_answered(move, reports) - 1)
        text = f"version {move.number} {words}"
        href = f"#version-{move.number}"
        found.append(Happening(kind, move.at, sequence, text, move.number, href))
    return found


def _first_answered(move: Transition, reports: Sequence[Json]) -> int:
    for report in reports:
        if report["created_at"] >= move.at and report["version"] == move.number:
            return int(report["window"]["first_sequence"])
    return 0


def record(work: UnitOfWork, actor: Actor, name: str, kind: str, record_id: UUID) -> Json:
    """Return a decision, report, incident or run in full.

    Raises:
        NotFound: this model has no such record.
    """
    with work:
        model = work.models.get(name, actor.project_id)
        if kind == "decisions":
            found: Any = work.decisions.get(record_id, model.id)
        elif kind == "reports":
            found = work.checks.report(record_id, model.id)
        elif kind == "incidents":
            found = work.incidents.get(record_id, model.id)
        else:
            found = work.runs.get(record_id, model.id)
    whole: Json = document(found)
    return whole


def course(work: UnitOfWork, actor: Actor, name: str, run_id: UUID) -> list[curves.Curve]:
    """Return drawings of how a run went.

    Raises:
        NotFound: this model has no such run.
    """
    with work:
        model = work.models.get(name, actor.project_id)
        return curves.drawn(work.runs.history(work.runs.get(run_id, model.id).id))


def fleet(work: UnitOfWork) -> Mapping[str, int]:
    """Return how many processes of each kind are alive."""
    with work:
        alive = [one["kind"] for one in work.plugins.alive(seconds=ALIVE_SECONDS)]
    return {kind: alive.count(kind) for kind in ("worker", "scheduler")}
