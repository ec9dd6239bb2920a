"""What the measurements of ingest share: servers, a model of numbers, batches, and clients."""

import contextlib
import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx
import msgspec
import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray
from sqlalchemy import make_url

from app.adapters.postgres.unit_of_work import PostgresUnitOfWork
from app.domain.identity import new_id
from app.domain.models import MaintainedModel, Objective
from app.domain.observations import ContractField, FieldType, InputContract
from app.migrating import migrate
from app.services.batches import Batch
from tests.servers import fresh_database, test_servers

ROWS = 1000
N_FIELDS = 20
NAMES = [f"f{place}" for place in range(N_FIELDS)]
LABELS = ("a", "b")
JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Servers:
    """A migrated database of its own and a Redis; the database's fsync is on."""

    database_url: str
    redis_url: str

    def connect(self) -> psycopg.Connection:
        """Return a connection that commits each statement."""
        url = make_url(self.database_url).set(drivername="postgresql")
        return psycopg.connect(url.render_as_string(hide_password=False), autocommit=True)


@contextlib.contextmanager
def servers() -> Iterator[Servers]:
    """Yield servers: those of DATABASE_URL and REDIS_URL, else embedded ones."""
    with databases(1) as (found,):
        yield found


@contextlib.contextmanager
def databases(n: int) -> Iterator[list[Servers]]:
    """Yield so many migrated databases of one Postgres; it is durable."""
    with test_servers() as (admin_url, redis_url), contextlib.ExitStack() as stack:
        found = [
            Servers(stack.enter_context(fresh_database(admin_url)), redis_url) for _ in range(n)
        ]
        for each in found:
            migrate(each.database_url)
        with found[0].connect() as connection:
            for name in ("fsync", "synchronous_commit", "full_page_writes"):
                (value,) = connection.execute(f"SHOW {name}").fetchone()
                assert value == "on", f"{name} is {value}"
        yield found


@contextlib.contextmanager
def serving(factory: str, port: int, found: Servers, *, n_processes: int) -> Iterator[str]:
    """Run an ASGI app by its factory in so many processes; yield its URL once it answers."""
    with tempfile.TemporaryDirectory() as home:
        server = [sys.executable, "-m", "uvicorn", "--factory", factory, "--app-dir", str(ROOT)]
        options = ["--port", str(port), "--log-level", "warning", "--no-access-log"]
        if n_processes > 1:
            options += ["--workers", str(n_processes)]
        environment = environment_of(found, Path(home))
        process = subprocess.Popen([*server, *options], env=environment, cwd=ROOT)
        try:
            wait_until_up(port)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=60)


def environment_of(found: Servers, home: Path) -> dict[str, str]:
    """Return the environment of a server process."""
    return {
        **os.environ,
        "DATABASE_URL": found.database_url,
        "REDIS_URL": found.redis_url,
        "UPKEEP_HOME": str(home),
        "OMP_NUM_THREADS": "1",
    }


def wait_until_up(port: int, *, seconds: float = 120.0) -> None:
    """Wait until a server answers anything at all.

    Raises:
        TimeoutError: it did not.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5)
            return
        time.sleep(0.05)
    raise TimeoutError(f"nothing answers on port {port} after {seconds:.0f} s")


def add_model(work: PostgresUnitOfWork, fields: Sequence[ContractField] = ()) -> MaintainedModel:
    """Store a model of twenty numbers, or of the given fields; it needs no worker."""
    with work:
        model = MaintainedModel(
            id=new_id(),
            project_id=work.keys.default_project(),
            name=f"m-{uuid4().hex[:12]}",
            task_type="tabular-classification",
            base_model="none",
            labels=LABELS,
            contract=InputContract(fields or [ContractField(n, FieldType.NUMBER) for n in NAMES]),
            objective=Objective(),
            policy_version=1,
            policy={},
            is_paused=False,
            created_at=datetime.now(UTC),
        )
        work.models.add(model, actor="bench")
    return model


@dataclass(frozen=True)
class Rows:
    """One batch as a client has it: ids, features (n, 20), answers."""

    ids: Sequence[str]
    features: NDArray[np.float64]
    answers: Sequence[str]


def random_rows(generator: np.random.Generator, n: int = ROWS, *, random_ids: bool = False) -> Rows:
    """Return a batch whose ids sort by time, as UUIDv7 do, or are random, as UUIDv4 are."""
    ids = [uuid4().hex if random_ids else new_id().hex for _ in range(n)]
    features = generator.normal(size=(n, N_FIELDS)).round(6)
    return Rows(ids, features, generator.choice(LABELS, n).tolist())


def as_json(rows: Rows, *, version: int | None = None) -> bytes:
    """Return the body of a JSON request."""
    own = {} if version is None else {"version": version}
    observations = [
        {"id": i, "inputs": dict(zip(NAMES, values, strict=True)), "prediction": answer, **own}
        for i, values, answer in zip(rows.ids, rows.features.tolist(), rows.answers, strict=True)
    ]
    return msgspec.json.encode({"observations": observations})


def as_arrow(rows: Rows, *, version: int | None = None) -> bytes:
    """Return the body of an Arrow IPC request."""
    columns = dict(zip(NAMES, rows.features.T.copy(), strict=True))
    if version is not None:
        columns["version"] = np.full(len(rows.ids), version)
    table = pa.table({"id": rows.ids, "prediction": rows.answers, **columns})
    sink = pa.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def as_batch(rows: Rows, *, version: int | None = None) -> Batch:
    """Return what the adapter takes in: the rows, read and judged."""
    n = len(rows.ids)
    columns = {f"input:{name}": rows.features[:, place] for place, name in enumerate(NAMES)}
    return Batch(
        ids=pa.array(rows.ids, pa.string()),
        observed_at=np.full(n, time.time_ns() // 1000, dtype=np.int64),
        versions=pa.array([version] * n, pa.int32()),
        shadow=pa.nulls(n, pa.string()),
        labels=pa.nulls(n, pa.string()),
        body=pa.table({"prediction": pa.array(rows.answers, pa.string()), **columns}),
    )


def send_all(url: str, path: str, bodies: Sequence[bytes], kind: str, *, n_clients: int) -> float:
    """Send all bodies over so many connections at once; return the seconds it took.

    Raises:
        RuntimeError: an answer was not 200.
    """
    host = url.removeprefix("http://")

    def client(mine: Sequence[bytes]) -> None:
        connection = http.client.HTTPConnection(host, timeout=120)
        for body in mine:
            connection.request("POST", path, body, {"Content-Type": kind})
            answer = connection.getresponse()
            said = answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{answer.status}: {said[:300]!r}")
        connection.close()

    with ThreadPoolExecutor(n_clients) as pool:
        started = time.perf_counter()
        list(pool.map(client, [bodies[place::n_clients] for place in range(n_clients)]))
        return time.perf_counter() - started
