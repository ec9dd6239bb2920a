"""Are the findings cheap, calibrated, quick and rightly named? Beside Evidently and others.

    python -m bench.detection [SECTION ...] [--data FOLDER] [--quick]

- cost: CPU and memory of a whole finding (every test with its q-value, effect and kind, and the
  update of the sequential watch) beside Evidently's preset and the bare numpy limit.
- null: share of quiet windows with a finding, at a false discovery rate of 5 %.
- repeated: false alarms of a watched model over a million quiet rows, checked every 200.
- delay: rows until an alarm after one Gaussian signal changed, beside Evidently's rule, ADWIN,
  KSWIN and Page-Hinkley.
- power: share of windows with a known shift that are found, by test; what was named, and how.
- text: strange queries mixed into windows of 200, found within three, beside MMD, a domain
  classifier and Evidently's tests of texts and embeddings (needs --data).
- evidently: CPU of the Evidently report of a check, whatever it has to draw.
- faults: share of broken, of honestly drifted and of quiet windows that open an incident.

Writes bench/results/detection_<section>.json and prints tables. `--quick` takes a tenth of the
repetitions. The folder of the real streams (or UPKEEP_DATA) is optional.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import bench.detection_data as data
from app.domain.drift import Watch, after_look, next_look
from bench.detection_cost import cost
from bench.detection_delay import delay
from bench.detection_evidently import evidently
from bench.detection_faults import faults
from bench.detection_power import power
from bench.detection_support import FALSE_ALARM_ROWS, FDR, by_kind, found
from bench.detection_text import text
from workers.detectors import DEFAULTS
from workers.detectors.measure import measure_window
from workers.statistics.watching import watch_window

RESULTS = Path(__file__).resolve().parent / "results"


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
    watch = Watch()
    counts: Counter[str] = Counter()
    for end in range(200, 10_001, 200):
        first = max(0, end - 1000)
        window = by_kind(data.rows_of(stream, np.arange(first, end)))
        n_fresh = end - max(first, watch.looked_through)
        level, is_look = next_look(
            watch, n_fresh=n_fresh, minimum_rows=50, fdr=FDR, false_alarm_rows=FALSE_ALARM_ROWS
        )
        scores = measure_window(reference, window, DEFAULTS, fdr=max(level, 1e-300), seed=0)
        drifted = any(score.drifted for score in scores)
        bets = watch_window(
            reference,
            window,
            watch,
            sequences=range(first + 1, end + 1),
            false_alarm_rows=FALSE_ALARM_ROWS,
        )
        rang = bets.value >= bets.limit
        counts["windows"] += drifted and not watch.stood
        counts["bets"] += rang
        counts["alarms"] += (drifted or rang) and not watch.stood
        looked = end if is_look else watch.looked_through
        watch = after_look(watch, bets, level=level, looked_through=looked, drifted=drifted)
    return counts


SECTIONS = {
    "cost": cost,
    "null": null,
    "repeated": repeated,
    "delay": delay,
    "power": power,
    "text": text,
    "evidently": evidently,
    "faults": faults,
}


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
    options = parser.parse_args()
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
