"""Taking in sets of examples: a first training set, a reference, a holdout, a golden set."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from app.domain.errors import Fault, Invalid
from app.domain.identity import new_id
from app.domain.observations import Intake, Rejected, time_of
from app.services.examples import input_hash, to_parquet
from app.services.ports import Actor, Artifacts, Dataset, Example, UnitOfWork
from app.services.rows import id_faults, label_faults, text_of, time_faults
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
        intake = work.models.intake(name, actor.project_id)
    good, rejected = _sort_out(rows, intake)
    if not good:
        faults = [
            Fault(f"/{row.index}{fault.pointer}", fault.detail)
            for row in rejected[:100]
            for fault in row.faults
        ]
        raise Invalid(
            f"the dataset has no usable row among {len(rows)}; at least one is needed", faults
        )
    _check_labels(role, good, intake)
    sha256, size_bytes = artifacts.put(to_parquet(good))
    dataset = Dataset(new_id(), intake.model_id, role, sha256, size_bytes, len(good), now)
    with work:
        work.datasets.add(dataset)
        work.events.record(
            "dataset.uploaded",
            actor=actor.name,
            subject=name,
            project_id=actor.project_id,
            model_id=intake.model_id,
            detail={"dataset": dataset.id, "role": role, "n_rows": len(good), "sha256": sha256},
        )
    return dataset, rejected


def _sort_out(rows: Sequence[Any], intake: Intake) -> tuple[list[Example], list[Rejected]]:
    good, rejected = [], []
    seen: Counter[str] = Counter()
    for index, raw in enumerate(rows):
        row = nested(raw, intake.contract, _OWN)
        faults = _faults(row, intake)
        if faults:
            rejected.append(Rejected(index, None, faults))
            continue
        inputs = intake.stored(row["inputs"])
        given = str(row.get("id") or "")
        name = given
        if id_faults(given):
            name = input_hash(inputs)[:32]
            seen[name] += 1
            if seen[name] > 1:  # another row that looks the same
                name = f"{name}-{seen[name]}"
        label = intake.answer.stored(row["label"])
        good.append(Example(name, inputs, label, observed_at=time_of(row.get("at"))))
    return good, rejected


def _faults(row: Any, intake: Intake) -> list[Fault]:
    if not isinstance(row, Mapping):
        return [Fault("", "must be an object with inputs and label")]
    faults = intake.contract.faults(row.get("inputs"))
    text = text_of(row.get("inputs"), intake)
    faults += label_faults("label", row.get("label"), intake, text=text, is_required=True)
    return [*faults, *time_faults(row.get("at"))]


def _check_labels(role: str, good: Sequence[Example], intake: Intake) -> None:
    classes = {example.label for example in good}
    if role != "training" or len(classes) > 1:
        return
    if intake.answers_with is not None:
        fault = Fault("/label", "upload rows with different labels")
        raise Invalid(
            f"the {len(good)} rows hold fewer than two {intake.answer.distinct}; a training set "
            "needs at least two",
            [fault],
        )
    raise Invalid(
        f"all {len(good)} rows have the label {classes.pop()!r}; a training set needs at "
        "least two classes",
        [Fault("/label", "upload rows of at least two classes")],
    )
