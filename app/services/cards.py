"""What should whoever meets a version know of it? A model card, made from its record alone.

The headings are those of Mitchell et al. (2019), as far as a record can fill them: nothing is
said that Upkeep has not kept.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from app.domain.models import MaintainedModel
from app.domain.training import TrainingRun
from app.domain.usage import JOULES_PER_KWH
from app.domain.versions import ModelVersion
from app.services import searches, versions
from app.services.documents import document
from app.services.ports import Json, UnitOfWork

_MOST_LABELS: Final = 100
_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]<>#|~])")
UNKNOWN: Final = "not recorded"


def card(work: UnitOfWork, model: MaintainedModel, version: ModelVersion) -> str:
    """Return the model card of a version as Markdown, in an open transaction."""
    shown = document(versions.shown(work, model, version))
    run = work.runs.get(version.run_id) if version.run_id else None
    parts = [
        _front_matter(model, shown),
        f"# {_plain(model.name)}, version {version.number}",
        _about(model, shown),
        _training(model, shown, run),
        _metrics(shown),
        _gates(shown),
        _usage(run),
        _history(shown),
        _limits(model, shown),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _plain(value: Any) -> str:
    """Return a value as text that Markdown leaves as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(value).split()))


def _code(value: Any) -> str:
    text = " ".join(str(value).split()).replace("`", "'").replace("|", "¦")
    return f"`{text}`"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _facts(facts: Iterable[tuple[str, str | None]]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in facts if value is not None)


def _figure(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def _front_matter(model: MaintainedModel, shown: Json) -> str:
    """Return what catalogues of models read, as YAML (of which JSON values are a part)."""
    known = {
        "model_name": f"{model.name} {shown['number']}",
        "base_model": model.base_model,
        "pipeline_tag": model.task_type,
        "tags": ["upkeep", shown["state"]],
    }
    return "\n".join(
        ["---", *(f"{key}: {json.dumps(value)}" for key, value in known.items()), "---"]
    )


def _about(model: MaintainedModel, shown: Json) -> str:
    facts = [
        ("Task", _plain(model.task_type)),
        ("Starts from", _code(model.base_model)),
        ("State", f"{shown['state']} since {shown['state_since']}"),
        ("Origin", f"{shown['origin']} at {shown['created_at']}"),
        ("Digest of its files (SHA-256)", _code(shown["digest"])),
        ("Size", f"{sum(file['size_bytes'] for file in shown['files']):,} bytes"),
        ("Files", ", ".join(_code(file["path"]) for file in shown["files"]) or UNKNOWN),
        ("Judged by", f"{_plain(model.objective.metric)}, to {model.objective.direction}"),
    ]
    return f"## What it is\n\n{_facts(facts)}"


def _training(model: MaintainedModel, shown: Json, run: TrainingRun | None) -> str:
    if run is None:
        return (
            "## How it was made\n\nIt was imported: how it was trained, and on what, is not "
            "recorded."
        )
    result, snapshot = run.result or {}, run.snapshot or {}
    train = snapshot.get("train") or {}
    facts = [
        ("Training run", f"{_code(run.id)}, asked for by {_plain(run.actor)}"),
        ("Because", _plain(run.reason)),
        ("Trained from", _start(shown, run)),
        ("Training rows", _rows(train, shown["n_training_rows"])),
        ("Selected", _selected(snapshot.get("selection"))),
        ("Snapshot of the data (SHA-256)", _code(run.snapshot_sha256 or UNKNOWN)),
        ("Kept apart to judge on", _kept_apart(snapshot)),
        ("Rows left out, as retention forgot them", _forgotten(snapshot)),
        ("Code", _code_of(result.get("code"))),
        ("Libraries", _named(result.get("library_versions"))),
        ("Seed", str(run.spec.seed)),
        ("Deterministic", _determinism(result.get("deterministic"))),
        ("Device", _device(result)),
        ("Attempts", str(run.attempt)),
        ("Steps", _optional(result.get("steps"))),
        ("Time, seconds", _optional(result.get("seconds"))),
        ("Peak memory, bytes", _optional(result.get("peak_memory_bytes"))),
    ]
    recipe = json.dumps(result.get("recipe") or dict(run.spec.recipe), indent=2, sort_keys=True)
    recipe = recipe.replace("`", "'")
    return "\n\n".join(
        (
            f"## How it was made\n\n{_facts(facts)}",
            f"Its recipe, in full:\n\n```json\n{recipe}\n```",
            *_search(run),
            f"The same again: `POST /v1/models/{model.name}/retrain` with `repeat_of` "
            f"{_code(run.id)}.",
        )
    )


def _search(run: TrainingRun) -> list[str]:
    """Return the trials of the search that its recipe came from; nothing without a search."""
    search = searches.shown(run)
    if search is None:
        return []
    rows = [
        [
            f"{one['number']}{', the best' if one['number'] == search['best'] else ''}",
            _code(json.dumps(one["recipe"], sort_keys=True)),
            one["state"],
            _optional(one["score"]) or "",
            _figure(one["seconds"]),
        ]
        for one in search["trials"]
    ]
    told = (
        f"Its recipe is the best of a search, by {_plain(search['metric'])} on "
        f"{search['validation_share']:.0%} of the newest training rows, set apart in the trials "
        "and learned from in the end:"
    )
    return [told, _table(["Trial", "Knobs", "State", "Score", "Seconds"], rows)]


def _start(shown: Json, run: TrainingRun) -> str:
    parent = shown["lineage"]["parent"]
    return f"version {parent}" if parent else f"the {_plain(run.spec.start_from)} model"


def _rows(part: Mapping[str, Any], n: int) -> str:
    size = part.get("size_bytes")
    return f"{part.get('n_rows', n):,}" + (f" ({size:,} bytes)" if size is not None else "")


def _selected(selection: Mapping[str, Any] | None) -> str | None:
    """Return which rows it was trained on, of which."""
    if not selection:
        return None
    old, new = (
        f"{selection[f'n_{age}_kept']:,} of {selection[f'n_{age}']:,} {age}"
        for age in ("old", "new")
    )
    return f"{_plain(selection['by'])}: {old} and {new} rows"


def _kept_apart(snapshot: Mapping[str, Any]) -> str | None:
    parts = [
        f"{snapshot[name]['n_rows']:,} {name}"
        for name in ("holdout", "window", "golden")
        if snapshot.get(name)
    ]
    return ", ".join(parts) or None


def _forgotten(snapshot: Mapping[str, Any]) -> str | None:
    n = snapshot.get("n_forgotten")
    return f"{n:,}" if n else None


def _code_of(code: Mapping[str, Any] | None) -> str:
    if not code:
        return UNKNOWN
    return f"{_plain(code['version'])}, sources {_code(code['sha256'])}"


def _named(values: Mapping[str, Any] | None) -> str | None:
    if not values:
        return None
    return ", ".join(f"{_plain(name)} {_plain(value)}" for name, value in sorted(values.items()))


def _determinism(value: bool | None) -> str:
    if value is None:
        return UNKNOWN
    if value:
        return "yes: the same record gives the same version on such a machine"
    return "no: repeated from its record it comes out alike, not the same"


def _device(result: Mapping[str, Any]) -> str | None:
    told = [result.get("device"), result.get("precision")]
    threads = result.get("threads")
    words = [_plain(one) for one in told if one] + ([f"{threads} threads"] if threads else [])
    return ", ".join(words) or None


def _optional(value: Any) -> str | None:
    return None if value is None else _figure(value)


def _metrics(shown: Json) -> str:
    """Return every figure that is a plain number, by what it was measured on."""
    roles = {role: found for role, found in shown["metrics"].items() if isinstance(found, dict)}
    figures = {
        role: {
            name: value
            for name, value in found.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        for role, found in roles.items()
    }
    figures = {role: found for role, found in figures.items() if found}
    if not figures:
        return "## How good it is\n\nNothing was measured yet."
    names = sorted({name for found in figures.values() for name in found})
    rows = [
        [
            _plain(name),
            *(_figure(found[name]) if name in found else "" for found in figures.values()),
        ]
        for name in names
    ]
    accepted = shown["accepted"]
    said = ""
    if accepted.get("value") is not None:
        said = (
            f"\n\nIt was accepted with {_plain(accepted['metric'])} "
            f"{_figure(accepted['value'])} on {accepted['n']:,} {_plain(accepted['role'])} rows."
        )
    table = _table(["Measured on", *(_plain(role) for role in figures)], rows)
    return f"## How good it is\n\n{table}{said}"


def _gates(shown: Json) -> str:
    if not shown["verdicts"]:
        return "## What the gates said\n\nNo gate has judged it."
    rows = [
        [_plain(one["gate"]), "passed" if one["passed"] else "failed", _plain(one["reason"])]
        for one in shown["verdicts"]
    ]
    return f"## What the gates said\n\n{_table(['Gate', 'Verdict', 'Reason'], rows)}"


def _usage(run: TrainingRun | None) -> str:
    if run is None or run.usage is None:
        return f"## What it took\n\nIts use of machines is {UNKNOWN}."
    used = run.usage
    energy = used["energy_joules"]
    sources = f"CPU {used['cpu_energy_source']}, GPU {used['gpu_energy_source']}"
    facts = [
        ("CPU-seconds", _figure(used["cpu_seconds"])),
        ("GPU-seconds", _figure(used["gpu_seconds"])),
        (
            "Energy",
            f"unknown ({sources})"
            if energy is None
            else f"{_figure(energy)} J = {energy / JOULES_PER_KWH:.6g} kWh ({sources})",
        ),
        ("Cost", "no price is set" if used["cost"] is None else _figure(used["cost"])),
        (
            "Carbon dioxide",
            "unknown: no intensity of the grid is set"
            if used["co2_grams"] is None
            else f"{_figure(used['co2_grams'])} g at {used['grams_per_kwh']:g} g a kWh",
        ),
    ]
    return (
        f"## What it took\n\n{_facts(facts)}\n\nAll attempts of its training together; judging, "
        "idle power, memory and cooling are not in it."
    )


def _history(shown: Json) -> str:
    lineage = shown["lineage"]
    facts = [
        ("Parent", f"version {lineage['parent']}" if lineage["parent"] else "none"),
        ("Decision", _code(lineage["decision"]) if lineage["decision"] else None),
        ("Trigger", _plain(lineage["trigger"]) if lineage["trigger"] else None),
        ("Drift report", _code(lineage["report"]) if lineage["report"] else None),
        ("Reference (dataset)", _code(lineage["reference"]) if lineage["reference"] else None),
    ]
    moves = [
        f"- {move['at']}: {_plain(move['event'])} by {_plain(move['actor'])}: "
        f"{_plain(move['reason'])}"
        for move in shown["history"]
    ]
    return "## Lineage\n\n" + "\n".join([_facts(facts), *moves])


def _limits(model: MaintainedModel, shown: Json) -> str:
    labels = [_code(label) for label in model.labels[:_MOST_LABELS]]
    more = len(model.labels) - len(labels)
    known = ", ".join(labels) + (f" and {more:,} more" if more else "")
    fields = [
        [_code(one["name"]), one["type"], "yes" if one["is_required"] else "no", _bounds(one)]
        for one in document(model.contract.fields)
    ]
    table = _table(["Field", "Type", "Required", "Bounds"], fields)
    judged = shown["accepted"].get("n")
    rows = f"It was judged on {judged:,} rows." if judged else "It has not been judged."
    told = [
        "## Limits",
        f"It reads inputs of this contract; others are refused when they are logged:\n\n{table}",
        f"{rows} What the rows it was judged on do not hold, nothing here speaks for. What is seen "
        "of it in use (drift, accuracy by labels, incidents) is in its model's reports, not in "
        "this card.",
    ]
    if labels:
        n = len(model.labels)
        told.insert(1, f"It answers with these {n:,} labels and no others: {known}.")
    return "\n\n".join(told)


def _bounds(field: Mapping[str, Any]) -> str:
    told = [
        f"{name.replace('_', ' ')} {_plain(field[name])}"
        for name in ("minimum", "maximum", "dimension", "privacy")
        if field.get(name) is not None
    ]
    if field.get("categories"):
        told.append(f"{len(field['categories']):,} categories")
    return ", ".join(told)
