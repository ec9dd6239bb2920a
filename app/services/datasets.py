"""Taking in sets of examples: a first training set, a reference, a holdout, a golden set."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from app.domain.errors import Fault, Invalid
from app.domain.identity import new_id
from app.domain.models import MaintainedModel
from app.domain.observations import Rejected, time_of
from app.services.examples import input_hash, to_parquet
from app.services.ports import Actor, Artifacts, Dataset, Example, UnitOfWork
from app.services.rows import time_faults
from app.services.tables import nested

ROLES: Final = ("training", "reference", "holdout", "golden")
_OWN: Final = ("id", "label", "at")


def upload(
    work: UnitOfWork,
    artifacts: Artifacts,
    actor: Actor,
    name: str,
    *,
    role: str,
    rows: Sequence[Any],
    now: datetime,
) -> tuple[Dataset, Sequence[Rejected]]:
    """Store a set of examples; bad rows are reported by index and the good ones kept.

    Raises:
        NotFound: no such model.
        Invalid: an unknown role, no rows, or none that is good.
    """
    if role not in ROLES:
        fault = Fault("/role", f"must be one of {', '.join(ROLES)}")
        raise Invalid(f"unknown role {role!r}", [fault])
    with work:
        model = work.models.get(name, actor.project_id)
    good, rejected = _sort_out(rows, model)
    if not good:
        faults = [
            Fault(f"/{row.index}{fault.pointer}", fault.detail)
            for row in rejected[:100]
            for fault in row.faults
        ]
        raise Invalid(
            f"the dataset has no usable row among {len(rows)}; at least one is needed", faults
        )
    _check_classes(role, good)
    sha256, size_bytes = artifacts.put(to_parquet(good))
    dataset = Dataset(new_id(), model.id, role, sha256, size_bytes, len(good), now)
    with work:
        work.datasets.add(dataset)
        work.events.record(
            "dataset.uploaded",
            actor=actor.name,
            subject=model.name,
            project_id=model.project_id,
            model_id=model.id,
            detail={"dataset": dataset.id, "role": role, "n_rows": len(good), "sha256": sha256},
        )
    return dataset, rejected


def _sort_out(rows: Sequence[Any], model: MaintainedModel) -> tuple[list[Example], list[Rejected]]:
    good, rejected = [], []
    for index, raw in enumerate(rows):
        row = nested(raw, model.contract, _OWN)
        faults = _faults(row, model)
        if faults:
            rejected.append(Rejected(index, None, faults))
            continue
        inputs = model.contract.stored(row["inputs"])
        name = str(row.get("id") or input_hash(inputs)[:32])
        good.append(Example(name, inputs, row["label"], observed_at=time_of(row.get("at"))))
    return good, rejected


def _faults(row: Any, model: MaintainedModel) -> list[Fault]:
    if not isinstance(row, Mapping):
        return [Fault("", "must be an object with inputs and label")]
    faults = model.contract.faults(row.get("inputs"))
    label = row.get("label")
    if not isinstance(label, str) or label not in model.labels:
        shown = ", ".join(model.labels[:20])
        faults.append(Fault("/label", f"must be one of the model's labels: {shown}"))
    return [*faults, *time_faults(row.get("at"))]


def _check_classes(role: str, good: Sequence[Example]) -> None:
    classes = {example.label for example in good}
    if role == "training" and len(classes) < 2:
        raise Invalid(
            f"all {len(good)} rows have the label {classes.pop()!r}; a training set needs at "
            "least two classes",
            [Fault("/label", "upload rows of at least two classes")],
        )
