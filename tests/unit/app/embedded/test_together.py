"""Does `up` come up in order, hand its servers on, and say why when it cannot?"""

import http.server
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.embedded.together import Plan, Program, is_healthy, up

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A plan over external servers, whose API is a plain file server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "files").mkdir()
    serve = ["-m", "http.server", str(port), "--bind", "127.0.0.1", "-d", str(tmp_path / "files")]
    tell_and_stop = f'echo "$DATABASE_URL $REDIS_URL" > {tmp_path}/told; kill -TERM {os.getpid()}'

    def migrate(url: str) -> None:
        (tmp_path / "migrated").write_text(url)

    return Plan(
        home=tmp_path,
        database_url="postgresql+psycopg://elsewhere/x",
        redis_url="redis://elsewhere",
        processes=[
            Program("api", [sys.executable, *serve]),
            Program("worker", ["/bin/sh", "-c", f"{tell_and_stop}; sleep 600"], needs="api"),
        ],
        migrate=migrate,
        health_url=f"http://127.0.0.1:{port}/",
        announce=lambda _: None,
    )


def test_external_servers_are_handed_on_and_nothing_is_embedded(plan: Plan) -> None:
    assert up(plan) == 0
    assert (plan.home / "migrated").read_text() == plan.database_url
    told = (plan.home / "told").read_text()
    assert told == f"{plan.database_url} {plan.redis_url}\n"
    assert not (plan.home / "postgres").exists()
    assert not is_healthy(plan.health_url)


def test_what_needs_the_api_waits_for_its_health(plan: Plan) -> None:
    checked = f"{sys.executable} -c \"import urllib.request as r; r.urlopen('{plan.health_url}')\""
    command = f"{checked} && touch {plan.home}/healthy; kill -TERM {os.getpid()}; sleep 600"
    worker = Program("worker", ["/bin/sh", "-c", command], needs="api")
    assert up(replace(plan, processes=[plan.processes[0], worker])) == 0
    assert (plan.home / "healthy").exists()


def test_an_api_that_ends_at_once_is_told_with_its_last_words(plan: Plan) -> None:
    said: list[str] = []
    broken = Program("api", ["/bin/sh", "-c", "echo port taken; exit 1"])
    assert up(replace(plan, processes=[broken], announce=said.append)) == 1
    assert "api ended with status 1" in said[-1]
    assert "| port taken" in said[-1]


def test_a_migration_that_fails_is_raised_and_nothing_was_started(plan: Plan) -> None:
    def fail(url: str) -> None:
        raise ValueError(url)

    with pytest.raises(ValueError, match="elsewhere"):
        up(replace(plan, migrate=fail))
    assert not (plan.home / "told").exists()


def test_a_signal_interrupts_a_migration(plan: Plan) -> None:
    def stop(url: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(30)

    assert up(replace(plan, migrate=stop)) == 0
    assert not (plan.home / "told").exists()


@pytest.fixture
def stranger(plan: Plan) -> Iterator[None]:
    """Somebody else's server at the address of our API."""
    address = ("127.0.0.1", int(plan.health_url.rpartition(":")[2].strip("/")))
    with http.server.ThreadingHTTPServer(address, http.server.SimpleHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("stranger")
def test_a_stranger_at_our_address_is_not_taken_for_our_api(plan: Plan) -> None:
    said: list[str] = []
    assert up(replace(plan, announce=said.append)) == 1
    assert "something else answers" in said[-1]
