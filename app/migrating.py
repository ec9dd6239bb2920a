"""The schema of a database, brought to a revision; loaded only by those who do that."""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from app.adapters.postgres.unit_of_work import connect

MIGRATIONS: Final = Path(__file__).parent.parent / "migrations"


def migrate(database_url: str, revision: str = "head") -> None:
    """Bring the schema of a database to a revision, up or down."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["database_url"] = database_url
    is_relative = revision == "base" or revision.startswith("-")
    if is_relative or revision in _revisions_behind(config, database_url):
        command.downgrade(config, revision)
    else:
        command.upgrade(config, revision)


def _revisions_behind(config: Config, database_url: str) -> set[str]:
    """Return the revisions that a database has been through, without the one it is at."""
    engine = connect(database_url, pool_size=1)
    try:
        with engine.connect() as connection:
            present = MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()
    script = ScriptDirectory.from_config(config)
    walked = script.iterate_revisions(present, "base") if present else ()
    return {revision.revision for revision in walked} - {present or ""}
