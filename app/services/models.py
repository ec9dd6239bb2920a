"""Registering a model to be maintained, and changing how."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from app.domain.answers import (
    CLASS,
    NUMBER,
    SPANS,
    TEXT,
    Answer,
    Classes,
    Number,
    Spans,
    Text,
)
from app.domain.errors import Fault, Invalid, NotReady
from app.domain.identity import new_id
from app.domain.models import MaintainedModel, Objective
from app.domain.observations import ContractField, FieldType, InputContract
from app.services.policies import checked_policy, merged
from app.services.ports import Actor, Json, Plugin, UnitOfWork


@dataclass(frozen=True, slots=True)
class NewModel:
    """What a user says of a model to be maintained.

    Attributes:
        objective: an empty metric is the task type's first; an empty direction the metric's.
        target: of a model that answers with numbers; None where nothing is stated.
    """

    name: str
    task_type: str
    base_model: str
    labels: Sequence[str]
    contract: Sequence[ContractField] | None
    objective: Objective
    policy: Mapping[str, Any]
    target: Number | None = None


def create(work: UnitOfWork, actor: Actor, new: NewModel, *, now: datetime) -> MaintainedModel:
    """Register a model.

    Raises:
        NotReady: no worker has announced its task types yet.
        Invalid: an unknown task type, detector, trigger or gate, or labels that cannot work.
        Conflict: the name is taken.
    """
    with work:
        plugin = _task_type(work, new.task_type)
        answers_with = _answers_with(plugin, new)
        objective = _completed(new.objective, plugin, answers_with or Classes(new.labels))
        faults = _answer_faults(new, answers_with)
        faults += _objective_faults(objective, plugin, answers_with or Classes(new.labels))
        faults += _contract_faults(new.contract or (), _default_contract(plugin))
        faults += _column_faults(new.contract or (), plugin)
        if faults:
            raise Invalid("the model is not valid", faults)
        model = MaintainedModel(
            id=new_id(),
            project_id=actor.project_id,
            name=new.name,
            task_type=new.task_type,
            base_model=new.base_model,
            labels=tuple(new.labels),
            contract=InputContract(new.contract or _default_contract(plugin)),
            objective=objective,
            policy_version=1,
            policy=checked_policy(work, new.policy, new.task_type),
            is_paused=False,
            created_at=now,
            answers_with=answers_with,
        )
        work.models.add(model, actor=actor.name)
        work.events.record(
            "model.created",
            actor=actor.name,
            subject=model.name,
            project_id=model.project_id,
            model_id=model.id,
            detail={"task_type": model.task_type, "base_model": model.base_model},
        )
        return model


def _task_type(work: UnitOfWork, name: str) -> Plugin:
    known = {plugin.name: plugin for plugin in work.plugins.of_kind("task_type")}
    if not known:
        raise NotReady("no worker has announced its task types yet; start one, or try again soon")
    if name not in known:
        fault = Fault("/task_type", f"unknown task type {name!r}; known: {', '.join(known)}")
        raise Invalid("the model is not valid", [fault])
    return known[name]


def _answers_with(plugin: Plugin, new: NewModel) -> Answer | None:
    """Return what a model answers with, where its task type does not sort into labels."""
    kind = plugin.detail.get("answers", CLASS)
    if kind == NUMBER:
        return new.target or Number()
    if kind == SPANS:
        return Spans(tuple(new.labels), _read_text(new.contract or _default_contract(plugin)))
    return Text() if kind == TEXT else None


def _read_text(fields: Sequence[ContractField]) -> str:
    """Return the name of the first text that is kept as it comes: what task types read."""
    texts = (one.name for one in fields if one.type is FieldType.TEXT and one.privacy is None)
    return next(texts, "text")


def _answer_faults(new: NewModel, answers_with: Answer | None) -> list[Fault]:
    """Return what is wrong with a model's labels, or with what it has in their place."""
    plural = answers_with.plural if answers_with else "labels"
    detail = f"must be left out: {new.task_type} answers with {plural}"
    of_labels = [Fault("/labels", detail)] if new.labels else []
    of_target = [Fault("/target", detail)] if new.target else []
    if isinstance(answers_with, Number):
        return of_labels
    if isinstance(answers_with, Text):
        return [*of_labels, *of_target]
    return [*_label_faults(new.labels, 1 if answers_with else 2), *of_target]


def _completed(stated: Objective, plugin: Plugin, answer: Answer) -> Objective:
    """Return an objective with a metric, and the direction that suits it."""
    metric = stated.metric or str(plugin.detail["metrics"][0])
    return replace(stated, metric=metric, direction=stated.direction or answer.direction_of(metric))


def _objective_faults(objective: Objective, plugin: Plugin, answer: Answer) -> list[Fault]:
    if objective.metric not in plugin.detail["metrics"]:
        known = ", ".join(plugin.detail["metrics"])
        return [Fault("/objective/metric", f"must be one of {known}")]
    direction = answer.direction_of(objective.metric)
    if objective.direction != direction:
        detail = f"must be {direction!r} for {objective.metric}"
        return [Fault("/objective/direction", detail)]
    return []


def _label_faults(labels: Sequence[str], fewest: int) -> list[Fault]:
    if len(labels) < fewest:
        needed = "two different labels" if fewest == 2 else "one label"
        return [Fault("/labels", f"needs at least {needed}, not {len(labels)}")]
    if len(set(labels)) < len(labels):
        return [Fault("/labels", "holds a label twice")]
    if any(not label for label in labels):
        return [Fault("/labels", "holds an empty label")]
    return []


def _contract_faults(
    stated: Sequence[ContractField], default: Sequence[ContractField]
) -> list[Fault]:
    """Return where a contract could not work: a field twice, or nothing the task type reads."""
    if not stated:
        return []
    names = [field.name for field in stated]
    faults = [
        Fault("/input_contract/fields", f"holds the field {name!r} twice")
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    have = {field.type for field in stated if field.is_required and field.privacy is None}
    return faults + [
        Fault(
            "/input_contract/fields",
            f"needs a required field of type {field.type} that is neither hashed nor dropped",
        )
        for field in default
        if field.is_required and field.type not in have
    ]


def _column_faults(stated: Sequence[ContractField], plugin: Plugin) -> list[Fault]:
    """Return whether a task type that reads columns would find none."""
    types = plugin.detail.get("column_types") or ()
    if not types or any(field.type in types and field.privacy is None for field in stated):
        return []
    pointer = "/input_contract/fields" if stated else "/input_contract"
    return [
        Fault(
            pointer,
            f"needs a field of type {', '.join(types)} that is neither hashed nor dropped: "
            f"{plugin.name} learns from the columns that its input contract names",
        )
    ]


def _default_contract(plugin: Plugin) -> list[ContractField]:
    return [
        ContractField(
            name=item["name"],
            type=FieldType(item["type"]),
            is_required=item.get("required", True),
            maximum_length=item.get("max_length", 1_000_000),
        )
        for item in plugin.detail["default_contract"]
    ]


def change_policy(
    work: UnitOfWork, actor: Actor, name: str, patch: Mapping[str, Any]
) -> tuple[int, Json]:
    """Apply a merge patch to the policy; return the new version and document.

    Raises:
        NotFound: no such model.
        Invalid: the result would not be a valid policy; nothing is changed.
    """
    with work:
        model = work.models.get(name, actor.project_id)
        work.models.lock(model.id)
        model = work.models.by_id(model.id)
        document = checked_policy(work, merged(model.policy, patch), model.task_type)
        version = work.models.set_policy(model.id, document, actor=actor.name)
        work.events.record(
            "policy.changed",
            actor=actor.name,
            subject=model.name,
            project_id=model.project_id,
            model_id=model.id,
            detail={"from": model.policy_version, "to": version, "patch": dict(patch)},
        )
    return version, document


def add_labels(
    work: UnitOfWork, actor: Actor, name: str, added: Sequence[str], *, reason: str
) -> MaintainedModel:
    """Let a model know more labels; those it has already change nothing.

    The champion goes on with those it knows, and each row of a new one counts as its error; the
    next run learns them. No label is ever taken away: rows, scores and versions name them.

    Raises:
        NotFound: no such model.
        Invalid: an empty label, or a model that answers with something else.
    """
    with work:
        model = work.models.get(name, actor.project_id)
        work.models.lock(model.id)
        model = work.models.by_id(model.id)
        if not model.answer.labels:
            fault = Fault("/add", f"{name} answers with {model.answer.plural}, not with labels")
            raise Invalid("the labels are not valid", [fault])
        fresh = [label for label in dict.fromkeys(added) if label not in set(model.labels)]
        if "" in fresh:
            raise Invalid("the labels are not valid", [Fault("/add", "holds an empty label")])
        if fresh:
            work.models.set_labels(model.id, [*model.labels, *fresh])
            work.events.record(
                "model.labels_added",
                actor=actor.name,
                subject=model.name,
                project_id=model.project_id,
                model_id=model.id,
                detail={"added": fresh, "reason": reason},
            )
        return work.models.by_id(model.id)


def set_paused(
    work: UnitOfWork, actor: Actor, name: str, is_paused: bool, *, reason: str
) -> MaintainedModel:
    """Stop or go on deciding by itself; ingest, reads and people's requests go on either way."""
    with work:
        model = work.models.get(name, actor.project_id)
        work.models.set_paused(model.id, is_paused)
        work.events.record(
            "model.paused" if is_paused else "model.resumed",
            actor=actor.name,
            subject=model.name,
            project_id=model.project_id,
            model_id=model.id,
            detail={"reason": reason},
        )
        return work.models.by_id(model.id)
