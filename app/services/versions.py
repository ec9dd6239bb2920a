"""Model versions: importing one that is already deployed, and what a version is shown as."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from app.domain.errors import Fault, Invalid, NotFound, UnsafeArtifact
from app.domain.identity import digest_of_files, new_id
from app.domain.models import MaintainedModel
from app.domain.reference import columns_shown
from app.domain.versions import ModelFile, ModelVersion, Origin, VersionEvent, VersionState
from app.services import promotion
from app.services.evaluation import keep_scale
from app.services.examples import rows_of
from app.services.ports import Actor, Artifacts, Example, Json, UnitOfWork

ALLOWED_SUFFIXES: Final = frozenset({".safetensors", ".json", ".txt", ".model", ".md"})
NEEDED_FILES: Final = ("config.json", "model.safetensors")
"""Of a task type whose workers have not said which."""
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PICKLES: Final = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")
_REFUSED: Final = "pickles can run code when loaded; convert the weights to safetensors"


def import_version(
    work: UnitOfWork,
    artifacts: Artifacts,
    actor: Actor,
    name: str,
    files: Mapping[str, bytes],
    *,
    adopt: bool,
    reference: UUID | None,
    reason: str,
    now: datetime,
) -> ModelVersion:
    """Store the files of a model that is already deployed, and ask a worker to load it once.

    With `adopt` it becomes the champion as soon as that proof of loading succeeds.

    Raises:
        NotFound: no such model or dataset.
        UnsafeArtifact: a file that could run code, or that is not what its name claims.
        Invalid: files that a version needs are missing.
    """
    with work:
        model = work.models.get(name, actor.project_id)
        plugin = work.plugins.find("task_type", model.task_type)
        _check_files(files, (plugin and plugin.detail.get("needed_files")) or NEEDED_FILES)
        if reference is not None:
            work.datasets.get(reference, model.id)
    stored = [ModelFile(path, *artifacts.put(data)) for path, data in sorted(files.items())]
    with work:
        work.models.lock(model.id)
        champion = work.versions.champion(model.id)
        version = work.versions.add(
            ModelVersion(
                id=new_id(),
                model_id=model.id,
                number=work.versions.next_number(model.id),
                state=VersionState.IMPORTED,
                origin=Origin.IMPORTED,
                digest=digest_of_files({file.path: file.sha256 for file in stored}),
                files=stored,
                created_at=now,
                state_since=now,
                reference=reference,
                parent_id=champion.id if champion else None,
                trained_through=work.observations.horizon(model.id)[1],
                adopt=adopt,
            )
        )
        work.outbox.send("verify_version", version.id)
        work.events.record(
            "model_version.imported",
            actor=actor.name,
            subject=model.name,
            project_id=model.project_id,
            model_id=model.id,
            detail={"version": version.number, "adopt": adopt, "reason": reason},
        )
        return version


def _check_files(files: Mapping[str, bytes], needed: Sequence[str]) -> None:
    faults = [fault for path, data in files.items() for fault in _file_faults(path, data)]
    if faults:
        raise UnsafeArtifact("the model's files are refused", faults)
    missing = [path for path in needed if path not in files]
    if missing:
        raise Invalid(
            "the model's files are not complete",
            [Fault(f"/files/{path}", "is required") for path in missing],
        )


def _file_faults(path: str, data: bytes) -> list[Fault]:
    pointer = f"/files/{path}"
    if not _PLAIN_NAME.fullmatch(path):
        return [Fault(pointer, "must be a plain file name without folders")]
    if data.startswith(_PICKLES):
        return [Fault(pointer, f"is a pickle or a zip of one: {_REFUSED}")]
    suffix = path[path.rfind(".") :] if "." in path else ""
    if suffix not in ALLOWED_SUFFIXES:
        known = ", ".join(sorted(ALLOWED_SUFFIXES))
        return [Fault(pointer, f"files of type {suffix or 'none'} are refused ({known} are taken)")]
    if suffix == ".json":
        return _json_faults(pointer, data)
    if suffix == ".txt":
        return _text_faults(pointer, data)
    return _safetensors_faults(pointer, data) if suffix == ".safetensors" else []


def _json_faults(pointer: str, data: bytes) -> list[Fault]:
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return [Fault(pointer, "is not JSON")]
    if isinstance(body, dict) and "auto_map" in body:
        return [Fault(f"{pointer}/auto_map", "names remote code, which is never run; remove it")]
    return []


def _text_faults(pointer: str, data: bytes) -> list[Fault]:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return [Fault(pointer, "is not a text file in UTF-8")]
    return [Fault(pointer, "holds the NUL character; upload it again")] if "\0" in text else []


def _safetensors_faults(pointer: str, data: bytes) -> list[Fault]:
    length = int.from_bytes(data[:8], "little")
    try:
        header: Any = json.loads(data[8 : 8 + length] if 8 + length <= len(data) else b"")
        header.pop("__metadata__", None)
        ends = [int(entry["data_offsets"][1]) for entry in header.values()]
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return [Fault(pointer, f"is not a safetensors file; {_REFUSED}")]
    if ends and max(ends) != len(data) - 8 - length:
        return [Fault(pointer, "is a truncated safetensors file; upload it again")]
    return []


@dataclass(frozen=True, slots=True)
class ToVerify:
    """An imported version that a worker must load once, and the rows to try it on."""

    model: MaintainedModel
    version: ModelVersion
    reference: Sequence[Example]


def to_verify(work: UnitOfWork, artifacts: Artifacts, version_id: UUID) -> ToVerify | None:
    """Return what a worker must load; None when it has been done."""
    with work:
        version = work.versions.by_id(version_id)
        if version.state is not VersionState.IMPORTED:
            return None
        model = work.models.by_id(version.model_id)
        pinned = [work.datasets.get(version.reference, model.id)] if version.reference else []
    return ToVerify(model, version, rows_of(artifacts, pinned))


def verified(work: UnitOfWork, found: ToVerify, metrics: Json) -> ModelVersion:
    """Record the proof of loading; make the version champion if it was to be adopted.

    `metrics` are those on the reference, with the mean score of the model's answers and "n"; empty
    without a reference.
    """
    with work:
        champion = work.versions.lock_champion(found.model.id)
        version = work.versions.by_id(found.version.id)
        if version.state is not VersionState.IMPORTED:
            return version
        model = work.models.by_id(found.model.id)
        if not keep_scale(work, model, [metrics]):  # it is sent again, and finds the model's own
            return version
        accepted = (
            {
                "metric": found.model.objective.metric,
                "value": metrics.get(found.model.objective.metric),
                "accuracy": metrics.get(found.model.answer.measure),
                "n": metrics["n"],
                "role": "reference",
            }
            if metrics
            else {}
        )
        work.versions.set_accepted(version.id, accepted, {"reference": metrics})
        version = work.versions.advance(
            version, VersionEvent.VERIFIED, actor="upkeep", reason="loaded once in a worker"
        )
        if version.adopt:
            promotion.adopt(work, found.model, version, champion)
        return work.versions.by_id(version.id)


def refuse(work: UnitOfWork, version_id: UUID, reason: str) -> None:
    """Record that an imported version could not be loaded."""
    with work:
        version = work.versions.by_id(version_id)
        if version.state is VersionState.IMPORTED:
            work.versions.advance(
                version, VersionEvent.REJECTED, actor="upkeep", reason=reason[:2000]
            )


def shown(work: UnitOfWork, model: MaintainedModel, version: ModelVersion) -> Json:
    """Return a version with its lineage, evidence and history, in an open transaction."""
    evidence = work.versions.evidence(version.id)
    run = work.runs.get(version.run_id) if version.run_id else None
    decision = work.decisions.get(run.decision_id, model.id) if run and run.decision_id else None
    parent = work.versions.by_id(version.parent_id).number if version.parent_id else None
    base = f"/v1/models/{model.name}/versions/{version.number}"
    return {
        "number": version.number,
        "state": version.state,
        "state_since": version.state_since,
        "origin": version.origin,
        "digest": version.digest,
        "files": [
            {
                "path": file.path,
                "sha256": file.sha256,
                "size_bytes": file.size_bytes,
                "url": f"{base}/files/{file.path}",
            }
            for file in version.files
        ],
        "metrics": version.metrics,
        "accepted": version.accepted,
        "n_training_rows": version.n_training_rows,
        "lineage": {
            "parent": parent,
            "run": version.run_id,
            "snapshot_sha256": version.snapshot_sha256,
            "reference": version.reference,
            "decision": run.decision_id if run else None,
            "report": decision["report"] if decision else None,
            "trigger": decision["trigger"] if decision else None,
            "reason": decision["reason"] if decision else None,
        },
        "usage": run.usage if run else None,
        "evidence": [item["evidence"] for item in evidence],
        "verdicts": evidence[-1]["verdicts"] if evidence else [],
        "history": [
            {
                "event": move.event,
                "from": move.before,
                "to": move.after,
                "at": move.at,
                "actor": move.actor,
                "reason": move.reason,
            }
            for move in work.versions.transitions(model.id, version_id=version.id)
        ],
        "created_at": version.created_at,
    }


def profile_of(work: UnitOfWork, version: ModelVersion) -> Json:
    """Return what a version was accepted on, for a reader, in an open transaction.

    Raises:
        NotFound: no check has fitted it yet.
    """
    kept = work.profiles.described(version.id)
    if kept is None:
        raise NotFound(
            f"version {version.number} has no profile yet; its first check as champion fits it to "
            "the version's reference"
        )
    return {
        "version": version.number,
        "reference": kept["reference"],
        "n_rows": kept["document"]["n_rows"],
        "size_bytes": kept["size_bytes"],
        "columns": columns_shown(kept["document"]),
        "created_at": kept["created_at"],
    }


def file_of(version: ModelVersion, path: str) -> ModelFile:
    """Return one file of a version.

    Raises:
        NotFound: it has no such file.
    """
    for file in version.files:
        if file.path == path:
            return file
    known = ", ".join(file.path for file in version.files)
    raise NotFound(f"version {version.number} has no file {path!r}; it has {known}")


def champion_at(work: UnitOfWork, actor: Actor, name: str, at: datetime | None) -> tuple[Any, Json]:
    """Return the champion (now, or at a time) and why it served.

    Raises:
        NotFound: no such model, or it had no champion then.
    """
    with work:
        model = work.models.get(name, actor.project_id)
        if at is None:
            version = work.versions.champion(model.id)
            if version is None:
                raise NotFound("this model has no champion yet; import a version or retrain first")
        else:
            move = work.versions.served_at(model.id, at)
            if move is None:
                raise NotFound(f"this model had no champion at {at.isoformat()}")
            version = work.versions.by_id(move.version_id)
        body = shown(work, model, version)
        rise = [
            move
            for move in work.versions.transitions(model.id, version_id=version.id)
            if move.after is VersionState.CHAMPION and (at is None or move.at <= at)
        ][-1]
    why = {"event": rise.event, "actor": rise.actor, "reason": rise.reason}
    return version, {**body, "since": rise.at, "why": why}
