"""The API in this process, over a real Postgres, with what the real workers announce."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from app.adapters.postgres.unit_of_work import PostgresUnitOfWork
from app.config import Settings
from app.domain.models import MaintainedModel
from app.main import create_app
from app.services.ports import Plugin
from tests.integration.support import text_model
from workers.announcements import plugins


@pytest.fixture(scope="session")
def announced(engine: Engine) -> list[Plugin]:
    """The task types and detectors of the real workers."""
    found = plugins()
    with PostgresUnitOfWork(engine) as work:
        work.plugins.announce(found)
    return found


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def api(
    servers: tuple[str, str], database_url: str, home: Path, announced: list[Plugin]
) -> Iterator[TestClient]:
    settings = Settings(database_url=database_url, redis_url=servers[1], home=home)
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def model(work: PostgresUnitOfWork, announced: list[Plugin]) -> MaintainedModel:
    """A text model of its own, without versions."""
    return text_model(work)
