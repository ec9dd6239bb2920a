"""The audit's chain: whole while nobody touched it, broken where somebody did."""

import argparse
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from app.adapters.postgres.unit_of_work import PostgresUnitOfWork, connect
from app.commands import run_audit
from app.migrating import migrate
from tests.servers import fresh_database


@pytest.fixture
def chain(servers):
    """The engine of a database of its own, with thirty entries in its audit."""
    with fresh_database(servers[0]) as url:
        migrate(url)
        engine = connect(url)

        def record(n: int) -> None:
            with PostgresUnitOfWork(engine) as work:
                project = work.keys.default_project()
                work.events.record(
                    "model.paused",
                    actor=f"actor-{n}",
                    subject="m",
                    project_id=project,
                    detail={"n": n, "share": 0.1, "text": "ä"},
                )

        record(0)
        with ThreadPoolExecutor(5) as pool:
            list(pool.map(record, range(1, 30)))
        yield engine
        engine.dispose()


def verify(engine):
    with PostgresUnitOfWork(engine) as work:
        return work.events.verify()


def test_a_chain_written_by_many_at_once_is_whole(chain):
    assert verify(chain) == {"is_whole": True, "n_entries": 30, "broken_at": None}


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE audit SET actor = 'somebody else' WHERE sequence = 17",
        "UPDATE audit SET at = at + interval '1 s' WHERE sequence = 17",
        "UPDATE audit SET detail = jsonb_set(detail, '{n}', '99') WHERE sequence = 17",
        "UPDATE audit SET sha256 = repeat('0', 64) WHERE sequence = 17",
        "UPDATE audit SET previous_sha256 = repeat('0', 64) WHERE sequence = 17",
    ],
)
def test_a_changed_entry_is_found(chain, tampering):
    with chain.begin() as connection:
        connection.execute(text(tampering))

    assert verify(chain) == {"is_whole": False, "n_entries": 17, "broken_at": 17}


def test_a_removed_entry_is_found(chain):
    with chain.begin() as connection:
        connection.execute(text("DELETE FROM audit WHERE sequence = 17"))

    assert verify(chain)["broken_at"] == 18


def test_the_command_says_so_and_exits_1(chain, monkeypatch, capsys):
    monkeypatch.setenv("UPKEEP_DATABASE_URL", chain.url.render_as_string(hide_password=False))
    assert run_audit(argparse.Namespace()) == 0
    with chain.begin() as connection:
        connection.execute(text("UPDATE audit SET actor = 'x' WHERE sequence = 3"))
    capsys.readouterr()

    assert run_audit(argparse.Namespace()) == 1
    assert json.loads(capsys.readouterr().out)["broken_at"] == 3
