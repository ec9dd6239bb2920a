"""Is every acknowledged observation there, once, whatever moment the API is killed at?

Two writers send batches, each batch by both of them at about the same time, and send what was not
acknowledged again until it is. At a random moment of a round the API is killed (SIGKILL) and
another is started. After each round every acknowledged id must be stored, none twice, each with
the inputs it was sent with, and what both writers were told to be new must add up to what is there.
"""

import contextlib
import random
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import numpy as np

from app.adapters.postgres.unit_of_work import PostgresUnitOfWork, connect
from bench.ingest_support import (
    ARROW,
    JSON,
    NAMES,
    ROOT,
    Rows,
    Servers,
    add_model,
    as_arrow,
    as_json,
    environment_of,
    random_rows,
    servers,
    wait_until_up,
)

PORT = 8650
VERSION = 1
BATCH_ROWS = 200
BATCHES = 12


@dataclass
class Round:
    """What one round sent, and what the writers were told."""

    batches: list[Rows]
    n_accepted: int = 0
    n_sent_again: int = 0
    failures: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Api:
    """One API process, which can be killed and started anew."""

    def __init__(self, found: Servers, home: Path, port: int) -> None:
        self.url, self.port = f"http://127.0.0.1:{port}", port
        self._environment = environment_of(found, home)
        self.process = self._started()

    def _started(self) -> "subprocess.Popen[bytes]":
        server = [sys.executable, "-m", "uvicorn", "--factory", "app.main:create_app"]
        options = ["--port", str(self.port), "--log-level", "critical", "--no-access-log"]
        return subprocess.Popen([*server, *options], env=self._environment, cwd=ROOT)

    def kill(self) -> None:
        """End it at once, as a crash would, and start another."""
        self.process.kill()
        self.process.wait()
        self.process = self._started()

    def stop(self) -> None:
        """End it for good."""
        self.process.terminate()
        self.process.wait(timeout=60)


def kills(n_rounds: int, *, seed: int, port: int = PORT) -> dict[str, Any]:
    """Play rounds; return how many rows were acknowledged, lost and doubled.

    Raises:
        SystemExit: a row was lost or doubled, or came back changed.
    """
    chance = random.Random(seed)  # noqa: S311  moments, not secrets
    with servers() as found, tempfile.TemporaryDirectory() as home:
        api = Api(found, Path(home), port)
        try:
            figures = play_all(api, found, n_rounds, chance)
        finally:
            api.stop()
    print(", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in figures.items()))
    if figures["rows_lost"] or figures["rows_doubled"] or figures["rows_changed"]:
        raise SystemExit(1)
    return figures


def play_all(api: Api, found: Servers, n_rounds: int, chance: random.Random) -> dict[str, Any]:
    """Play rounds on one model, and look at what is stored after each."""
    engine = connect(found.database_url)
    work = PostgresUnitOfWork(engine)
    model = add_model(work)
    path = f"{api.url}/v1/models/{model.name}/observations"
    generator = np.random.default_rng(chance.randrange(2**32))
    figures = {"rounds": n_rounds, "sent_again": 0}
    wait_until_up(api.port)
    for number in range(1, n_rounds + 1):
        this = Round([random_rows(generator, BATCH_ROWS) for _ in range(BATCHES)])
        play(this, api, path, chance)
        if this.failures:
            raise RuntimeError(this.failures[0])
        counted = {**look(this, found, work, model.id), "sent_again": this.n_sent_again}
        figures |= {name: figures.get(name, 0) + n for name, n in counted.items()}
        if number % 10 == 0:
            print(f"after {number} rounds: {figures}", flush=True)
    engine.dispose()
    return figures


def play(this: Round, api: Api, path: str, chance: random.Random) -> None:
    """Send all batches by two writers, and kill the API in the middle."""
    after_seconds = chance.uniform(0.0, 0.5)
    writers = [
        threading.Thread(target=write, args=(this, path, encode, kind))
        for encode, kind in ((as_json, JSON), (as_arrow, ARROW))
    ]
    for writer in writers:
        writer.start()
    time.sleep(after_seconds)
    api.kill()
    for writer in writers:
        writer.join()


def write(this: Round, path: str, encode: Any, kind: str) -> None:
    """Send every batch until it is acknowledged."""
    with httpx.Client(timeout=60) as client:
        for rows in this.batches:
            body, deadline = encode(rows, version=VERSION), time.monotonic() + 120
            while not acknowledged(this, client, path, body, kind):
                if time.monotonic() > deadline:
                    this.failures.append("a batch was not acknowledged within 120 seconds")
                    return


def acknowledged(this: Round, client: httpx.Client, path: str, body: bytes, kind: str) -> bool:
    """Send a batch; False when nobody answered, or that it cannot be stored now."""
    with contextlib.suppress(httpx.TransportError):
        answer = client.post(path, content=body, headers={"Content-Type": kind})
        if answer.status_code == 200:
            with this.lock:
                this.n_accepted += answer.json()["accepted"]
            return True
        if answer.status_code != 503:
            this.failures.append(f"{answer.status_code}: {answer.text[:300]}")
            return True
    with this.lock:
        this.n_sent_again += 1
    time.sleep(0.05)
    return False


def look(this: Round, found: Servers, work: PostgresUnitOfWork, model_id: UUID) -> dict[str, int]:
    """Count what was lost, doubled or changed of the rows that a round sent."""
    sent = {i: row for b in this.batches for i, row in zip(b.ids, b.features, strict=True)}
    with found.connect() as connection:
        rows = connection.execute(
            "SELECT sequence, id FROM observations WHERE model_id = %s AND id = ANY(%s)",
            (model_id, list(sent)),
        ).fetchall()
    ids = dict(rows)
    with work:
        stored = work.observations.columns(
            model_id, version=VERSION, after_sequence=min(ids) - 1, limit=2 * len(sent)
        )
    features = np.stack([stored.inputs[name] for name in NAMES], axis=1)
    expected = np.array([sent[ids[number]] for number in stored.sequences])
    n_known = len(set(ids.values()))
    return {
        "rows_acknowledged": len(sent),
        "rows_lost": len(sent) - n_known,
        "rows_doubled": len(rows) - n_known + max(0, this.n_accepted - len(sent)),
        "rows_changed": len(rows) - int((features == expected).all(axis=1).sum()),
    }
