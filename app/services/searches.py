"""Searches for a recipe: what may be searched, written out, and how a run's search went."""

from collections.abc import Mapping
from typing import Any

from app.domain.errors import Fault
from app.domain.models import Objective
from app.domain.policies import KnobChoices, KnobRange, SearchPolicy
from app.domain.searches import best_of
from app.domain.training import TrainingRun
from app.services.documents import document
from app.services.options import option_faults
from app.services.ports import Json


def search_faults(schema: Mapping[str, Any], search: SearchPolicy, pointer: str) -> list[Fault]:
    """Return what a task type's recipe does not allow of a search.

    Args:
        schema: of the recipe, a JSON Schema.
        search: what was asked for.
        pointer: to it.
    """
    known = schema.get("properties", {})
    if search.space is None:
        if _own_space(schema):
            return []
        return [Fault(f"{pointer}/space", "the task type has no space of its own; state one")]
    if not search.space:
        return [Fault(f"{pointer}/space", "name a knob, or leave the space to the task type")]
    faults = []
    for name, wanted in search.space.items():
        place = f"{pointer}/space/{name}"
        if name not in known:
            faults.append(Fault(place, f"unknown knob; known: {', '.join(sorted(known))}"))
            continue
        if isinstance(wanted, KnobChoices):
            tried = wanted.choices
        else:
            tried = [_as_told(known[name], value) for value in (wanted.low, wanted.high)]
        for value in tried:
            faults += [
                Fault(place, fault.detail)
                for fault in option_faults({"properties": known}, {name: value}, place)
            ]
    return faults


def resolved(schema: Mapping[str, Any], search: SearchPolicy, objective: Objective) -> Json:
    """Return a search with its space written out, as a run keeps it."""
    known = schema["properties"]
    space = search.space if search.space is not None else _own_space(schema)
    told: Json = {
        **document(search),
        "space": {
            name: {"choices": [_as_told(known[name], value) for value in wanted.choices]}
            if isinstance(wanted, KnobChoices)
            else {
                "low": _as_told(known[name], wanted.low),
                "high": _as_told(known[name], wanted.high),
                "log": wanted.log,
            }
            for name, wanted in sorted(space.items())
        },
        "metric": objective.metric,
        "direction": objective.direction,
    }
    return told


def shown(run: TrainingRun) -> Json | None:
    """Return how a run's search stands; None where it does not search."""
    search = run.spec.search
    if search is None:
        return None
    best = best_of(run.trials, direction=search["direction"])
    return {**search, "trials": list(run.trials), "best": best["number"] if best else None}


def _own_space(schema: Mapping[str, Any]) -> dict[str, KnobRange | KnobChoices]:
    """Return the space that a task type states, by the keyword `search` of its knobs."""
    stated = {name: knob.get("search") for name, knob in schema.get("properties", {}).items()}
    return {
        name: KnobChoices(**wanted) if "choices" in wanted else KnobRange(**wanted)
        for name, wanted in stated.items()
        if wanted
    }


def _as_told(knob: Mapping[str, Any], value: Any) -> Any:
    """Return a bound or choice as its knob has it: whole, where the knob is and the value is."""
    types = knob.get("type", ())
    is_whole = "integer" in ([types] if isinstance(types, str) else types)
    return int(value) if is_whole and isinstance(value, float) and value.is_integer() else value
