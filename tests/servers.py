"""The Postgres and Redis that tests run against: those of the environment, else embedded ones."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from app.embedded.postgres import EmbeddedPostgres
from app.embedded.valkey import EmbeddedValkey


@contextmanager
def passable_home() -> Iterator[Path]:
    """Yield a directory, gone afterwards, that the embedded servers' lesser user can pass through.

    Not pytest's own: the parents of those are closed to others.
    """
    with tempfile.TemporaryDirectory(prefix="upkeep-tests-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@contextmanager
def test_servers() -> Iterator[tuple[str, str]]:
    """Yield the URL of a database to administer from, and that of a Redis.

    DATABASE_URL and REDIS_URL win; what they do not name is embedded, in a directory that is
    gone afterwards. From the main thread only.
    """
    with ExitStack() as stack:
        database_url = os.environ.get("DATABASE_URL")
        redis_url = os.environ.get("REDIS_URL")
        if not (database_url and redis_url):
            home = stack.enter_context(passable_home())
        if not redis_url:
            redis_url = stack.enter_context(EmbeddedValkey(home / "valkey")).url
        if not database_url:
            database_url = stack.enter_context(EmbeddedPostgres(home / "postgres")).admin_url
        yield database_url, redis_url


test_servers.__test__ = False  # type: ignore[attr-defined]  # pytest must not collect it


@contextmanager
def fresh_database(admin_url: str) -> Iterator[str]:
    """Yield the SQLAlchemy URL of an empty database of its own; drop it afterwards."""
    url = make_url(admin_url)
    name = f"upkeep_test_{uuid4().hex[:16]}"
    create = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'")
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
    server = url.set(drivername="postgresql").render_as_string(hide_password=False)
    _execute(server, create.format(sql.Identifier(name)))
    try:
        fresh = url.set(drivername="postgresql+psycopg", database=name)
        yield fresh.render_as_string(hide_password=False)
    finally:
        _execute(server, drop.format(sql.Identifier(name)))


def _execute(server: str, statement: sql.Composed) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(statement)
