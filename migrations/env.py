"""How Alembic reaches the database: one transaction a migration, and no long waits for locks."""

from alembic import context
from sqlalchemy import create_engine, pool, text

from app.adapters.postgres.schema import Row
from app.config import Settings

LOCK = 0x6D696772  # any fixed number: two migrating processes take turns on it


def url() -> str:
    """Return the database's URL: handed over by the caller, else from the environment."""
    given = context.config.attributes.get("database_url") or Settings().database_url
    if not given:
        raise SystemExit("set DATABASE_URL to the database to migrate")
    return str(given)


def is_compared(name: str | None, kind: str, _: object) -> bool:
    """Leave out the partitions, which come and go with the days."""
    return kind != "table" or not str(name).startswith("observation_segments_")


def run() -> None:
    """Migrate, holding an advisory lock."""
    engine = create_engine(url(), poolclass=pool.NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": LOCK})
        connection.execute(text("SET lock_timeout = '4s'"))
        connection.commit()
        context.configure(
            connection=connection,
            target_metadata=Row.metadata,
            compare_type=True,
            compare_server_default=True,
            transaction_per_migration=True,
            include_name=is_compared,
        )
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


run()
