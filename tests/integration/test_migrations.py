"""The schema goes up, down and up again, and is what the code says it is."""

from datetime import UTC, datetime

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text

from app.adapters.postgres.unit_of_work import PostgresUnitOfWork
from app.migrating import MIGRATIONS, migrate
from app.services import observations
from app.services.ports import Actor
from tests.servers import fresh_database


@pytest.fixture
def empty(servers):
    with fresh_database(servers[0]) as url:
        yield url


def tables(url: str) -> set[str]:
    engine = create_engine(url)
    try:
        return set(inspect(engine).get_table_names())
    finally:
        engine.dispose()


def test_the_schema_goes_up_down_and_up_and_matches_the_code(empty):
    migrate(empty)
    first = tables(empty)
    migrate(empty, "base")
    assert tables(empty) == {"alembic_version"}
    migrate(empty)

    assert tables(empty) == first > {"models", "observations", "training_runs", "audit"}
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["database_url"] = empty
    command.check(config)  # raises where the code differs


def test_migrating_twice_changes_nothing(empty):
    migrate(empty)
    before = tables(empty)

    migrate(empty)

    assert tables(empty) == before


def n_migrations_after(revision):
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return len(list(ScriptDirectory.from_config(config).iterate_revisions("head", revision)))


OLD_ROWS = """
INSERT INTO projects (id, name) VALUES (gen_random_uuid(), 'default');
INSERT INTO models (id, project_id, name, task_type, base_model, labels, contract, objective)
  SELECT gen_random_uuid(), id, 'old', 'text', 'none', '["a", "b"]',
    '[{"name": "n", "type": "number"}]', '{}' FROM projects;
INSERT INTO observations (model_id, id, observed_at, inputs, prediction, scores, version)
  SELECT m.id, 'old-' || n, now(), jsonb_build_object('n', n), 'a', '{"a": 0.5}', 1
  FROM models m, generate_series(0, 99) AS n;
"""


def test_rows_of_before_are_kept_by_an_upgrade_and_all_rows_by_the_way_back(empty):
    migrate(empty, "678713449ceb")
    engine = create_engine(empty)
    with engine.begin() as connection:
        connection.execute(text(OLD_ROWS))
    migrate(empty)
    work = PostgresUnitOfWork(engine)
    rows = [{"id": f"new-{n}", "inputs": {"n": n + 0.5}, "version": 1} for n in range(100)]
    with work:
        actor = Actor("tester", "admin", work.keys.default_project())
        model_id = work.models.get("old", actor.project_id).id
    observations.ingest(work, actor, "old", rows, now=datetime.now(UTC))

    with work:
        upgraded = work.observations.newest(model_id, version=1, limit=1000)
    migrate(empty, f"-{n_migrations_after('678713449ceb')}")
    with engine.connect() as connection:
        query = "SELECT id, inputs, scores FROM observations ORDER BY sequence"
        back = [tuple(row) for row in connection.execute(text(query))]
    engine.dispose()

    old = [(f"old-{n}", {"n": n}, {"a": 0.5}) for n in range(100)]
    assert [(row.id, row.inputs, row.scores) for row in upgraded[:100]] == old
    assert back == old + [(row["id"], row["inputs"], None) for row in rows]
