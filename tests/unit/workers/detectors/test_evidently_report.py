"""Evidently's report shows our verdicts, whatever the data hold."""

import gzip
import json
import os
from typing import Any

import numpy as np
import pytest

import workers.detectors
from app.domain.registry import scan
from workers.detectors import DEFAULTS
from workers.detectors.evidently_report import AT_MOST_COLUMNS, build_report
from workers.detectors.measure import measure_window

scan(workers.detectors)
SCRIPT = "</script><script>alert('marked')</script>"


def window(n: int, seed: int, *, shift: float = 0.0) -> dict[str, dict[str, Any]]:
    rng = np.random.default_rng(seed)
    letters = np.array(["a", "b", SCRIPT, None], dtype=object)
    return {
        "numeric": {
            "moved": rng.normal(shift, 1, n),
            "still": rng.normal(size=n),
            "constant": np.ones(n),
            SCRIPT: rng.normal(size=n),
        },
        "categorical": {"letter": rng.choice(letters, n)},
        "embedding": {"features": rng.normal(size=(n, 16))},
    }


def reported(reference: Any, current: Any) -> tuple[str, dict[str, Any]]:
    scores = measure_window(reference, current, DEFAULTS, fdr=0.05, seed=0)
    page, document = build_report(reference, current, scores)
    json.dumps(document, allow_nan=False)
    return gzip.decompress(page).decode(), document


def test_nothing_to_draw_is_still_a_page() -> None:
    page, document = reported({}, {})
    assert "Nothing to draw" in page
    assert document["evidently"] is None
    empty = {"numeric": {"x<y": np.array([])}}
    page, document = reported(empty, empty)
    assert "x&lt;y" in page
    assert document["undrawn"] == {"x<y": "no values on one side"}


def test_telemetry_is_off() -> None:
    assert os.environ["DO_NOT_TRACK"]


@pytest.mark.slow
def test_the_report_carries_our_q_values_and_no_script_of_an_observation() -> None:
    reference, current = window(3000, 1), window(500, 2, shift=0.5)
    current["numeric"]["still"][:] = np.nan
    state = np.random.get_state()[1].copy()
    page, document = reported(reference, current)
    assert np.array_equal(state, np.random.get_state()[1])
    q_values = {score["feature"]: score["q_value"] for score in document["scores"]}
    shown = {
        metric["config"]["column"]: metric["value"]
        for metric in document["evidently"]["metrics"]
        if "column" in metric["config"]
    }
    assert shown["moved"] == q_values["moved"]
    assert document["undrawn"] == {"still": "no values on one side"}
    verdicts = {score["feature"]: score for score in document["scores"]}
    for name in ("moved", "still", "constant"):
        verdict = verdicts[name]
        said = "drifted" if verdict["drifted"] else "no drift"
        moved = verdict["kind"] if verdict["drifted"] else ""
        assert f"<td>{name}</td><td>{said}</td><td>{moved}</td>" in page
        assert f"<td>{verdict['effect']:.3g}</td>" in page
    assert verdicts["moved"]["drifted"]
    assert "Data drift detected. Drift detection method: Upkeep (q-value)" in page
    assert document["html_bytes"] > document["gzip_bytes"]
    assert SCRIPT not in page
    assert "</script><script>alert" not in json.dumps(document["evidently"])


@pytest.mark.slow
def test_many_odd_columns_are_capped_and_never_raise() -> None:
    rng = np.random.default_rng(0)
    odd = {f"n{i}": rng.normal(size=60) for i in range(20)} | {
        "one value": np.r_[1.0, np.full(59, np.nan)],
        "huge": rng.normal(size=60) * 1e300,
        "integers": np.arange(60),
    }
    unique = np.array([f"row {i}" for i in range(60)], dtype=object)
    columns = {"numeric": odd, "categorical": {"unique": unique}}
    scores = measure_window(columns, columns, DEFAULTS, fdr=0.05, seed=0)
    odd_first = sorted(scores, key=lambda score: score.feature.startswith("n"))
    page, document = build_report(columns, columns, odd_first)
    assert len(document["drawn"]) <= AT_MOST_COLUMNS
    assert set(document["drawn"]) | set(document["undrawn"]) >= {"one value", "huge", "unique"}
    assert b"</html>" in gzip.decompress(page)
