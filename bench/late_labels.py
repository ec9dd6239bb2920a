"""Label lag against known truth, and what it costs while a model's observations grow.

    python -m bench.late_labels              both, at 1e5, 1e6 and 1e7 observations
    python -m bench.late_labels --sizes 100000 1000000

Truth: rows arrive evenly over some time, their labels take an hour on average (exponential), and
a share of them never comes. The rival is what one writes first, the quantiles of the lags that
are there. Cost: time of the same look at each size, sizes in turns, so that what else the machine
does falls on all alike; the rival is a count and quantiles over all rows in SQL.
"""

import argparse
import contextlib
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final
from uuid import UUID

import numpy as np
import psycopg

from app.adapters.postgres.unit_of_work import PostgresUnitOfWork, connect
from app.domain.label_lag import measure_lag
from app.services.observations import label_lags
from bench.ingest_support import add_model, databases

RESULTS: Final = Path(__file__).parent / "results" / "late_labels.json"
MEAN: Final = 3600.0
TRUE_P50: Final = MEAN * float(np.log(2))
N_ROWS: Final = 1500

_FILL = """
INSERT INTO observations (model_id, id, observed_at, received_at, prediction, version, label,
                          label_sequence)
SELECT %(model)s, 'o-' || n, at, at, 'a', 1, CASE WHEN n %% 5 > 0 AND is_old THEN 'a' END,
       CASE WHEN n %% 5 > 0 AND is_old THEN n END
FROM (SELECT n, now() - make_interval(secs => (%(n)s - n) * 86400.0 / %(n)s) AS at,
             n < %(n)s * 0.95 AS is_old
      FROM generate_series(%(first)s, %(last)s) AS n) AS rows
"""
_FILL_LABELS = """
INSERT INTO labels (model_id, observation_id, label, labelled_at, received_at)
SELECT model_id, id, label, observed_at, observed_at + make_interval(secs => 300 + random() * 3600)
FROM observations WHERE model_id = %(model)s AND label_sequence IS NOT NULL
  AND sequence > %(after)s
"""
_ALL = """
SELECT percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY l.received_at - o.observed_at),
       count(*)
FROM observations o JOIN LATERAL (SELECT min(received_at) AS received_at FROM labels l
  WHERE l.model_id = o.model_id AND l.observation_id = o.id) AS l ON true
WHERE o.model_id = %s AND o.label_sequence IS NOT NULL
"""


def truth(n_tries: int) -> dict[str, Any]:
    """Return how far from the true median both estimates are, in percent of it."""
    figures: dict[str, Any] = {}
    print(f"{'followed, share that comes':<30}{'ours, %':>10}{'naive, %':>10}")
    for hours, share in ((1.5, 1.0), (3.0, 1.0), (8.0, 0.7), (24.0, 0.7), (24.0, 0.2)):
        generator = np.random.default_rng(1)
        ours, naive = [], []
        for _ in range(n_tries):
            ages = generator.uniform(0, 3600 * hours, N_ROWS)
            lags = generator.exponential(MEAN, N_ROWS)
            has_come = (lags <= ages) & (generator.random(N_ROWS) < share)
            seen = np.where(has_come, lags, np.nan)
            ours.append(measure_lag(ages, seen).p50_seconds)
            naive.append(float(np.nanmedian(seen)))
        name = f"{hours:g} h, {share:g}"
        found = [100 * (float(np.mean(some)) / TRUE_P50 - 1) for some in (ours, naive)]
        figures[name] = {"ours_percent": round(found[0], 1), "naive_percent": round(found[1], 1)}
        print(f"{name:<30}{found[0]:>10.1f}{found[1]:>10.1f}")
    return figures


def cost(numbers: Sequence[int], *, n_rounds: int) -> dict[str, Any]:
    """Return the milliseconds of a look at each size, and the worst size over the best."""
    ours: dict[int, list[float]] = {n: [] for n in numbers}
    every: dict[int, float] = {}
    with contextlib.ExitStack() as stack:
        filled = []
        for n, servers in zip(numbers, stack.enter_context(databases(len(numbers))), strict=True):
            engine = connect(servers.database_url)
            stack.callback(engine.dispose)
            model = add_model(PostgresUnitOfWork(engine))
            with servers.connect() as connection:
                fill(connection, model.id, n)
                started = time.perf_counter()
                connection.execute(_ALL, (model.id,)).fetchone()
                every[n] = 1e3 * (time.perf_counter() - started)
            filled.append((n, engine, model.id))
        for turn in range(n_rounds + 1):
            for n, engine, model_id in filled:
                with PostgresUnitOfWork(engine) as work:
                    started = time.perf_counter()
                    lag = label_lags(work, model_id, now=datetime.now(UTC))[0]
                    if turn:  # the first only warms up
                        ours[n].append(1e3 * (time.perf_counter() - started))
                assert lag.coverage is not None
                assert abs(lag.coverage - 0.8) < 0.08
    ratios = np.median([np.array(each) / each[0] for each in zip(*ours.values(), strict=True)], 0)
    flat = float(ratios.max() / ratios.min())
    figures = {
        str(n): {"ours_ms": round(median(ours[n]), 1), "all_rows_ms": round(every[n], 1)}
        for n in numbers
    }
    for n in numbers:
        print(f"{n:>12,} observations: {median(ours[n]):>8.1f} ms, all rows {every[n]:>10.1f} ms")
    print(f"worst / best size: {flat:.2f}")
    return {**figures, "worst / best": round(flat, 3)}


def fill(connection: psycopg.Connection[Any], model_id: UUID, n: int) -> None:
    """Store thin rows over a day, four in five of the old ones labelled."""
    started = time.perf_counter()
    for first in range(1, n + 1, 1_000_000):
        last = min(n, first + 999_999)
        connection.execute(_FILL, {"model": model_id, "n": n, "first": first, "last": last})
        connection.execute(_FILL_LABELS, {"model": model_id, "after": first - 1})
    connection.execute("VACUUM ANALYZE observations")
    connection.execute("VACUUM ANALYZE labels")
    print(f"stored {n:,} in {time.perf_counter() - started:.0f} s", flush=True)


def main() -> None:
    """Measure, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tries", type=int, default=500, help="samples drawn for each truth")
    parser.add_argument("--rounds", type=int, default=25, help="looks at each size")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10**5, 10**6, 10**7])
    args = parser.parse_args()
    figures = {"truth": truth(args.tries), "cost": cost(args.sizes, n_rounds=args.rounds)}
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
