"""Are the findings cheap, calibrated, quick and rightly named? Beside Evidently and others.

    python bench/detection.py [cost null repeated delay power] [--data FOLDER] [--quick]

- cost: CPU and memory of a whole finding (every test with its q-value, effect and kind, and the
  update of the sequential watch) beside Evidently's preset and the bare numpy limit.
- null: share of quiet windows with a finding, at a false discovery rate of 5 %.
- repeated: false alarms of a watched model over a million quiet rows, checked every 200.
- delay: rows until an alarm after one Gaussian signal changed, beside Evidently's rule, ADWIN,
  KSWIN and Page-Hinkley.
- power: share of windows with a known shift that are found, by test; what was named, and how.

Writes bench/results/detection_<section>.json and prints tables. `--quick` takes a tenth of the
repetitions. The folder of the real streams (or UPKEEP_DATA) is optional.
"""

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import detection_data as data  # noqa: E402  # the file beside this one

import workers.detectors  # noqa: E402
from app.domain.drift import Watch, benjamini_hochberg, next_look  # noqa: E402
from app.domain.registry import scan  # noqa: E402
from app.domain.sequential import Wealth  # noqa: E402
from workers.detectors import DEFAULTS, configured  # noqa: E402
from workers.detectors.measure import measure_window  # noqa: E402
from workers.statistics.profile import FittedReference  # noqa: E402
from workers.statistics.watching import watch_window  # noqa: E402

scan(workers.detectors)
RESULTS = HERE / "results"
FDR = 0.05
LIMIT = 20_000.0
Table = data.Table


def by_kind(table: Table) -> dict[str, Table]:
    """Return a table's columns as a check sees them."""
    return {
        "numeric": {name: v for name, v in table.items() if v.dtype != object},
        "categorical": {name: v for name, v in table.items() if v.dtype == object},
    }


def found(reference: Table, current: Table) -> list[Any]:
    """Return the scores of a window with the default detectors."""
    return measure_window(by_kind(reference), by_kind(current), DEFAULTS, fdr=FDR, seed=0)


# --- cost -----------------------------------------------------------------------------------------


def cost_of(who: str, n: int) -> dict[str, float]:
    """Return CPU seconds and memory (MB) of one finding over 50 columns, in this process."""
    generator = np.random.default_rng(0)
    reference, current = (data.mixture(n, 50, generator) for _ in range(2))
    once = {"upkeep": _ours, "limit": _limit, "evidently": _evidently}[who](reference, current)
    if who != "evidently":
        once()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(1 if who == "evidently" else 7):
        started = time.process_time()
        once()
        seconds.append(time.process_time() - started)
    rise = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"cpu_seconds": float(np.median(seconds)), "memory_mb": rise / 1024}


def _ours(reference: Table, current: Table) -> Callable[[], object]:
    before = by_kind(reference)
    sequences = range(1, data.n_rows(current) + 1)
    measure_window(
        before, by_kind(data.rows_of(current, np.arange(100))), DEFAULTS, fdr=FDR, seed=0
    )
    watch_window(
        before, by_kind(current), Watch(), sequences=[1], false_alarm_rows=LIMIT / 2
    )  # fits what a version's reference is fitted to once

    def once() -> object:
        fresh = {name: values.copy() for name, values in current.items()}
        window = by_kind(fresh)
        scores = measure_window(before, window, DEFAULTS, fdr=FDR, seed=0)
        return scores, watch_window(
            before, window, Watch(), sequences=sequences, false_alarm_rows=LIMIT / 2
        )

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
            answer = subprocess.run(  # ourselves
                [sys.executable, __file__, "--cost-of", who, str(n)],
                check=True,
                capture_output=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            row |= {f"{who}_{k}": v for k, v in json.loads(answer.stdout).items()}
        row["evidently_over_upkeep"] = row["evidently_cpu_seconds"] / row["upkeep_cpu_seconds"]
        row["upkeep_over_limit"] = row["upkeep_cpu_seconds"] / row["limit_cpu_seconds"]
        rows.append(row)
    rows.append({"multivariate": "classifier and MMD, 384-d, 1000 against 500", **_multivariate()})
    return rows


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


# --- false alarms ---------------------------------------------------------------------------------


def null(folder: Path | None, quick: bool) -> list[dict[str, Any]]:
    """Draw disjoint references and windows from one set, and count findings."""
    rows = []
    for name, (table, n, m) in data.null_sets(folder, np.random.default_rng(1)).items():
        n_pairs = 100 if quick else 1000
        alarms = 0
        for i in range(n_pairs):
            order = np.random.default_rng([2, i]).permutation(data.n_rows(table))
            scores = found(data.rows_of(table, order[:n]), data.rows_of(table, order[n : n + m]))
            alarms += any(score.drifted for score in scores)
        rows.append({"data": name, "pairs": n_pairs, "share_with_a_finding": alarms / n_pairs})
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


STREAMS: dict[str, Callable[[np.random.Generator, int], NDArray[np.float64]]] = {
    "Gaussian": lambda g, n: g.normal(size=n),
    "skewed (lognormal)": lambda g, n: g.lognormal(size=n),
    "discrete (Poisson 3)": lambda g, n: g.poisson(3, size=n).astype(np.float64),
    "heavy-tailed (t, 2)": lambda g, n: g.standard_t(2, size=n),
}


def repeated(_: Path | None, quick: bool) -> list[dict[str, Any]]:
    """Check models of five quiet signals every 200 rows, as the service would; count alarms.

    Each model has a reference of its own (2,000 rows) and is watched for 10,000 rows; a finding
    that stands is one alarm.
    """
    rows = []
    for name, draw in STREAMS.items():
        n_models = 10 if quick else 100
        counts: Counter[str] = Counter()
        for model in range(n_models):
            counts += _watched(draw, np.random.default_rng([3, model]))
        rows.append(
            {
                "data": name,
                "rows": n_models * 10_000,
                "false_alarms": counts["alarms"],
                "from_windows": counts["windows"],
                "from_bets": counts["bets"],
                "per_10_000_rows": counts["alarms"] / n_models,
            }
        )
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def _watched(
    draw: Callable[[np.random.Generator, int], NDArray[np.float64]], generator: np.random.Generator
) -> Counter[str]:
    before, stream = ({f"x{i}": draw(generator, n) for i in range(5)} for n in (2000, 10_000))
    reference = by_kind(before)
    watch, stood = Watch(), False
    counts: Counter[str] = Counter()
    for end in range(200, 10_001, 200):
        first = max(0, end - 1000)
        window = by_kind(data.rows_of(stream, np.arange(first, end)))
        n_fresh = end - max(first, watch.looked_through)
        level, is_look = next_look(
            watch, n_fresh=n_fresh, minimum_rows=50, fdr=FDR, false_alarm_rows=LIMIT / 2
        )
        scores = measure_window(reference, window, DEFAULTS, fdr=max(level, 1e-300), seed=0)
        watch = watch_window(
            reference,
            window,
            watch,
            sequences=range(first + 1, end + 1),
            false_alarm_rows=LIMIT / 2,
        )
        drifted = any(score.drifted for score in scores)
        rang = watch.value >= watch.limit
        counts["windows"] += drifted and not stood
        counts["bets"] += rang
        counts["alarms"] += (drifted or rang) and not stood
        stood = drifted
        looked = end if is_look else watch.looked_through
        watch = Watch(
            **{**_fields(watch), "level": level, "looked_through": looked, "stood": drifted}
        )
    return counts


def _fields(watch: Watch) -> dict[str, Any]:
    return {name: getattr(watch, name) for name in Watch.__dataclass_fields__}


# --- delay ----------------------------------------------------------------------------------------

CHANGES: dict[str, Callable[[np.random.Generator, int], NDArray[np.float64]]] = {
    "mean +0.5 sd": lambda g, n: g.normal(0.5, 1, n),
    "sd x 1.5": lambda g, n: g.normal(0, 1.5, n),
    "30 % mixture": lambda g, n: np.where(g.random(n) < 0.3, g.normal(3, 1, n), g.normal(size=n)),
}


def delay(_: Path | None, quick: bool) -> list[dict[str, Any]]:
    """Let each detector watch one signal row by row; rows to the first alarm after a change."""
    n_streams, quiet, longest = (10 if quick else 100), 500, 2000
    rows: list[dict[str, Any]] = []
    detectors = {"upkeep": _bets_alarms, **_rivals()}
    for who, alarms in detectors.items():
        row: dict[str, Any] = {"detector": who}
        n_false = 0
        n_quiet = max(2, n_streams // 5)
        for i in range(n_quiet):
            generator = np.random.default_rng([4, i])
            reference, stream = generator.normal(size=5000), generator.normal(size=10_000)
            n_false += len(alarms(reference, stream))
        row["false_alarms_per_10_000"] = n_false / n_quiet
        for change, draw in CHANGES.items():
            waits = []
            for i in range(n_streams):
                generator = np.random.default_rng([5, i])
                reference = generator.normal(size=5000)
                stream = np.concatenate([generator.normal(size=quiet), draw(generator, longest)])
                after = [at for at in alarms(reference, stream) if at >= quiet]
                waits.append(after[0] - quiet + 1 if after else np.inf)
            row[change] = float(np.median(waits))
            row[f"{change}, missed"] = float(np.mean(np.isinf(waits)))
        rows.append(row)
        print(row, file=sys.stderr, flush=True)
    return rows


def _bets_alarms(reference: NDArray[np.float64], stream: NDArray[np.float64]) -> list[int]:
    """Return the rows at which the bets alarm, one model of one signal at one alarm in 10,000."""
    fitted = FittedReference.of({"x": reference})
    bets, _ = fitted.bets(limit=LIMIT / 2)
    return fitted.alarms({"x": stream}, Wealth.of(bets), limit=LIMIT / 2)


def _rivals() -> dict[str, Callable[[Any, Any], list[int]]]:
    drift = importlib.import_module("river.drift")

    def streamed(make: Callable[[], Any]) -> Callable[[Any, Any], list[int]]:
        def alarms(reference: Any, stream: Any) -> list[int]:
            detector, places = make(), []
            for value in reference[-1000:]:
                detector.update(float(value))
                if detector.drift_detected:
                    detector = make()
            for place, value in enumerate(stream):
                detector.update(float(value))
                if detector.drift_detected:
                    places.append(place)
                    detector = make()
            return places

        return alarms

    def evidently_rule(reference: Any, stream: Any) -> list[int]:
        spread = reference.std()
        return [
            end - 1
            for end in range(200, len(stream) + 1, 200)
            if stats.wasserstein_distance(reference, stream[end - 200 : end]) / spread >= 0.1
        ]

    return {
        "Evidently's rule, every 200": evidently_rule,
        "ADWIN": streamed(drift.ADWIN),
        "KSWIN": streamed(lambda: drift.KSWIN(seed=0)),
        "Page-Hinkley": streamed(drift.PageHinkley),
    }


# --- power ----------------------------------------------------------------------------------------


def power(folder: Path | None, quick: bool) -> list[dict[str, Any]]:
    """Shift windows of 500 in a known way, and see which tests find it and what they name."""
    n_pairs = 10 if quick else 100
    generator = np.random.default_rng(6)
    sets = {"mixture": data.mixture(30_000, 25, generator)}
    sets["small mixture"] = {name: sets["mixture"][name] for name in list(sets["mixture"])[::3]}
    if folder is not None:
        sets["handwriting"] = data.handwriting(folder, generator)
    rows = []
    for cell in data.CELLS:
        counts: Counter[str] = Counter()
        for table in sets.values():
            for i in range(n_pairs):
                counts += _one_pair(table, cell, i, with_rivals=i < max(5, n_pairs // 5))
        rows.append(_row_of(cell, counts))
        print(rows[-1], file=sys.stderr, flush=True)
    anchors = {
        who: float(np.mean([row[who] for row in rows])) for who in ("ks", "mmd", "classifier")
    }
    ours = float(np.mean([row["upkeep"] for row in rows]))
    rows.append({"cell": "mean", "upkeep": ours, **anchors, "ratio": ours / max(anchors.values())})
    return rows


def _one_pair(table: Table, cell: tuple[str, float], i: int, *, with_rivals: bool) -> Counter[str]:
    generator = np.random.default_rng([7, i])
    order = generator.permutation(data.n_rows(table))
    reference = data.rows_of(table, order[:5000])
    made = data.shifted(data.rows_of(table, order[5000:5500]), cell, generator)
    counts: Counter[str] = Counter()
    if made is None:
        return counts
    current, broken = made
    scores = found(reference, current)
    named = [score for score in scores if score.drifted]
    counts["pairs"] += 1
    counts["found"] += bool(named)
    if broken is not None and named:
        first = min(named, key=lambda score: (score.p_value, -score.statistic))
        counts["one_broke"] += 1
        counts["first"] += first.feature == broken
        counts["named"] += len(named)
        counts["wrongly_named"] += sum(score.feature != broken for score in named)
        right = [score for score in named if score.feature == broken]
        counts["right"] += len(right)
        counts["kind"] += sum(score.kind in data.KIND_OF[cell[0]] for score in right)
    if with_rivals:
        counts["rival_pairs"] += 1
        for who, p_value in _anchors(reference, current).items():
            counts[who] += p_value <= FDR
    return counts


def _anchors(reference: Table, current: Table) -> dict[str, float]:
    """Return q-values of the note's anchors: KS (chi-square) with BH, MMD, a domain classifier."""
    p_values, before, after = [], [], []
    for name, values in reference.items():
        then, now = values, current[name]
        if values.dtype == object:
            levels = sorted(set(then) | set(now))
            table = np.array([[(side == v).sum() for v in levels] for side in (then, now)])
            p_values.append(float(stats.chi2_contingency(table).pvalue))
            place = {level: k for k, level in enumerate(levels)}
            then, now = (np.array([place[v] for v in side], float) for side in (then, now))
        else:
            p_values.append(float(stats.ks_2samp(then, now[~np.isnan(now)]).pvalue))
        centre, spread = np.median(then), then.std() or 1.0
        before.append((np.nan_to_num(then, nan=centre) - centre) / spread)
        after.append((np.nan_to_num(now, nan=centre) - centre) / spread)
    sides = np.stack(before, axis=1), np.stack(after, axis=1)
    answers = {"ks": min(benjamini_hochberg(p_values))}
    for name in ("mmd", "classifier"):
        measured = configured(name, {}).measure(*sides, seed=0)
        answers[name] = 1.0 if measured.p_value is None else measured.p_value
    return answers


def _row_of(cell: tuple[str, float], counts: Counter[str]) -> dict[str, Any]:
    rivals = {who: counts[who] / counts["rival_pairs"] for who in ("ks", "mmd", "classifier")}
    row: dict[str, Any] = {
        "cell": f"{cell[0]} {cell[1]:g}",
        "pairs": counts["pairs"],
        "upkeep": counts["found"] / counts["pairs"],
        **rivals,
    }
    if counts["one_broke"]:
        row |= {
            "broken_first": counts["first"] / counts["one_broke"],
            "false_discoveries": counts["wrongly_named"] / counts["named"],
            "kind_named": counts["kind"] / max(counts["right"], 1),
        }
    return row


# --- the command ----------------------------------------------------------------------------------

SECTIONS = {"cost": cost, "null": null, "repeated": repeated, "delay": delay, "power": power}


def table_of(rows: list[dict[str, Any]]) -> str:
    """Return rows as a Markdown table."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        cells = [row.get(name, "") for name in names]
        shown = [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells]
        lines.append("| " + " | ".join(shown) + " |")
    return "\n".join(lines)


def main() -> int:
    """Run the sections asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cost-of", nargs=2, metavar=("WHO", "ROWS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cost_of:
        print(json.dumps(cost_of(options.cost_of[0], int(options.cost_of[1]))))
        return 0
    folder = data.data_folder(options.data)
    RESULTS.mkdir(exist_ok=True)
    for name in options.sections or SECTIONS:
        rows = SECTIONS[name](folder, options.quick)
        if not options.quick:
            path = RESULTS / f"detection_{name}.json"
            path.write_text(json.dumps(rows, indent=1) + "\n")
        print(f"\n## {name}\n\n{table_of(rows)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
