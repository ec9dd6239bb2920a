"""One transaction over all repositories."""

from types import TracebackType
from typing import Self

from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.orm import Session

from app.adapters.postgres.audit import PostgresEvents
from app.adapters.postgres.datasets import PostgresDatasets
from app.adapters.postgres.decisions import PostgresDecisions
from app.adapters.postgres.drift import PostgresChecks
from app.adapters.postgres.fleet import PostgresOutbox, PostgresPlugins
from app.adapters.postgres.incidents import PostgresIncidents
from app.adapters.postgres.keys import PostgresKeys
from app.adapters.postgres.models import PostgresModels
from app.adapters.postgres.observations import PostgresObservations
from app.adapters.postgres.profiles import PostgresProfiles
from app.adapters.postgres.retention import PostgresRetention
from app.adapters.postgres.self_tests import PostgresSelfTests
from app.adapters.postgres.training import PostgresRuns
from app.adapters.postgres.versions import PostgresVersions
from app.domain.errors import Unavailable


def connect(url: str, *, pool_size: int = 10) -> Engine:
    """Return an engine that checks a connection before it is used, so that a restart heals.

    What it was asked to store is in none of its errors, which end in logs.
    """
    return create_engine(
        url,
        pool_pre_ping=True,
        pool_size=pool_size,
        max_overflow=20,
        pool_timeout=10,
        hide_parameters=True,
    )


class PostgresUnitOfWork:
    """Keeps `app.services.ports.UnitOfWork`; use it in a `with` block, as often as wanted."""

    models: PostgresModels
    datasets: PostgresDatasets
    observations: PostgresObservations
    retention: PostgresRetention
    checks: PostgresChecks
    self_tests: PostgresSelfTests
    profiles: PostgresProfiles
    incidents: PostgresIncidents
    decisions: PostgresDecisions
    runs: PostgresRuns
    versions: PostgresVersions
    plugins: PostgresPlugins
    events: PostgresEvents
    outbox: PostgresOutbox
    keys: PostgresKeys

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._session: Session | None = None

    def __enter__(self) -> Self:
        session = Session(self._engine, expire_on_commit=False)
        self._session = session
        self.models = PostgresModels(session)
        self.datasets = PostgresDatasets(session)
        self.observations = PostgresObservations(session)
        self.retention = PostgresRetention(session)
        self.checks = PostgresChecks(session)
        self.self_tests = PostgresSelfTests(session)
        self.profiles = PostgresProfiles(session)
        self.incidents = PostgresIncidents(session)
        self.decisions = PostgresDecisions(session)
        self.runs = PostgresRuns(session)
        self.versions = PostgresVersions(session)
        self.plugins = PostgresPlugins(session)
        self.events = PostgresEvents(session)
        self.outbox = PostgresOutbox(session)
        self.keys = PostgresKeys(session)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        try:
            if error is None:
                session.commit()
            else:
                session.rollback()
        except (OperationalError, InterfaceError) as failure:
            raise Unavailable("Postgres is not reachable; try again") from failure
        finally:
            session.close()
        if isinstance(error, DBAPIError) and _is_down(error):
            raise Unavailable("Postgres is not reachable; try again") from error


def _is_down(error: DBAPIError) -> bool:
    return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
