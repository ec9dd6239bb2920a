"""What does the Evidently report of a check cost, whatever it is asked to draw?"""

import time
from pathlib import Path
from typing import Any

import numpy as np

import bench.detection_data as data
from bench.detection_support import FDR, by_kind
from workers.detectors import DEFAULTS
from workers.detectors.evidently_report import build_report
from workers.detectors.measure import measure_window

Columns = dict[str, dict[str, Any]]


def inputs(*, quick: bool) -> dict[str, tuple[Columns, Columns]]:
    """Return references and windows of every sort, each with something drifted."""
    generator = np.random.default_rng(0)
    n_many = 10_000 if quick else 100_000

    def moved(table: data.Table) -> data.Table:
        return {
            name: values + 1.0 if values.dtype != object else values[::-1]
            for name, values in table.items()
        }

    wide, long = data.mixture(2000, 200, generator), data.mixture(2 * n_many, 50, generator)
    null = {f"n{i}": np.full(1000, np.nan) for i in range(20)}
    null |= {f"c{i}": np.full(1000, None, dtype=object) for i in range(20)}
    words = np.array([f"word{i}" for i in range(5000)])
    texts = [
        np.array([" ".join(generator.choice(words[:k], 200)) for _ in range(1000)], dtype=object)
        for k in (4000, 5000)
    ]
    unique = [np.array([f"{side}{i}" for i in range(1000)], dtype=object) for side in "ab"]
    clouds = [generator.normal(size=(n, 768)) + n / 1e4 for n in (2000, 1000)]
    pictures = [
        {f"signal {i}": generator.normal(size=n) + n / 1e4 for i in range(6)} for n in (2000, 1000)
    ]
    halves = np.arange(n_many)
    return {
        "200 columns": (
            by_kind(data.rows_of(wide, np.arange(1000))),
            by_kind(moved(data.rows_of(wide, np.arange(1000, 2000)))),
        ),
        f"{n_many} rows x 50 columns": (
            by_kind(data.rows_of(long, halves)),
            by_kind(moved(data.rows_of(long, halves + n_many))),
        ),
        "all null": (by_kind(null), by_kind(null)),
        "null now": (
            by_kind(data.rows_of(wide, np.arange(1000))),
            by_kind(
                {
                    name: np.full(1000, None, dtype=object)
                    if v.dtype == object
                    else np.full(1000, np.nan)
                    for name, v in wide.items()
                }
            ),
        ),
        "texts of 200 words": ({"text": {"text": texts[0]}}, {"text": {"text": texts[1]}}),
        "every category once": (
            {"categorical": {f"id{i}": unique[0] for i in range(20)}},
            {"categorical": {f"id{i}": unique[1] for i in range(20)}},
        ),
        "embeddings, 768-d": (
            {"embedding": {"embedding": clouds[0]}},
            {"embedding": {"embedding": clouds[1]}},
        ),
        "pictures: signals and embeddings": (
            {"numeric": pictures[0], "embedding": {"embedding": clouds[0]}},
            {"numeric": pictures[1], "embedding": {"embedding": clouds[1]}},
        ),
    }


def evidently(_: Path | None, quick: bool) -> list[dict[str, Any]]:
    """Draw each in one process, warmed by a first small report."""
    rows = []
    warm = by_kind(data.mixture(100, 5, np.random.default_rng(1)))
    build_report(warm, warm, measure_window(warm, warm, DEFAULTS, fdr=FDR, seed=0))
    for name, (reference, current) in inputs(quick=quick).items():
        selected = {**DEFAULTS}
        scores = measure_window(reference, current, selected, fdr=FDR, seed=0)
        spent = []
        for _turn in range(1 if quick else 3):
            started = time.process_time()
            html, body = build_report(reference, current, scores)
            spent.append(time.process_time() - started)
        rows.append(
            {
                "input": name,
                "cpu_seconds": float(np.median(spent)),
                "drawn": len(body["drawn"]),
                "html_gzip_bytes": len(html),
            }
        )
        print(rows[-1])
    return rows
