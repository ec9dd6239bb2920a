"""How fast are observations taken in, durably and once each, beside the usual way to do it?

    python -m bench.ingest rates      rows a second over HTTP, beside a usual route and a bare COPY
    python -m bench.ingest sizes      the same at 1e5, 1e6 and 1e7 stored rows, and a check's reads
    python -m bench.ingest kills      SIGKILL of the API under two writers, 100 times
    python -m bench.ingest malformed  10,000 payloads that are wrong in every way
    python -m bench.ingest            all four, one after the other

`rates`: servers of both kinds, each of as many processes, stand on one Postgres with fsync on and
take turns (ABAB...); the same clients send batches of 1,000 rows of 20 numbers to both. Every
answer is sent after its commit. The usual route is bench/ingest_rival.py. `copy` is the raw limit:
binary COPY and merge into the very same tables by this service's adapter, in one process, of rows
that are parsed already, by as many writers as there are clients; `staged` is the usual form of it,
a COPY into a temporary table and INSERT ... ON CONFLICT DO NOTHING from there.

With DATABASE_URL and REDIS_URL set, those servers are used. Figures are kept in
bench/results/ingest.json.
"""

import argparse
import contextlib
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
from sqlalchemy import Engine, create_engine

from app.adapters.postgres import copying, segments, writing
from app.adapters.postgres.unit_of_work import PostgresUnitOfWork, connect
from app.domain.models import MaintainedModel
from app.services.batches import PREDICTION
from bench.ingest_kills import kills
from bench.ingest_malformed import malformed
from bench.ingest_rival import Base
from bench.ingest_sizes import sizes
from bench.ingest_support import (
    ARROW,
    JSON,
    ROWS,
    Rows,
    add_model,
    as_arrow,
    as_batch,
    as_json,
    random_rows,
    send_all,
    servers,
    serving,
)

RESULTS = Path(__file__).parent / "results" / "ingest.json"
GOALS = {"json / usual": 2.0, "arrow / usual": 4.0, "arrow / copy": 0.6, "arrow / staged": 0.6}


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", nargs="?", choices=("rates", "sizes", "kills", "malformed"))
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each kind (rates)")
    parser.add_argument("--batches", type=int, default=60, help="batches a round (rates)")
    parser.add_argument("--processes", type=int, default=2, help="server processes of each kind")
    parser.add_argument("--clients", type=int, default=4, help="connections, and bare writers")
    parser.add_argument("--random-ids", action="store_true", help="ids that do not sort by time")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10**5, 10**6, 10**7])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--payloads", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    measures: dict[str, Callable[[], Any]] = {
        "rates": lambda: rates(args),
        "sizes": lambda: sizes(
            args.sizes, n_rounds=args.rounds, n_batches=args.batches, random_ids=args.random_ids
        ),
        "kills": lambda: kills(args.kills, seed=args.seed),
        "malformed": lambda: malformed(args.payloads),
    }
    for name, measure in measures.items():
        if args.what in {None, name}:
            record(name, measure())


def record(name: str, figures: Any) -> None:
    """Keep figures beside those of other runs."""
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps({**kept, name: figures}, indent=1) + "\n")


def rates(args: argparse.Namespace) -> dict[str, Any]:
    """Measure rows a second of each way, in alternating rounds."""
    with servers() as found:
        engine = connect(found.database_url)
        Base.metadata.create_all(create_engine(found.database_url))
        model = add_model(PostgresUnitOfWork(engine))
        with (
            serving("app.main:create_app", 8610, found, n_processes=args.processes) as ours,
            serving(
                "bench.ingest_rival:create_app", 8611, found, n_processes=args.processes
            ) as usual,
        ):
            path = f"/v1/models/{model.name}/observations"
            n = args.clients
            ways: dict[str, Callable[[Sequence[Rows]], float]] = {
                "json": over_http(ours, path, as_json, JSON, n),
                "usual": over_http(usual, path, as_json, JSON, n),
                "arrow": over_http(ours, path, as_arrow, ARROW, n),
                "copy": bare(engine, model, n),
                "staged": staged(engine, model, n),
            }
            rounds, cpu = alternate(ways, args)
        engine.dispose()
    figures: dict[str, Any] = {way: round(median(found)) for way, found in rounds.items()}
    figures["cpu ms / 1000 rows"] = {way: round(median(found), 1) for way, found in cpu.items()}
    for ratio in GOALS:
        one, other = ratio.split(" / ")
        pairs = zip(rounds[one], rounds[other], strict=True)
        figures[ratio] = round(median(a / b for a, b in pairs), 3)
    for one in ("json", "arrow"):
        pairs = zip(cpu["usual"], cpu[one], strict=True)
        figures[f"cpu: usual / {one}"] = round(median(a / b for a, b in pairs), 3)
    show(rounds, figures)
    return figures


def alternate(
    ways: dict[str, Callable[[Sequence[Rows]], float]], args: argparse.Namespace
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return rows a second, and CPU milliseconds of 1,000 rows, of each way in each round.

    The CPU is that of servers and Postgres (where it is embedded), which a busy machine cannot
    blur. The first round only warms up.
    """
    generator = np.random.default_rng(0)
    rounds: dict[str, list[float]] = {way: [] for way in ways}
    cpu: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(args.rounds + 1):
        for way, measure in ways.items():
            batches = [
                random_rows(generator, random_ids=args.random_ids) for _ in range(args.batches)
            ]
            before = cpu_seconds()
            seconds = measure(batches)
            if number:
                rounds[way].append(args.batches * ROWS / seconds)
                cpu[way].append(1e3 * (cpu_seconds() - before) / args.batches)
    return rounds, cpu


def cpu_seconds() -> float:
    """Return the CPU time that the processes we started have used."""
    total = 0.0
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            times = child.cpu_times()
            total += times.user + times.system
    return total


def over_http(
    url: str, path: str, encode: Callable[[Rows], bytes], kind: str, n_clients: int
) -> Callable[[Sequence[Rows]], float]:
    """Return what sends batches and tells the seconds; bodies are made before the clock starts."""

    def measure(batches: Sequence[Rows]) -> float:
        bodies = [encode(rows) for rows in batches]
        return send_all(url, path, bodies, kind, n_clients=n_clients)

    return measure


def bare(
    engine: Engine, model: MaintainedModel, n_writers: int
) -> Callable[[Sequence[Rows]], float]:
    """Return what stores parsed batches by the adapter, and tells the seconds."""

    def measure(batches: Sequence[Rows]) -> float:
        ready = [as_batch(rows) for rows in batches]

        def write(place: int) -> None:
            for batch in ready[place::n_writers]:
                with PostgresUnitOfWork(engine) as work:
                    assert work.observations.add(model.id, batch) == len(batch)

        return timed(write, n_writers)

    return measure


STAGE = """
CREATE TEMPORARY TABLE staged (model_id uuid, id varchar(200), observed_at timestamptz,
  prediction text, segment_id bigint, place integer) ON COMMIT DROP
"""
STAGED = "COPY staged FROM STDIN (FORMAT binary)"
MERGE = """
INSERT INTO observations (model_id, id, observed_at, prediction, segment_id, place)
SELECT * FROM staged ON CONFLICT DO NOTHING
"""


def staged(
    engine: Engine, model: MaintainedModel, n_writers: int
) -> Callable[[Sequence[Rows]], float]:
    """Return what stores parsed batches through a temporary table, and tells the seconds."""

    def measure(batches: Sequence[Rows]) -> float:
        ready = [as_batch(rows) for rows in batches]

        def write(place: int) -> None:
            connection = engine.raw_connection()
            for batch in ready[place::n_writers]:
                with connection.driver_connection.cursor(binary=True) as cursor:
                    packed, held_in, places = segments.pack(cursor, batch.body)
                    writing.take_turn(cursor, model.id)
                    segments.add(cursor, model.id, packed)
                    cursor.execute(STAGE)
                    columns = [
                        copying.constant(model.id.bytes),
                        copying.texts(batch.ids),
                        copying.integers(batch.observed_at - writing.POSTGRES_EPOCH, 8),
                        copying.few(batch.body.column(PREDICTION).combine_chunks(), str.encode),
                        copying.integers(held_in, 8),
                        copying.integers(places, 4),
                    ]
                    with cursor.copy(STAGED) as copy:
                        copy.write(copying.copy_body(columns))
                    cursor.execute(MERGE)
                connection.commit()
            connection.close()

        return timed(write, n_writers)

    return measure


def timed(write: Callable[[int], None], n_writers: int) -> float:
    """Return the seconds that so many writers take, side by side."""
    with ThreadPoolExecutor(n_writers) as pool:
        started = time.perf_counter()
        list(pool.map(write, range(n_writers)))
        return time.perf_counter() - started


def show(rounds: dict[str, list[float]], figures: dict[str, Any]) -> None:
    """Print rows a second, then the ratios with their goals."""
    print("way       rows/s (median)   CPU ms of 1,000 rows   lowest .. highest rows/s")
    for way, found in rounds.items():
        cpu = figures["cpu ms / 1000 rows"][way]
        print(f"{way:<8} {figures[way]:>16,} {cpu:>22}   {min(found):,.0f} .. {max(found):,.0f}")
    for ratio, goal in GOALS.items():
        print(f"{ratio:<18} {figures[ratio]:>6.2f}   (goal: at least {goal})")
    for one in ("json", "arrow"):
        print(f"cpu: usual / {one:<5} {figures[f'cpu: usual / {one}']:>6.2f}")


if __name__ == "__main__":
    main()
