"""Policy documents: from JSON to the typed policy, and changes to them."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from app.domain.decisions import Trigger
from app.domain.errors import Fault, Invalid
from app.domain.policies import Policy
from app.domain.promotion import Gate
from app.domain.registry import Registry
from app.gates import gates
from app.services.documents import document
from app.services.options import option_faults
from app.services.ports import Json, UnitOfWork
from app.services.searches import search_faults
from app.triggers import triggers

_POLICY: Final = TypeAdapter(Policy)


def policy_schema() -> Json:
    """Return the JSON Schema of a policy document."""
    return _POLICY.json_schema()


def read_policy(body: Mapping[str, Any]) -> Policy:
    """Return the typed policy of a document; what it leaves out takes its default.

    Raises:
        Invalid: a field is unknown, of a wrong type or out of bounds; the faults say where.
    """
    try:
        return _POLICY.validate_python(dict(body), strict=False)
    except ValidationError as error:
        faults = [
            Fault("/policy/" + "/".join(str(part) for part in item["loc"]), item["msg"])
            for item in error.errors()
        ]
        raise Invalid("the policy is not valid", faults) from error


def checked_policy(work: UnitOfWork, body: Mapping[str, Any], task_type: str) -> Json:
    """Return a whole, valid policy document from a partial one.

    Raises:
        Invalid: also for a trigger, gate or detector that nobody has, or wrong options of one.
    """
    policy = read_policy(body)
    faults = [
        *_plugin_faults("triggers", triggers, policy.triggers),
        *_plugin_faults("gates", gates, policy.gates),
        *_detector_faults(work, policy),
        *_recipe_faults(work, policy, task_type),
    ]
    if faults:
        raise Invalid("the policy is not valid", faults)
    whole: Json = document(policy)
    return whole


def _plugin_faults(
    section: str,
    registry: Registry[Trigger] | Registry[Gate],
    chosen: Mapping[str, Mapping[str, Any]],
) -> list[Fault]:
    faults = []
    for name, options in chosen.items():
        pointer = f"/policy/{section}/{name}"
        if name not in registry:
            known = ", ".join(registry.names())
            faults.append(Fault(pointer, f"unknown {registry.kind} {name!r}; known: {known}"))
            continue
        faults += option_faults(registry.get(name).options, options, pointer)
    return faults


def _detector_faults(work: UnitOfWork, policy: Policy) -> list[Fault]:
    known = {plugin.name: plugin for plugin in work.plugins.of_kind("detector")}
    faults = []
    for kind, chosen in policy.check.detectors.items():
        for name, options in chosen.items():
            pointer = f"/policy/check/detectors/{kind}/{name}"
            if name not in known:
                listed = ", ".join(known) or "none, since no worker has started yet"
                faults.append(Fault(pointer, f"unknown detector {name!r}; known: {listed}"))
                continue
            kinds = known[name].detail.get("kinds", [kind])
            if kind not in kinds:
                faults.append(Fault(pointer, f"{name} measures {', '.join(kinds)} signals"))
            faults += option_faults(known[name].options, options, pointer)
    return faults


def _recipe_faults(work: UnitOfWork, policy: Policy, task_type: str) -> list[Fault]:
    plugin = work.plugins.find("task_type", task_type)
    if plugin is None:
        return []
    faults = option_faults(plugin.options, policy.retrain.recipe, "/policy/retrain/recipe")
    if policy.retrain.search is not None:
        faults += search_faults(plugin.options, policy.retrain.search, "/policy/retrain/search")
    return faults


def merged(base: Mapping[str, Any], patch: Mapping[str, Any]) -> Json:
    """Return `base` changed by a JSON merge patch (RFC 7396): null removes, objects merge."""
    result = dict(base)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            below = result.get(key)
            result[key] = merged(below if isinstance(below, Mapping) else {}, value)
        else:
            result[key] = value
    return result
