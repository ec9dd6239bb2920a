"""Does anything get lost or done twice when its processes are killed at random moments?

Starts a service with `upkeep up`, as a user would, and then, round by round, asks for a training
run, kills one of the processes (SIGKILL) at a random moment of it, and looks at what is left:
every acknowledged observation must be there, the run must end once, with one version promoted
once, and there must never be two champions. A run whose worker was killed must be running again
within 30 seconds. A client keeps logging observations all the while.

    python bench/drill.py [--rounds 10] [--only process worker api scheduler redis flush]
                          [--home FOLDER] [--port 8600] [--seed 0]

With DATABASE_URL and REDIS_URL set, those servers are used: Redis is then emptied (FLUSHDB), never
killed. Prints a table; exits 1 when anything was violated.
"""

import argparse
import base64
import contextlib
import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import httpx
import numpy as np
import psutil
import psycopg
import redis
from PIL import Image

from upkeep import Model, Retries, StillWaiting, Upkeep

PATIENT = Retries(patience_seconds=180.0, longest_delay_seconds=1.0)
TAKEOVER_SECONDS = 30.0
RUN_SECONDS = 300.0
LABELS = ("across", "down")
RECIPE = {"epochs": 40, "batch_size": 32, "augmentation": "none", "precision": "fp32"}
POLICY = {
    "check": {"every_seconds": 86_400.0, "settle_seconds": 86_400.0},
    "retrain": {"recipe": RECIPE, "checkpoint_every_seconds": 1.0, "cool_down_seconds": 0.0},
    "triggers": {},
    "gates": {},
}


def picture(generator: np.random.Generator, label: str) -> str:
    """Return an 8 x 8 PNG (base64) of stripes across or down."""
    pixels = generator.integers(0, 60, (8, 8), dtype=np.uint8)
    rows = pixels if label == "across" else pixels.T
    rows[generator.integers(0, 2) :: 2] += 150
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, format="PNG")
    return base64.b64encode(sink.getvalue()).decode()


def pictures(n: int, seed: int) -> list[dict[str, Any]]:
    """Return n labelled rows, both labels in turn."""
    generator = np.random.default_rng(seed)
    return [
        {"inputs": {"image": picture(generator, label)}, "label": label}
        for label in (LABELS[index % 2] for index in range(n))
    ]


@dataclass
class Service:
    """A service that `upkeep up` brought up, and its processes."""

    url: str
    process: subprocess.Popen[bytes]

    def find(self, *words: str) -> psutil.Process | None:
        """Return the youngest process below `up` whose name or command line has all these words."""
        found = [
            child
            for child in psutil.Process(self.process.pid).children(recursive=True)
            if all(word in command_of(child) for word in words)
        ]
        return max(found, key=lambda child: child.create_time(), default=None)

    def environment(self, name: str) -> str:
        """Return a variable of the API's environment, such as the REDIS_URL that `up` chose."""
        api = wait_for(lambda: self.find(*WORDS["api"]), 60, "the API runs")
        return str(api.environ()[name])


def command_of(process: psutil.Process) -> list[str]:
    """Return its name and command line in words; nothing when the process is gone."""
    try:
        return [process.name(), *process.cmdline()]
    except psutil.Error:
        return []


def wait_for(look: Callable[[], Any], seconds: float, what: str) -> Any:
    """Return the first true value of `look`.

    Raises:
        TimeoutError: it stayed untrue.
    """
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds:.0f} s still not: {what}")
        time.sleep(0.05)
    return found


@contextlib.contextmanager
def running(home: Path, port: int, **urls: str) -> Iterator[Service]:
    """Run `upkeep up` until the block ends; `urls` may name DATABASE_URL and REDIS_URL."""
    log = (home / "up.log").open("ab")
    command = [sys.executable, "-m", "upkeep", "up", "--port", str(port), "--home", str(home)]
    environment = {**os.environ, "UPKEEP_THREADS": "1", "OMP_NUM_THREADS": "1", **urls}
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    service = Service(f"http://127.0.0.1:{port}", process)

    def is_ready() -> bool:
        if process.poll() is not None:
            said = (home / "up.log").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"`upkeep up` left with {process.returncode} and said:\n{said}")
        try:
            ready = httpx.get(f"{service.url}/readyz", timeout=5).json()["status"] == "ready"
            return ready and bool(httpx.get(f"{service.url}/v1/task-types").json()["items"])
        except httpx.TransportError:
            return False

    try:
        wait_for(is_ready, 180, "the service is ready")
        yield service
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=90)
        log.close()


@dataclass
class Writer:
    """A client that logs observations until it is told to stop, and knows what was acknowledged."""

    model: Model
    acknowledged: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def write(self) -> None:
        """Log ten rows at a time."""
        rows = pictures(10, seed=1)
        while not self.stopping.wait(0.2):
            batch = [
                {"id": uuid4().hex, "inputs": row["inputs"], "prediction": row["label"]}
                for row in rows
            ]
            try:
                receipt = self.model.log(batch, retries=PATIENT)
                self.failures += [str(row) for row in receipt.rejected]
                self.acknowledged += [row["id"] for row in batch]
            except Exception as error:  # noqa: BLE001  whatever it is, the drill reports it
                self.failures.append(repr(error))


@contextlib.contextmanager
def writing(model: Model) -> Iterator[Writer]:
    """Log observations in the background while the block runs."""
    writer = Writer(model)
    thread = threading.Thread(target=writer.write, daemon=True)
    thread.start()
    try:
        yield writer
    finally:
        writer.stopping.set()
        thread.join(timeout=PATIENT.patience_seconds + 30)


@dataclass(frozen=True)
class Round:
    """What one kill did.

    Attributes:
        killed_at: state of the run at that moment.
        takeover_seconds: from the kill until the run ran again; None where its worker lived.
    """

    kind: str
    killed_at: str
    attempts: int
    takeover_seconds: float | None
    run_seconds: float
    n_acknowledged: int
    violations: list[str]


WORDS = {
    "process": ("upkeep-run",),
    "worker": ("workers.main:celery", "training"),
    "api": ("uvicorn", "app.main:create_app"),
    "scheduler": ("app.scheduler",),
}
KINDS = (*WORDS, "redis", "flush")


class Drill:
    """One model of a running service, round after round."""

    def __init__(
        self,
        service: Service,
        *,
        seed: int = 0,
        redis_is_ours: bool = True,
        takeover_seconds: float = TAKEOVER_SECONDS,
    ) -> None:
        self.takeover_seconds = takeover_seconds
        self.service, self.random = service, random.Random(seed)  # noqa: S311  no secret
        self.redis_is_ours = redis_is_ours
        self.database_url = service.environment("DATABASE_URL").replace("+psycopg", "")
        self.redis_url = service.environment("REDIS_URL")
        self.client = Upkeep(service.url, retries=PATIENT, actor="drill")
        self.model = self.client.create_model(
            f"drill-{uuid4().hex[:8]}",
            task_type="image-classification",
            base_model="preset:resnet-tiny-gray",
            labels=LABELS,
            policy=POLICY,
        )
        self.model.upload("training", pictures(240, seed=0))
        self.run_seconds = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def warm_up(self) -> None:
        """Let one run pass unharmed; its time tells when to kill in the next ones."""
        started = time.monotonic()
        run = self.model.retrain("the first, left alone", wait=True, timeout_seconds=RUN_SECONDS)
        if run["state"] != "succeeded":
            raise RuntimeError(f"the first run has {run['state']}: {run['error']}")
        self.run_seconds = time.monotonic() - started

    def kill(self, kind: str) -> None:
        """End one process at once, or empty Redis; waits for the process to be there."""
        if kind == "flush" or (kind == "redis" and not self.redis_is_ours):
            with redis.Redis.from_url(self.redis_url) as broker:
                broker.flushall() if self.redis_is_ours else broker.flushdb()
            return
        words = WORDS.get(kind)
        victim = wait_for(
            lambda: self.service.find(*words) if words else self._valkey(), 60, f"{kind} is there"
        )
        victim.kill()

    def _valkey(self) -> psutil.Process | None:
        children = psutil.Process(self.service.process.pid).children(recursive=True)
        return next((each for each in children if "valkey-server" in each.name()), None)

    def play(self, kind: str) -> Round:
        """Kill one process at a random moment of a run, and see what is left."""
        started = time.monotonic()
        with writing(self.model) as writer:
            run_id = self.model.retrain(f"a drill of {kind}")["id"]
            if kind in {"process", "worker"}:  # these are meant to hit a run that runs
                wait_for(
                    lambda: self.service.find(*WORDS["process"]), 300, "the run's process is there"
                )
            time.sleep(self.random.uniform(0, 0.4 * self.run_seconds))
            before = self.model.run(run_id)
            self.kill(kind)
            killed = time.monotonic()
            takeover = self._takeover(run_id, before, killed, kind)
            patience = RUN_SECONDS + 3 * self.run_seconds
            with contextlib.suppress(StillWaiting):
                self.model.wait_for_run(run_id, timeout_seconds=patience)
            run = self.model.run(run_id)
            ended = time.monotonic()
        return Round(
            kind=kind,
            killed_at=before["state"],
            attempts=run["attempt"],
            takeover_seconds=takeover,
            run_seconds=ended - started,
            n_acknowledged=len(writer.acknowledged),
            violations=[
                *writer.failures,
                *self._lost(writer),
                *self._wrong_with(run),
                *self._wrong_with_history(),
                *(
                    [f"taken over after {takeover:.1f} s"]
                    if takeover is not None and takeover > self.takeover_seconds
                    else []
                ),
            ],
        )

    def _takeover(self, run_id: str, before: Any, killed: float, kind: str) -> float | None:
        if kind not in {"process", "worker"} or before["state"] != "running":
            return None
        waited_for = before["attempt"] + 1

        def look() -> bool:
            run = self.model.run(run_id)
            return run["attempt"] >= waited_for or run["state"] not in {"queued", "running"}

        wait_for(look, RUN_SECONDS, "the run was taken over or has ended")
        again = self.model.run(run_id)["attempt"] >= waited_for
        return time.monotonic() - killed if again else None

    def _query(self, query: str, *values: Any) -> list[Any]:
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(query, values).fetchall()

    def _lost(self, writer: Writer) -> list[str]:
        query = "SELECT id FROM observations WHERE id = ANY(%s)"
        stored = {row[0] for row in self._query(query, writer.acknowledged)}
        missing = set(writer.acknowledged) - stored
        return [f"{len(missing)} acknowledged observations are lost"] if missing else []

    def _wrong_with(self, run: Any) -> list[str]:
        versions = self._query("SELECT number FROM model_versions WHERE run_id = %s", run["id"])
        moves = self._query(
            "SELECT t.event FROM version_transitions t JOIN model_versions v ON v.id = t.version_id"
            " WHERE v.run_id = %s AND t.event = 'promoted'",
            run["id"],
        )
        ends = self._query(
            "SELECT sequence FROM audit WHERE action = 'training_run.trained'"
            " AND detail ->> 'run' = %s",
            run["id"],
        )
        found = {
            f"it has {run['state']}: {run['error']}": run["state"] == "succeeded",
            f"its outcome is {run['outcome']}": run["outcome"] == "promoted",
            f"it made {len(versions)} versions": len(versions) == 1,
            f"it was promoted {len(moves)} times": len(moves) == 1,
            f"it ended {len(ends)} times": len(ends) == 1,
        }
        return [f"run {run['id']}: {what}" for what, is_right in found.items() if not is_right]

    def _wrong_with_history(self) -> list[str]:
        moves = self._query(
            "SELECT t.number, t.state_before, t.state_after FROM version_transitions t"
            " JOIN models m ON m.id = t.model_id WHERE m.name = %s ORDER BY t.sequence",
            self.model.name,
        )
        rises = [number for number, _, after in moves if after == "champion"]
        falls = [number for number, before, _ in moves if before == "champion"]
        wrong = [] if rises[:-1] == falls else [f"champions overlap: {rises} rose, {falls} fell"]
        if not self.client.transport.get("/v1/audit/verify")["is_whole"]:
            wrong.append("the audit's chain is broken")
        return wrong


def report(rounds: list[Round]) -> str:
    """Return a table of the kinds of kill, in Markdown."""
    lines = [
        "| killed | rounds | at (run's state) | attempts, most | taken over, worst (s) "
        "| run, worst (s) | acknowledged rows | violations |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind in dict.fromkeys(each.kind for each in rounds):
        of_kind = [each for each in rounds if each.kind == kind]
        states = [each.killed_at for each in of_kind]
        shown = ", ".join(f"{state} {states.count(state)}" for state in sorted(set(states)))
        takeovers = [each.takeover_seconds for each in of_kind if each.takeover_seconds is not None]
        cells = (
            kind,
            len(of_kind),
            shown,
            max(each.attempts for each in of_kind),
            f"{max(takeovers):.1f}" if takeovers else "-",
            f"{max(each.run_seconds for each in of_kind):.1f}",
            sum(each.n_acknowledged for each in of_kind),
            sum(len(each.violations) for each in of_kind),
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += [f"- {each.kind}: {what}" for each in rounds for what in each.violations]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10, help="of each kind")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--home", type=Path, help="where the service keeps its state")
    parser.add_argument("--port", type=int, default=8600)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory(prefix="upkeep-drill-") as folder:
        home = options.home or Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o711)  # ours: the embedded servers' lesser user must pass through
        redis_is_ours = "REDIS_URL" not in os.environ
        with (
            running(home, options.port) as service,
            Drill(service, seed=options.seed, redis_is_ours=redis_is_ours) as drill,
        ):
            drill.warm_up()
            print(f"a run left alone: {drill.run_seconds:.1f} s", flush=True)
            for number in range(options.rounds):
                for kind in options.only:
                    rounds.append(drill.play(kind))
                    last = rounds[-1]
                    print(
                        f"round {number + 1}, {kind}: killed while {last.killed_at}, "
                        f"{last.attempts} attempts, taken over after "
                        f"{last.takeover_seconds or 0:.1f} s, "
                        f"ended after {last.run_seconds:.1f} s, "
                        f"{'; '.join(last.violations) or 'nothing lost'}",
                        flush=True,
                    )
    print(report(rounds))
    return 1 if any(each.violations for each in rounds) else 0


if __name__ == "__main__":
    sys.exit(main())
