"""How does a drift check look in Evidently's report, drawn with our numbers?"""

import gzip
import html as markup
import importlib
import os
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import asdict
from functools import cache
from typing import Any, Final

import numpy as np
import structlog
from numpy.typing import NDArray
from scipy import linalg

from app.domain.drift import DriftScore
from workers.detectors import as_numbers, finite_rows, is_missing

os.environ.setdefault("DO_NOT_TRACK", "1")

AT_MOST_ROWS: Final = 2000
AT_MOST_COLUMNS: Final = 8
AT_MOST_CATEGORIES: Final = 30
AT_MOST_VERDICTS: Final = 200
N_COMPONENTS: Final = 3
METHOD: Final = "upkeep"
HARMLESS: Final = str.maketrans("<>&", "‹›＆")

Columns = Mapping[str, Mapping[str, NDArray[Any]]]
Drawable = dict[str, tuple[str, NDArray[Any], NDArray[Any], DriftScore]]

log = structlog.get_logger()
_verdicts: ContextVar[Mapping[str, tuple[float, bool]]] = ContextVar("verdicts")


@cache
def _library() -> tuple[Any, Any]:
    """Import Evidently, 7 s of CPU, and teach it our verdicts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evidently = importlib.import_module("evidently")
        stattests = importlib.import_module("evidently.legacy.calculations.stattests")
        types = importlib.import_module("evidently.legacy.core").ColumnType
        pandas = importlib.import_module("pandas")
    stattests.register_stattest(
        stattests.StatTest(
            name=METHOD,
            display_name="Upkeep (q-value)",
            allowed_feature_types=[types.Numerical, types.Categorical],
            default_threshold=0.05,
        ),
        _verdict,
    )
    return evidently, pandas


def _verdict(
    reference: Any, current: Any, column_type: Any, threshold: float
) -> tuple[float, bool]:
    """Answer Evidently's question for a column with what was concluded before."""
    return _verdicts.get()[str(reference.name)]


def build_report(
    reference: Columns, current: Columns, scores: Sequence[DriftScore]
) -> tuple[bytes, dict[str, Any]]:
    """Return Evidently's HTML report (gzipped) and its JSON, both with our q-values and verdicts.

    The page opens with our verdict of every signal, drifted ones first (`AT_MOST_VERDICTS`).
    Evidently draws at most `AT_MOST_COLUMNS` of them, drifted and least likely ones first, on
    at most `AT_MOST_ROWS` rows a side; an embedding by the first principal components of its
    reference, the scores of classes by those that moved most. What cannot be drawn is listed
    under `undrawn` with a reason; nothing here raises for what the data hold. Evidently writes
    categories and names into a script element as they are, so their angle brackets are replaced
    by look-alikes: an observation cannot carry a script into the page. About 0.1 s of CPU a
    signal, plus 7 s once a process for Evidently's import.

    Args:
        reference: kind to name to values, as `measure_window` takes them.
        current: the same for the current window.
        scores: what was measured and judged.
    """
    started = time.process_time()
    drawable, undrawn = _drawable(reference, current, scores)
    page, drawn_dict = _drawn(drawable, undrawn)
    page = _with_verdicts(_plain_page(undrawn) if page is None else page, scores)
    compressed = gzip.compress(page.encode(), compresslevel=6, mtime=0)
    return compressed, {
        "scores": [asdict(score) for score in scores],
        "drawn": [label for label in drawable if label not in undrawn],
        "undrawn": undrawn,
        "evidently": drawn_dict,
        "html_bytes": len(page.encode()),
        "gzip_bytes": len(compressed),
        "cpu_seconds": round(time.process_time() - started, 3),
    }


def _with_verdicts(page: str, scores: Sequence[DriftScore]) -> str:
    """Return a page that opens with a table of what was concluded of each signal."""
    rows = []
    for score in sorted(scores, key=_most_striking_first)[:AT_MOST_VERDICTS]:
        cells = (
            score.feature,
            "drifted" if score.drifted else "no drift",
            score.kind if score.drifted else "",
            _figure(score.q_value),
            _figure(score.effect),
            _figure(score.threshold),
            score.detector,
        )
        rows.append("".join(f"<td>{markup.escape(cell)}</td>" for cell in cells))
    n_drifted = sum(score.drifted for score in scores)
    table = (
        "<section style='font:14px sans-serif;margin:24px;max-height:24em;overflow:auto'>"
        f"<h1>Upkeep: {n_drifted} of {len(scores)} signals drifted</h1>"
        "<table cellpadding='4'><tr align='left'><th>Signal<th>Verdict<th>What moved<th>q-value"
        "<th>Effect<th>Tolerated<th>Detector</tr>"
        f"{''.join(f'<tr>{row}</tr>' for row in rows)}</table></section>"
    )
    start = page.index(">", page.index("<body")) + 1
    return page[:start] + table + page[start:]


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _most_striking_first(score: DriftScore) -> tuple[bool, float]:
    return not score.drifted, 2.0 if score.p_value is None else score.p_value


def _drawable(
    reference: Columns, current: Columns, scores: Sequence[DriftScore]
) -> tuple[Drawable, dict[str, str]]:
    """Return what can be drawn, most striking first, and why the rest cannot."""
    kinds = {name: kind for kind, columns in reference.items() for name in columns}
    chosen: Drawable = {}
    undrawn: dict[str, str] = {}
    seen: set[str] = set()
    for score in sorted(scores, key=_most_striking_first):
        name, kind = score.feature, kinds.get(score.feature)
        if name in seen:
            continue
        seen.add(name)
        before = reference.get(kind or "", {}).get(name)
        after = current.get(kind or "", {}).get(name)
        if before is None or after is None:
            undrawn[name] = "absent from one side"
            continue
        classes = score.detail.get("classes")
        pairs = _pairs(name, str(kind), np.asarray(before), np.asarray(after), classes)
        if isinstance(pairs, str):
            undrawn[name] = pairs
        elif len(chosen) + len(pairs) > AT_MOST_COLUMNS:
            undrawn[name] = f"only {AT_MOST_COLUMNS} signals are drawn"
        else:
            chosen |= {_unused(label, chosen): (*sides, score) for label, sides in pairs.items()}
    return chosen, undrawn


def _unused(label: str, chosen: Drawable) -> str:
    """Return a label that cannot carry markup and that no other signal has."""
    label = label.translate(HARMLESS)
    while label in chosen:
        label += "′"
    return label


def _pairs(
    name: str,
    kind: str,
    before: NDArray[Any],
    after: NDArray[Any],
    classes: Sequence[Mapping[str, Any]] | None,
) -> dict[str, tuple[str, NDArray[Any], NDArray[Any]]] | str:
    """Return one signal's columns to draw, or why there are none."""
    if kind in {"numeric", "categorical"}:
        if kind == "numeric":
            before, after = as_numbers(before), as_numbers(after)
        before, after = _thinned(before), _thinned(after)
        if is_missing(before).all() or is_missing(after).all():
            return "no values on one side"
        return {
            name: (kind, *((before, after) if kind == "numeric" else _commonest(before, after)))
        }
    if kind == "embedding" and classes:
        before, after = _thinned(before), _thinned(after)
        return {
            f"{name} of {one['label']}": ("numeric", before[:, at], after[:, at])
            for one in classes[:N_COMPONENTS]
            for at in [one["index"]]
        }
    if kind == "embedding":
        return _components(name, finite_rows(before), finite_rows(after))
    return f"{kind} signals are not drawn"


def _components(
    name: str, before: NDArray[np.float64], after: NDArray[np.float64]
) -> dict[str, tuple[str, NDArray[Any], NDArray[Any]]] | str:
    """Return an embedding's rows along the first principal components of its reference."""
    if not before.size or not after.size or before.shape[1] != after.shape[1]:
        return "no comparable rows"
    before, after = _thinned(before), _thinned(after)
    mean = before.mean(axis=0)
    left, right = before - mean, after - mean
    n_dimensions = left.shape[1]
    shown = [max(0, n_dimensions - N_COMPONENTS), n_dimensions - 1]  # of the largest spread
    directions = linalg.eigh(left.T @ left, subset_by_index=shown)[1][:, ::-1]
    left, right = left @ directions, right @ directions
    return {
        f"{name}, component {i + 1}": ("numeric", left[:, i], right[:, i])
        for i in range(directions.shape[1])
    }


def _thinned(values: NDArray[Any]) -> NDArray[Any]:
    """Return at most `AT_MOST_ROWS` rows, evenly spaced."""
    if len(values) <= AT_MOST_ROWS:
        return values
    return values[np.linspace(0, len(values) - 1, AT_MOST_ROWS).astype(np.int64)]


def _commonest(before: NDArray[Any], after: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return both sides as strings, missing ones None, rare categories as one."""
    sides = [
        [
            None if gone else str(value)[:60].translate(HARMLESS)
            for value, gone in zip(side, is_missing(side), strict=True)
        ]
        for side in (before, after)
    ]
    counts = Counter(value for side in sides for value in side if value is not None)
    kept = {value for value, _ in counts.most_common(AT_MOST_CATEGORIES)}
    left, right = (
        np.array([v if v is None or v in kept else "(other)" for v in side], dtype=object)
        for side in sides
    )
    return left, right


def _drawn(drawable: Drawable, undrawn: dict[str, str]) -> tuple[str | None, dict[str, Any] | None]:
    """Return the page and the dictionary of what Evidently can draw; add what it cannot."""
    if not drawable:
        return None, None
    try:
        return _evidently(drawable)
    except Exception as failure:  # noqa: BLE001  # Evidently fails on odd columns in many ways
        log.warning("drift_report.failed", n_signals=len(drawable), error=str(failure))
        if len(drawable) == 1:
            undrawn.update(dict.fromkeys(drawable, f"Evidently failed: {failure}"))
            return None, None
    sound: Drawable = {}
    for name, column in drawable.items():
        try:
            _evidently({name: column})
        except Exception as failure:  # noqa: BLE001  # this turn's column only
            undrawn[name] = f"Evidently failed: {failure}"
        else:
            sound[name] = column
    if not sound or len(sound) == len(drawable):
        undrawn.update(dict.fromkeys(sound, "Evidently failed on these signals together"))
        return None, None
    return _drawn(sound, undrawn)


def _evidently(drawable: Drawable) -> tuple[str, dict[str, Any]]:
    evidently, pandas = _library()
    names = {
        kind: [n for n, column in drawable.items() if column[0] == kind]
        for kind in ("numeric", "categorical")
    }
    definition = evidently.DataDefinition(
        numerical_columns=names["numeric"], categorical_columns=names["categorical"]
    )
    token = _verdicts.set(
        {
            name: (
                float(score.effect or 0.0) if score.q_value is None else score.q_value,
                bool(score.drifted),
            )
            for name, (_, _, _, score) in drawable.items()
        }
    )
    state = np.random.get_state()
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            current, reference = (
                evidently.Dataset.from_pandas(
                    pandas.DataFrame(
                        {name: pandas.Series(column[side]) for name, column in drawable.items()}
                    ),
                    data_definition=definition,
                )
                for side in (2, 1)
            )
            metrics = importlib.import_module("evidently.metrics")
            drawn = [  # what the preset computes; drawn by it, each signal would be drawn twice
                metrics.DriftedColumnsCount(columns=list(drawable), method=METHOD),
                *(metrics.ValueDrift(column=name, method=METHOD) for name in drawable),
            ]
            run = evidently.Report(drawn).run(current, reference)
            return run.get_html_str(as_iframe=False), run.dict()
    finally:
        _verdicts.reset(token)
        np.random.set_state(state)


def _plain_page(undrawn: Mapping[str, str]) -> str:
    rows = "".join(
        f"<li>{markup.escape(name)}: {markup.escape(reason)}</li>"
        for name, reason in undrawn.items()
    )
    return (
        "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>Drift report</title>"
        f"</head><body><h1>Nothing to draw</h1><ul>{rows}</ul></body></html>"
    )
