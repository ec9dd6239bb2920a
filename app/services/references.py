"""What a version is compared with: shown, exported, replaced."""

from uuid import UUID

from app.domain.errors import NotFound
from app.domain.identity import canonical_json
from app.domain.models import MaintainedModel
from app.domain.versions import ModelVersion
from app.services.documents import document
from app.services.examples import rows_of
from app.services.ports import Actor, Artifacts, Dataset, Json, UnitOfWork


def dataset_of(work: UnitOfWork, version: ModelVersion) -> Dataset:
    """Return the dataset that a version is compared with, in an open transaction.

    Raises:
        NotFound: it has none.
    """
    if version.reference is None:
        raise NotFound(
            f"version {version.number} has no reference; upload a dataset and PUT its id here"
        )
    return work.datasets.get(version.reference, version.model_id)


def shown(work: UnitOfWork, model: MaintainedModel, version: ModelVersion) -> Json:
    """Return what a version is compared with, and what it was before, in an open transaction."""
    dataset, changes = dataset_of(work, version), work.versions.reference_changes(version.id)
    first = changes[0].before if changes else version.reference
    accepted = {"at": version.created_at, "actor": "upkeep", "reason": "it was accepted on it"}
    history = [{"dataset": first, **accepted}] if first else []
    history += [
        {"dataset": one.after, "at": one.at, "actor": one.actor, "reason": one.reason}
        for one in changes
    ]
    rows = f"/v1/models/{model.name}/versions/{version.number}/reference/rows"
    return {
        "version": version.number,
        "dataset": dataset.id,
        "role": dataset.role,
        "n_rows": dataset.n_rows,
        "sha256": dataset.sha256,
        "since": history[-1]["at"],
        "rows": {kind: f"{rows}?format={kind}" for kind in ("parquet", "ndjson")},
        "history": history[::-1],
    }


def as_ndjson(artifacts: Artifacts, dataset: Dataset, model: MaintainedModel) -> str:
    """Return the rows of a dataset as they can be uploaded again, one a line."""
    lines = []
    for row in rows_of(artifacts, [dataset]):
        shown: Json = {"id": row.id, "inputs": row.inputs, "label": model.answer.shown(row.label)}
        if row.observed_at is not None:
            shown["at"] = row.observed_at
        lines.append(canonical_json(document(shown)) + "\n")
    return "".join(lines)


def replace(
    work: UnitOfWork, actor: Actor, name: str, number: int, *, dataset_id: UUID, reason: str
) -> None:
    """Compare a version with another dataset from now on; the same one again changes nothing.

    A check that runs on the former one is void. The watch of the version starts anew, and the
    champion is looked at; what the version was accepted with stays as it is.

    Raises:
        NotFound: no such model, version or dataset of it.
    """
    with work:
        model = work.models.get(name, actor.project_id)
        work.models.lock(model.id)
        version = work.versions.get(model.id, number)
        dataset = work.datasets.get(dataset_id, model.id)
        if version.reference == dataset.id:
            return
        work.versions.replace_reference(version, dataset.id, actor=actor.name, reason=reason)
        work.events.record(
            "reference.replaced",
            actor=actor.name,
            subject=model.name,
            project_id=model.project_id,
            model_id=model.id,
            detail={
                "version": number,
                "from": version.reference,
                "to": dataset.id,
                "sha256": dataset.sha256,
                "reason": reason,
            },
        )
        champion = work.versions.champion(model.id)
        if champion is not None and champion.id == version.id:
            check_id, added = work.checks.request(model.id, requested_by=actor.name)
            if added:
                work.outbox.send("check_drift", check_id)
