"""How does the `upkeep` command show what the service said: to a person, or to a program?"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from upkeep.documents import RunDocument

WIDEST: Final = 60


def say(line: str) -> None:
    """Write one line of the result."""
    sys.stdout.write(f"{line}\n")


def remark(line: str) -> None:
    """Write one line that is not part of the result."""
    sys.stderr.write(f"{line}\n")


def show_json(value: Any) -> None:
    """Write a document for a program."""
    say(json.dumps(value, indent=2, ensure_ascii=False))


def show_table(heads: Sequence[str], rows: Iterable[Sequence[Any]], *, when_empty: str) -> None:
    """Write rows in aligned columns, numbers to the right.

    Args:
        heads: the columns' names.
        rows: values; None shows as "-".
        when_empty: what to write instead if there are none.
    """
    table = list(rows)
    if not table:
        say(when_empty)
        return
    cells = [[_cell(value) for value in row] for row in table]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    is_number = [
        all(isinstance(value, int | float) or value is None for value in column)
        and not any(isinstance(value, bool) for value in column)
        for column in zip(*table, strict=True)
    ]
    for line in [list(heads), *cells]:
        fields = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, is_number, strict=True)
        ]
        say("  ".join(fields).rstrip())


def show_facts(facts: Mapping[str, Any]) -> None:
    """Write names and values, one a line."""
    width = max(map(len, facts))
    for name, value in facts.items():
        say(f"{name.ljust(width)}  {_cell(value, widest=None)}")


def moment(value: str | None) -> str | None:
    """Return an RFC 3339 time as people read it: UTC, to the second."""
    if value is None:
        return None
    return datetime.fromisoformat(value).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _cell(value: Any, *, widest: int | None = WIDEST) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = " ".join(str(value).split())
    return text if widest is None or len(text) <= widest else f"{text[: widest - 1]}…"


def run_line(run: RunDocument) -> str:
    """Return how far a training run is, in one line."""
    progress = run["progress"] or {}
    step, total = progress.get("step"), progress.get("total_steps")
    place = run.get("queue")
    parts = [
        f"run {run['id']} {run['state']}",
        f"place {place['position']} of {place['n_waiting']}" if place else "",
        f"{progress.get('phase', '')} {step}/{total}".strip() if step and total else "",
        f"version {run['version']} {run['outcome'] or ''}".rstrip() if run["version"] else "",
        str(run["error"].get("detail", run["error"])) if run["error"] else "",
    ]
    return ", ".join(part for part in parts if part)
