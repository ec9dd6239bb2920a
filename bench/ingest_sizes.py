"""Do ingest and a check's reads stay as fast while a model's observations grow?

Each size has a database of its own on one Postgres, filled through the service's own adapter, and
an API of its own. Rounds alternate between the sizes, so that what else the machine does falls on
all of them alike.
"""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median
from typing import Any

import numpy as np
from sqlalchemy import Engine

from app.adapters.postgres.observations import MOST_LABELLED
from app.adapters.postgres.unit_of_work import PostgresUnitOfWork, connect
from app.domain.models import MaintainedModel
from app.domain.observations import Label
from app.services.observations import label_lags
from bench.ingest_support import (
    ARROW,
    JSON,
    LABELS,
    NAMES,
    ROWS,
    Servers,
    add_model,
    as_arrow,
    as_batch,
    as_json,
    databases,
    random_rows,
    send_all,
    serving,
)

FILL_ROWS = 4000
N_LABELLED = 200_000
WINDOW_ROWS = 1000
GOAL = 1.3


@dataclass
class Size:
    """One model with so many observations, in a database of its own."""

    n: int
    servers: Servers
    engine: Engine
    model: MaintainedModel
    url: str = ""
    n_labelled: int = 0
    found: dict[str, list[float]] = field(default_factory=dict)

    def work(self) -> PostgresUnitOfWork:
        """Return a unit of work over its database."""
        return PostgresUnitOfWork(self.engine)

    def note(self, name: str, value: float) -> None:
        """Keep one measurement."""
        self.found.setdefault(name, []).append(value)


def sizes(
    numbers: Sequence[int], *, n_rounds: int, n_batches: int, random_ids: bool
) -> dict[str, Any]:
    """Return medians by size, and for each figure the worst size over the best."""
    with contextlib.ExitStack() as stack:
        measured = []
        for place, (n, found) in enumerate(
            zip(numbers, stack.enter_context(databases(len(numbers))), strict=True)
        ):
            engine = connect(found.database_url)
            stack.callback(engine.dispose)
            size = Size(n, found, engine, add_model(PostgresUnitOfWork(engine)))
            fill(size, random_ids=random_ids)
            measured.append(size)
            serve = serving("app.main:create_app", 8630 + place, found, n_processes=1)
            size.url = stack.enter_context(serve)
        generator = np.random.default_rng(1)
        for number in range(n_rounds + 1):
            for size in measured:
                read(size)
            for size in measured:
                write(size, generator, n_batches, random_ids=random_ids)
            if not number:  # the first round only warms up
                for size in measured:
                    size.found.clear()
    return show(measured)


def fill(size: Size, *, random_ids: bool) -> None:
    """Store observations by the adapter until there are enough; label some of the first."""
    generator, started = np.random.default_rng(0), time.perf_counter()
    for start in range(0, size.n, FILL_ROWS):
        rows = random_rows(generator, min(FILL_ROWS, size.n - start), random_ids=random_ids)
        with size.work() as work:
            work.observations.add(size.model.id, as_batch(rows, version=1))
            if start < N_LABELLED:
                labels = [Label(i, LABELS[0], datetime.now(UTC)) for i in rows.ids]
                work.observations.add_labels(size.model.id, labels)
                size.n_labelled += len(labels)
    seconds = time.perf_counter() - started
    print(f"stored {size.n:,} in {seconds:.0f} s, {size.n / seconds:,.0f} rows/s", flush=True)
    with size.servers.connect() as connection:
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


def read(size: Size) -> None:
    """Time the reads of a check, and those of its window alone, in milliseconds."""
    model_id = size.model.id
    with size.work() as work:
        started = time.perf_counter()
        _, labels_through = work.observations.horizon(model_id)
        window = work.observations.newest(model_id, version=1, limit=WINDOW_ROWS)
        read_at = time.perf_counter()
        correct = work.observations.correctness(model_id, version=1)
        work.observations.n_labelled(model_id, after_label=labels_through - 100)
        work.observations.n_classes(model_id)
        size.note("check's reads, ms", 1e3 * (time.perf_counter() - started))
        size.note("newest window, ms", 1e3 * (read_at - started))
        assert len(window) == WINDOW_ROWS
        assert len(correct) == min(size.n_labelled, MOST_LABELLED)
        after = window[0].sequence - 1
        started = time.perf_counter()
        columns = work.observations.columns(
            model_id, version=1, after_sequence=after, limit=WINDOW_ROWS
        )
        size.note("window as columns, ms", 1e3 * (time.perf_counter() - started))
        assert set(columns.inputs) == set(NAMES)
        assert columns.sequences[-1] == window[-1].sequence
        started = time.perf_counter()
        label_lags(work, model_id, now=datetime.now(UTC))
        size.note("label lag, ms", 1e3 * (time.perf_counter() - started))
        started = time.perf_counter()
        work.models.overview()
        size.note("metrics' reads, ms", 1e3 * (time.perf_counter() - started))


def write(size: Size, generator: np.random.Generator, n_batches: int, *, random_ids: bool) -> None:
    """Time ingest over HTTP, in rows a second."""
    path = f"/v1/models/{size.model.name}/observations"
    for kind, encode, name in ((JSON, as_json, "JSON"), (ARROW, as_arrow, "Arrow")):
        batches = [random_rows(generator, random_ids=random_ids) for _ in range(n_batches)]
        bodies = [encode(rows, version=1) for rows in batches]
        seconds = send_all(size.url, path, bodies, kind, n_clients=2)
        size.note(f"{name} ingest, rows/s", n_batches * ROWS / seconds)


def show(measured: Sequence[Size]) -> dict[str, Any]:
    """Print and return medians, and how flat they are."""
    figures: dict[str, Any] = {}
    head = "".join(f"{size.n:>14,}" for size in measured)
    print(f"{'stored observations':<24}{head}   worst / best (goal: at most {GOAL})")
    for name in measured[0].found:
        values = [median(size.found[name]) for size in measured]
        # size by size within a round, so that a slow moment of the machine is in both
        rounds = zip(*(size.found[name] for size in measured), strict=True)
        ratios = np.array([np.array(each) / each[0] for each in rounds])
        spread = np.median(ratios, axis=0)
        flat = float(spread.max() / spread.min())
        figures[name] = {str(s.n): round(v, 2) for s, v in zip(measured, values, strict=True)}
        figures[name]["worst / best"] = round(flat, 3)
        print(f"{name:<24}" + "".join(f"{v:>14,.1f}" for v in values) + f"   {flat:.2f}")
    return figures
