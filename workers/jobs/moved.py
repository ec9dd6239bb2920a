"""What do people look at when something has drifted: which values, rows and classes?"""

import base64
import io
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import structlog
from numpy.typing import NDArray

from app.domain import spans
from app.domain.drift import DriftScore, Watch
from app.domain.observations import FieldType, Observation
from app.services.windows import Window
from workers.jobs.class_scores import SIGNAL
from workers.jobs.context import current as this_worker
from workers.statistics.histograms import histogram
from workers.statistics.neighbours import strangeness
from workers.training.errors import DataError
from workers.training.pictures import decode

Columns = Mapping[str, Mapping[str, NDArray[Any]]]

AT_MOST_HISTOGRAMS: Final = 30
N_EXEMPLARS: Final = 6
N_CLASSES: Final = 3
STRANGE: Final = 0.95
COLUMNS: Final = frozenset({FieldType.NUMBER, FieldType.CATEGORY, FieldType.BOOLEAN})
EXCERPT: Final = 160
THUMBNAIL: Final = 48
AT_MOST_ROWS: Final = 2000
"""Rows a side that distances are taken of: memory grows with their square."""

log = structlog.get_logger()


def illustration(
    window: Window,
    reference: Columns,
    current: Columns,
    scores: Sequence[DriftScore],
    watch: Watch,
) -> dict[str, Any]:
    """Return `what_moved` under its name in a report's body; nothing where it cannot be made.

    It illustrates what was measured: whatever it fails with, the check goes on without it.
    """
    try:
        found = what_moved(window, reference, current, scores, watch)
        _check_storable(found)
    except Exception:  # a check must outlive its illustration
        log.exception("drift_report.part_lost", model=window.model.name, part="moved")
        this_worker().count_lost("moved")
        return {}
    return {"moved": found}


def _check_storable(found: dict[str, Any]) -> None:
    """Raise ValueError where Postgres would not take it as JSON, which would cost the report."""
    written = json.dumps(found, allow_nan=False, ensure_ascii=False)
    written.encode()
    if "\\u0000" in written.replace("\\\\", ""):
        raise ValueError("a text holds the NUL character")


def what_moved(
    window: Window,
    reference: Columns,
    current: Columns,
    scores: Sequence[DriftScore],
    watch: Watch,
) -> dict[str, Any]:
    """Return histograms of the columns that drifted, and the rows that are most unlike any before.

    JSON values of bounded size: at most `AT_MOST_HISTOGRAMS` columns and `N_EXEMPLARS` rows, of
    which an excerpt or a small picture is kept beside the id. It is part of a report's body, and
    forgotten with it; where the policy has inputs forgotten, the ids alone are kept.
    """
    moved = [score.feature for score in scores if score.drifted]
    moved += [name for name in [watch.leader] if name and name not in moved]
    found: dict[str, Any] = {"histograms": {}, "exemplars": [], "classes": {}}
    for kind in ("numeric", "categorical"):
        for name in moved:
            before = reference.get(kind, {}).get(name)
            after = current.get(kind, {}).get(name)
            if before is not None and after is not None:
                found["histograms"][name] = histogram(before, after)
    found["histograms"] |= _of_classes(reference, current, scores)
    found["histograms"] = dict(list(found["histograms"].items())[:AT_MOST_HISTOGRAMS])
    sides = [columns.get("embedding", {}).get("embedding") for columns in (reference, current)]
    if any(score.drifted for score in scores) and all(_is_whole(side) for side in sides):
        found |= _strangest(window, reference, current)
    return found


def _of_classes(
    reference: Columns, current: Columns, scores: Sequence[DriftScore]
) -> dict[str, dict[str, Any]]:
    """Return histograms of the scores of the classes that moved most, where scores drifted."""
    found = {}
    sides = [columns.get("embedding", {}).get(SIGNAL) for columns in (reference, current)]
    for score in scores:
        if score.feature == SIGNAL and score.drifted:
            for one in score.detail.get("classes", ())[:N_CLASSES]:
                before, after = (np.asarray(side)[:, one["index"]] for side in sides)
                found[f"{SIGNAL} of {one['label']}"] = histogram(before, after)
    return found


def _is_whole(rows: NDArray[Any] | None) -> bool:
    return rows is not None and rows.size > 0 and bool(np.isfinite(rows).all())


def _strangest(window: Window, reference: Columns, current: Columns) -> dict[str, Any]:
    sides = [columns["embedding"]["embedding"] for columns in (reference, current)]
    before, now = (_places(len(side)) for side in sides)
    strange, nearest = strangeness(sides[0][before], sides[1][now])
    first = np.argsort(-strange, kind="stable")[:N_EXEMPLARS]
    known = [window.reference[i] for i in before]
    seen = [window.current[i] for i in now]
    are_classes = "prediction" in current["categorical"]
    answers = _answers(current, seen, now)
    usual = reference["categorical"]["prediction"].tolist() if are_classes else []
    labels = [row.label for row in known]
    if "n_spans" in current["numeric"]:
        labels = [_in_words(label) for label in labels]
    are_strange = np.flatnonzero(strange >= STRANGE).tolist()
    return {
        "exemplars": [
            {
                "observation": seen[i].id,
                "at": seen[i].at.isoformat(),
                "prediction": _answer_shown(answers[i]),
                "strangeness": min(float(strange[i]), 1.0),
                **_shown(window, seen[i].inputs),
                "nearest": {
                    "label": labels[nearest[i]],
                    **_shown(window, known[nearest[i]].inputs),
                },
            }
            for i in first.tolist()
        ],
        "classes": {
            "n_strange": len(are_strange),
            "n_expected": round((1 - STRANGE) * len(strange), 1),
            **{
                name: in_surplus(chosen, all_of_them) if are_classes else []
                for name, chosen, all_of_them in (
                    ("predicted", [answers[i] for i in are_strange], answers),
                    ("nearest", [labels[nearest[i]] for i in are_strange], labels),
                    ("more", answers, usual),
                    ("fewer", usual, answers),
                )
            },
        },
    }


def _answers(columns: Columns, rows: Sequence[Observation], places: NDArray[np.int64]) -> list[Any]:
    """Return the answers of rows, given with their places: classes, numbers, or spans in words."""
    for kind in ("categorical", "numeric"):
        if "prediction" in columns[kind]:
            return list(columns[kind]["prediction"][places].tolist())
    return [_in_words(row.prediction) for row in rows]


def _in_words(text: str | None) -> str:
    said = spans.in_words(spans.read(text))
    return said if len(said) <= EXCERPT else f"{said[:EXCERPT]}…"


def _answer_shown(answer: Any) -> Any:
    """Return an answer as JSON has it; None for a number that is missing."""
    return None if isinstance(answer, float) and not math.isfinite(answer) else answer


def _places(n: int) -> NDArray[np.int64]:
    """Return the places of at most `AT_MOST_ROWS` of n rows, evenly spaced."""
    return np.linspace(0, n - 1, min(n, AT_MOST_ROWS)).astype(np.int64)


def in_surplus(chosen: Sequence[Any], all_of_them: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the classes most over-represented among the chosen, with both shares."""
    n, m = max(len(chosen), 1), max(len(all_of_them), 1)
    own, common = (Counter(v for v in side if v is not None) for side in (chosen, all_of_them))
    gaps = {label: count / n - common[label] / m for label, count in own.items()}
    first = sorted(gaps, key=lambda label: (-gaps[label], label))[:N_CLASSES]
    return [
        {"label": label, "share": own[label] / n, "usual_share": common[label] / m}
        for label in first
        if gaps[label] > 0
    ]


def _shown(window: Window, inputs: Mapping[str, Any]) -> dict[str, str]:
    """Return an excerpt of the first text, or the first picture made small, or else the columns.

    No private field is shown.
    """
    if window.policy.retention.inputs_days is not None:  # a report may outlive its rows
        return {}
    for field in window.model.contract.fields:
        if field.privacy is not None:
            continue
        value = inputs.get(field.name)
        if field.type is FieldType.TEXT and isinstance(value, str):
            return {"text": value if len(value) <= EXCERPT else f"{value[:EXCERPT]}…"}
        if field.type is FieldType.IMAGE and isinstance(value, str):
            try:
                return {"picture": thumbnail(value)}
            except DataError:
                continue
    return _columns_shown(window, inputs)


def _columns_shown(window: Window, inputs: Mapping[str, Any]) -> dict[str, str]:
    """Return an excerpt of the columns of a row that has neither text nor picture."""
    cells = [
        f"{field.name} {inputs[field.name]}"
        for field in window.model.contract.fields
        if field.type in COLUMNS and field.privacy is None and field.name in inputs
    ]
    text = ", ".join(cells)
    return {"text": text if len(text) <= EXCERPT else f"{text[:EXCERPT]}…"} if text else {}


def thumbnail(value: str) -> str:
    """Return a picture as the base64 of a PNG of at most `THUMBNAIL` pixels a side.

    Raises:
        DataError: it is no picture.
    """
    picture = decode(value).convert("RGB")
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()
