"""The schema goes up, down and up again, and is what the code says it is."""

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, inspect

from app.commands import MIGRATIONS, migrate
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
