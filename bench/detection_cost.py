"""What does a finding cost, beside Evidently's preset and the bare arithmetic?"""

import importlib
import json
import os
import subprocess
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import bench.detection_data as data
from app.domain.drift import Watch
from app.domain.windows import WindowCounts
from app.services.windows import AT_A_TIME
from bench.detection_data import Table
from bench.detection_support import FALSE_ALARM_ROWS, FDR, by_kind
from workers.detectors import DEFAULTS
from workers.detectors.measure import Counted, measure_window
from workers.statistics.profile import FittedReference, Seen
from workers.statistics.watching import Bettor, table_of


def cost_of(who: str, n: int) -> dict[str, float]:
    """Return CPU seconds and memory of one finding over 50 columns, in this process.

    Memory is what Python and numpy hold at most beyond what was there before, in MiB.
    """
    generator = np.random.default_rng(0)
    reference, current = (data.mixture(n, 50, generator) for _ in range(2))
    once = {"upkeep": _ours, "limit": _limit, "evidently": _evidently}[who](reference, current)
    tracemalloc.start()  # also what warms up
    once()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    seconds = []
    for _ in range(1 if who == "evidently" else 7):
        started = time.process_time()
        once()
        seconds.append(time.process_time() - started)
    return {"cpu_seconds": float(np.median(seconds)), "memory_mb": peak / 2**20}


def _ours(reference: Table, current: Table) -> Callable[[], object]:
    """Return a check in which every row is new: bins, counts, all tests, and the watch."""
    before = by_kind(reference)
    fitted = FittedReference.of(table_of(before))  # once a version; afterwards from Postgres
    sequences = np.arange(1, data.n_rows(current) + 1)
    sample = {kind: {name: v[-1000:] for name, v in t.items()} for kind, t in before.items()}
    _ = fitted.moments, fitted.bets(limit=2 * FALSE_ALARM_ROWS)

    def once() -> object:
        table = table_of(by_kind(current))
        counts = WindowCounts(len(sequences))
        bettor = Bettor.of(fitted, Watch(), false_alarm_rows=FALSE_ALARM_ROWS)
        for start in range(0, len(sequences), AT_A_TIME):
            rows = slice(start, start + AT_A_TIME)
            numbers = sequences[rows]
            part = {name: values[rows] for name, values in table.items()}
            codes = fitted.layout.codes(part, len(numbers))
            bettor = bettor.seen(codes, numbers, through=int(numbers[-1]))
            counts = counts.with_rows(fitted.layout, codes, sequences=numbers, observed_at=numbers)
        counted = Counted(fitted, Seen.of(counts, fitted.layout))
        scores = measure_window(before, sample, DEFAULTS, fdr=FDR, seed=0, counted=counted)
        return scores, bettor.watch()

    return once


def _limit(reference: Table, current: Table) -> Callable[[], object]:
    """Return the bare arithmetic: bin, count, KS, Wasserstein, PSI, Jensen-Shannon, chi-square."""
    edges = {
        name: np.quantile(values, np.linspace(0, 1, 257)[1:-1])
        for name, values in reference.items()
        if values.dtype != object
    }
    levels = {
        name: {level: i for i, level in enumerate(sorted(set(values)))}
        for name, values in reference.items()
        if values.dtype == object
    }

    def counts(table: Table) -> dict[str, NDArray[np.float64]]:
        binned = {}
        for name, values in table.items():
            if name in edges:
                codes = edges[name].searchsorted(values)
                binned[name] = np.bincount(codes, minlength=256).astype(np.float64)
            else:
                codes = np.array([levels[name].get(v, len(levels[name])) for v in values.tolist()])
                binned[name] = np.bincount(codes, minlength=len(levels[name]) + 1).astype(float)
        return binned

    fitted = counts(reference)

    def once() -> object:
        answers = []
        for name, now in counts(current).items():
            p, q = fitted[name] / fitted[name].sum(), now / now.sum()
            gap = np.cumsum(p) - np.cumsum(q)
            safe_p, safe_q = np.maximum(p, 1e-4), np.maximum(q, 1e-4)
            mean = (safe_p + safe_q) / 2
            answers.append(
                (
                    np.abs(gap).max(),
                    np.abs(gap).sum(),
                    ((safe_p - safe_q) * np.log(safe_p / safe_q)).sum(),
                    (safe_p * np.log(safe_p / mean) + safe_q * np.log(safe_q / mean)).sum(),
                    ((now - p * now.sum()) ** 2 / np.maximum(p * now.sum(), 1e-9)).sum(),
                )
            )
        return answers

    return once


def _evidently(reference: Table, current: Table) -> Callable[[], object]:
    os.environ.setdefault("DO_NOT_TRACK", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evidently = importlib.import_module("evidently")
        presets = importlib.import_module("evidently.presets")
        pandas = importlib.import_module("pandas")

    before, after = pandas.DataFrame(reference), pandas.DataFrame(current)

    def once() -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return evidently.Report([presets.DataDriftPreset()]).run(after, before).dict()

    return once


def cost(_: Path | None, quick: bool) -> list[dict[str, Any]]:
    """Measure each in a process of its own."""
    rows = []
    for n in (1000, 10_000) if quick else (1000, 10_000, 100_000):
        row: dict[str, Any] = {"rows": n, "columns": 50}
        for who in ("upkeep", "limit", "evidently"):
            row |= {f"{who}_{k}": v for k, v in _alone(who, n).items()}
        row["evidently_over_upkeep"] = row["evidently_cpu_seconds"] / row["upkeep_cpu_seconds"]
        row["upkeep_over_limit"] = row["upkeep_cpu_seconds"] / row["limit_cpu_seconds"]
        rows.append(row)
    detectors = " and ".join(name for name, _ in DEFAULTS["embedding"])
    rows.append(
        {"multivariate": f"{detectors}, 384-d, 1000 against 500", **_alone("multivariate", 0)}
    )
    return rows


def _alone(who: str, n: int) -> dict[str, float]:
    """Return what an arm measures in a process of its own, of one thread: a worker's on 2 cores."""
    answer = subprocess.run(  # ourselves
        [sys.executable, "-m", "bench.detection_cost", who, str(n)],
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    found: dict[str, float] = json.loads(answer.stdout)
    return found


def _multivariate() -> dict[str, float]:
    generator = np.random.default_rng(0)
    before, after = generator.normal(size=(1000, 384)), generator.normal(size=(500, 384))
    spent = []
    for _ in range(3):
        started = time.process_time()
        measure_window(
            {"embedding": {"e": before}}, {"embedding": {"e": after}}, DEFAULTS, fdr=FDR, seed=0
        )
        spent.append(time.process_time() - started)
    return {"upkeep_cpu_seconds": float(np.median(spent))}


if __name__ == "__main__":
    asked, size = sys.argv[1], int(sys.argv[2])
    print(json.dumps(_multivariate() if asked == "multivariate" else cost_of(asked, size)))
