"""Writes the tables of the documentation that the code already knows: `python docs/generate.py`.

A block starts with `<!-- generated: NAME -->` and ends with `<!-- end -->`; everything between is
replaced by what the function of that name in `BLOCKS` returns. tests/unit/test_docs.py fails when a
block is out of date.
"""

import dataclasses
import json
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from prometheus_client import Counter, Gauge, Histogram

import app.gates
import app.triggers
import workers.detectors
import workers.task_types
from app.adapters import metrics, run_metrics
from app.adapters.run_metrics import StoredHistogram
from app.config import Settings
from app.domain import incidents, training, versions
from app.domain.policies import Policy
from app.domain.registry import Registry, scan
from app.domain.shifts import SHIFTS
from app.gates import gates
from app.services.keys import ALLOWED
from app.triggers import triggers
from workers.detectors import described
from workers.task_types import task_types

DOCS: Final = Path(__file__).parent
for package in (app.gates, app.triggers, workers.detectors, workers.task_types):
    scan(package)

UNITS: Final[Mapping[str, str]] = {
    "_seconds": "seconds",
    "_days": "days",
    "_rows": "rows",
    "_labels": "labels",
    "_run_length": "labelled answers",
    "_errors": "standard errors",
    "_share": "share",
    "_factor": "times",
    "tolerance": "accuracy, as a share",
    "fdr": "share of the alarms",
}
"""How the name of a knob ends, and its unit."""

SETTINGS: Final[Mapping[str, str]] = {
    "database_url": "Postgres, as `postgresql+psycopg://user:password@host:5432/name`. Empty: "
    "`upkeep up` embeds one, the other commands refuse to start.",
    "redis_url": "Redis or Valkey, as `redis://host:6379/0` or `unix:///path`. Empty: as above.",
    "home": "Folder of embedded servers, artifacts and work folders. Empty: `.upkeep` in the "
    "current folder; for root and `upkeep up`, a folder below `/var/lib/upkeep`.",
    "artifacts": "Folder of model files and rows, named by their SHA-256. Empty: `artifacts` "
    "in the home. API and workers must see the same.",
    "host": "Address the API, and a worker's metrics, listen on.",
    "port": "Port of the API.",
    "metrics_port": "Port of a worker's metrics; 0 is none. `upkeep up` uses the two ports after "
    "the API's.",
    "lease_seconds": "A job whose worker is silent for so long is given to another.",
    "heartbeat_seconds": "Between two signs of life of a worker or scheduler; also how often a "
    "lease is renewed. Keep it at a third of the lease or less.",
    "tick_seconds": "Between two turns of the scheduler.",
    "resend_seconds": "A job that nobody took for so long is sent again.",
    "maximum_body_bytes": "Largest body of one request, in bytes.",
    "maximum_streams": "Streams that follow runs, of one API process; more are refused as `busy`.",
    "threads": "Threads of one training process. Empty: the CPU quota, as the kernel states it.",
    "gpus_of_a_run": "GPUs that each run has to itself, for recipes with as many `processes`; the "
    "same for all workers of a machine. What makes no whole group of them stays idle.",
    "fork_server": "Whether runs on the CPU are forked from a process that has loaded torch, which "
    "starts them seconds sooner and holds about 300 MiB.",
    "cpu_watts": "Power of one busy core, in watts: the energy of runs is estimated by it.",
    "gpu_watts": "Power of one GPU at work, in watts, where nothing measures it. Empty: unknown.",
    "cpu_cost_per_hour": "Price of one core for an hour, in any currency. Empty: no price.",
    "gpu_cost_per_hour": "Price of one GPU for an hour. Empty: no price.",
    "grid_grams_per_kwh": "Carbon dioxide of the electricity, in grams a kWh. Empty: unknown.",
    "log_format": "`console`, or `json` for one object a line.",
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def code(value: Any) -> str:
    """Return a value as JSON in code quotes; nothing for None."""
    return "" if value is None else f"`{json.dumps(value, ensure_ascii=False)}`"


def bounds(metadata: Iterable[Any]) -> str:
    """Return the bounds of an annotated type in words, such as "> 0, <= 1"."""
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    return ", ".join(
        f"{sign} {getattr(part, name):g}"
        for part in metadata
        for name, sign in signs.items()
        if getattr(part, name, None) is not None
    )


def attributes(documented: type) -> dict[str, str]:
    """Return what a class's docstring says of each attribute."""
    section = (documented.__doc__ or "").partition("Attributes:")[2]
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        start = re.fullmatch(r" {8}([a-z_]+): (.*)", line)
        if start:
            name, found[start[1]] = start[1], start[2]
        elif line.startswith(" " * 12) and name:
            found[name] += f" {line.strip()}"
    return found


def knobs(section: type, prefix: str = "") -> Iterable[list[str]]:
    """Yield a row for each knob of a policy section and the sections below it."""
    hints, said = typing.get_type_hints(section, include_extras=True), attributes(section)
    for item in dataclasses.fields(section):
        hint, path = hints[item.name], f"{prefix}{item.name}"
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            yield from knobs(hint, f"{path}.")
            continue
        default = item.default
        if isinstance(item.default_factory, types.FunctionType | type):
            default = item.default_factory()
        limits = bounds(getattr(hint, "__metadata__", ()))
        if typing.get_origin(hint) is typing.Literal:
            limits = " or ".join(code(choice) for choice in typing.get_args(hint))
        unit = next((unit for end, unit in UNITS.items() if path.endswith(end)), "")
        shown = code(default) if path != "check.detectors" else "see below"
        yield [f"`{path}`", shown, unit, limits, said[item.name]]


def policy_knobs() -> str:
    """Return every knob of a policy."""
    return table(["Knob", "Default", "Unit", "Bounds", "Meaning"], knobs(Policy))


def default_detectors() -> str:
    """Return the detectors of the default policy, as JSON."""
    return f"```json\n{json.dumps(Policy().check.detectors, indent=2)}\n```"


def options(schema: Mapping[str, Any]) -> str:
    """Return the options of a JSON Schema in one cell."""
    needed = schema.get("required", ())
    parts = []
    for name, option in schema.get("properties", {}).items():
        if "default" in option:
            parts.append(f"`{name}` = {code(option['default'])}")
        else:
            parts.append(f"`{name}`" + (" (needed)" if name in needed else ""))
    return ", ".join(parts) or "none"


def plugins(registry: Registry[Any], on: Iterable[str]) -> str:
    """Return the plug-ins of a registry."""
    rows = [
        [f"`{name}`", plugin.description, options(plugin.options), "on" if name in on else ""]
        for name, plugin in registry.items()
    ]
    return table(["Name", "Meaning", "Options", "By default"], rows)


def detector_table() -> str:
    """Return our own detectors, and the names of Evidently's."""
    found = described()
    own = [item for item in found if not item["name"].startswith("evidently:")]
    rows = [
        [
            f"`{item['name']}`",
            ", ".join(item["kinds"]),
            item["sees"],
            item["description"],
            options(item["options"]),
        ]
        for item in own
    ]
    theirs = ", ".join(f"`{item['name']}`" for item in found if item not in own)
    return (
        f"{table(['Name', 'Reads', 'Sees', 'Meaning', 'Options'], rows)}\n\nEvidently's: {theirs}."
    )


def recipes() -> str:
    """Return the recipe's knobs of every task type."""
    parts = []
    for name, task_type in task_types.items():
        rows = [
            [
                f"`{knob}`",
                code(schema.get("default")) or "`null`",
                schema_bounds(schema),
                schema.get("description", ""),
            ]
            for knob, schema in sorted(task_type.recipe_schema["properties"].items())
        ]
        knobs_of_it = table(["Knob", "Default", "Bounds", "Meaning"], rows)
        parts.append(f"### `{name}`\n\n{knobs_of_it}\n\n{searched(task_type.recipe_schema)}")
    return "\n\n".join(parts)


def searched(schema: Mapping[str, Any]) -> str:
    """Return what a search tries unless it is told otherwise."""
    parts = []
    for name, knob in sorted(schema["properties"].items()):
        space = knob.get("search")
        if space is None:
            continue
        if "choices" in space:
            parts.append(f"`{name}` ({', '.join(code(value) for value in space['choices'])})")
        else:
            scale = " on a log scale" if space.get("log") else ""
            parts.append(f"`{name}` ({space['low']:g} to {space['high']:g}{scale})")
    return f"A search tries {', '.join(parts)}."


def schema_bounds(schema: Mapping[str, Any]) -> str:
    """Return the bounds of a JSON Schema in words."""
    if "enum" in schema:
        return ", ".join(code(value) for value in schema["enum"])
    signs = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
    return ", ".join(f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema)


def machine(transitions: Mapping[tuple[Any, Any], Any], first: Sequence[str]) -> str:
    """Return a state machine as a Mermaid diagram."""
    lines = ["```mermaid", "stateDiagram-v2", "    direction LR"]
    lines += [f"    [*] --> {state}" for state in first]
    lines += [
        f"    {before} --> {after}: {event}" for (before, event), after in transitions.items()
    ]
    left = {before for before, _ in transitions}
    lines += [
        f"    {state} --> [*]" for state in dict.fromkeys(transitions.values()) if state not in left
    ]
    return "\n".join([*lines, "```"])


def environment() -> str:
    """Return every environment variable of the settings."""
    rows = []
    for name, field in Settings.model_fields.items():
        names = f"`UPKEEP_{name.upper()}`"
        if field.validation_alias is not None:
            names += f" or `{name.upper()}`"
        default = "" if field.default is None else f"`{field.default}`"
        rows.append([names, default, bounds(field.metadata), SETTINGS[name]])
    return table(["Variable", "Default", "Bounds", "Meaning"], rows)


def metric_list() -> str:
    """Return every metric that is exposed."""
    rows = []
    for found in (*vars(metrics).values(), *vars(run_metrics).values()):
        if not isinstance(found, Counter | Gauge | Histogram | StoredHistogram):
            continue
        (described_metric,) = found.describe()
        suffix = {"counter": "_total", "histogram": "_bucket"}.get(described_metric.type, "")
        labels = ", ".join(f"`{label}`" for label in found._labelnames)
        kind, meaning = described_metric.type, described_metric.documentation
        rows.append([f"`{described_metric.name}{suffix}`", kind, labels, meaning])
    return table(["Metric", "Kind", "Labels", "Meaning"], rows)


def roles() -> str:
    """Return what each role may do."""
    permissions = sorted({permission for allowed in ALLOWED.values() for permission in allowed})
    rows = [
        [f"`{role}`", *("yes" if permission in allowed else "" for permission in permissions)]
        for role, allowed in ALLOWED.items()
    ]
    return table(["Role", *permissions], rows)


def shifts() -> str:
    """Return what self-tests inject."""
    rows = [
        [one.kind, f"`{one.name}`", one.size, (one.inject.__doc__ or "").splitlines()[0]]
        for one in SHIFTS
    ]
    return table(["Kind", "Shift", "Size", "What it does"], rows)


def routes() -> str:
    """Return every operation of the OpenAPI snapshot."""
    paths = json.loads((DOCS / "openapi.json").read_text())["paths"]
    rows = []
    for path, methods in sorted(paths.items()):
        for method, operation in methods.items():
            said = operation.get("description", operation["summary"]).partition("\n\n")[0]
            status = next(code for code in operation["responses"] if code.startswith("2"))
            tag = (operation.get("tags") or ["other"])[0]
            rows.append([tag, f"`{method.upper()} {path}`", status, " ".join(said.split())])
    order = ["models", "observations", "drift", "training", "versions", "govern", "operate"]
    rows.sort(key=lambda row: order.index(row[0]) if row[0] in order else len(order))
    parts = []
    for tag in dict.fromkeys(row[0] for row in rows):
        own = [row[1:] for row in rows if row[0] == tag]
        parts.append(f"### {tag}\n\n{table(['Operation', 'Answers', 'Meaning'], own)}")
    return "\n\n".join(parts)


BLOCKS: Final[Mapping[str, Callable[[], str]]] = {
    "policy-knobs": policy_knobs,
    "default-detectors": default_detectors,
    "triggers": lambda: plugins(triggers, Policy().triggers),
    "gates": lambda: plugins(gates, Policy().gates),
    "detectors": detector_table,
    "recipes": recipes,
    "version-states": lambda: machine(versions.TRANSITIONS, ["imported", "trained"]),
    "incident-states": lambda: machine(incidents.TRANSITIONS, ["open"]),
    "run-states": lambda: machine(training.TRANSITIONS, ["queued"]),
    "environment": environment,
    "metrics": metric_list,
    "roles": roles,
    "routes": routes,
    "shifts": shifts,
}

_BLOCK: Final = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def renewed(text: str) -> str:
    """Return a document with every generated block as it should be."""
    return _BLOCK.sub(lambda found: f"{found[1]}{BLOCKS[found[2]]()}\n{found[3]}", text)


def pages() -> list[Path]:
    """Return the documents that may hold blocks."""
    return [DOCS.parent / "README.md", *sorted(DOCS.glob("*.md"))]


def main() -> None:
    """Rewrite the documents that are out of date, and name them."""
    for page in pages():
        before = page.read_text()
        after = renewed(before)
        if before != after:
            page.write_text(after)
            sys.stdout.write(f"{page.name}\n")


if __name__ == "__main__":
    main()
