"""What the integration tests say often: a model, its versions, rows, labels, a run in a worker."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Engine, text

from app.adapters.postgres.unit_of_work import PostgresUnitOfWork, connect
from app.domain.identity import new_id
from app.domain.models import MaintainedModel, Objective
from app.domain.observations import ContractField, FieldType
from app.domain.training import TrainingRun
from app.domain.versions import ModelVersion, Origin, VersionState
from app.migrating import migrate
from app.services import datasets, decisions, models, observations, training
from app.services.ports import Actor, Artifacts
from tests.servers import fresh_database
from workers.announcements import plugins

LABELS = ("negative", "positive")
NO_CHECKS = {"check": {"every_seconds": 1e9, "settle_seconds": 1e9}}


def now() -> datetime:
    return datetime.now(UTC)


def actor(work: PostgresUnitOfWork, name: str = "tester") -> Actor:
    with work:
        return Actor(name, "admin", work.keys.default_project())


def text_model(
    work: PostgresUnitOfWork,
    *,
    policy: Mapping[str, Any] | None = None,
    contract: Sequence[ContractField] | None = None,
) -> MaintainedModel:
    wanted = models.NewModel(
        name=f"m-{uuid4().hex[:12]}",
        task_type="text-classification",
        base_model="preset:none",
        labels=LABELS,
        contract=contract,
        objective=Objective(),
        policy=policy or {},
    )
    return models.create(work, actor(work), wanted, now=now())


def table_model(work: PostgresUnitOfWork) -> MaintainedModel:
    """A model over two columns of few values."""
    wanted = models.NewModel(
        name=f"m-{uuid4().hex[:12]}",
        task_type="tabular-classification",
        base_model="preset:boosted-trees",
        labels=LABELS,
        contract=[
            ContractField("colour", FieldType.CATEGORY),
            ContractField("is_new", FieldType.BOOLEAN),
        ],
        objective=Objective(),
        policy={},
    )
    return models.create(work, actor(work), wanted, now=now())


def add_version(
    work: PostgresUnitOfWork,
    model: MaintainedModel,
    state: VersionState = VersionState.CHALLENGER,
    *,
    judged_against: UUID | bool | None = False,
    passed: bool = True,
    **more: Any,
) -> ModelVersion:
    """Store a version as if it had been trained; with evidence if it was judged."""
    with work:
        version = work.versions.add(
            ModelVersion(
                id=new_id(),
                model_id=model.id,
                number=work.versions.next_number(model.id),
                state=state,
                origin=Origin.TRAINED,
                digest=uuid4().hex,
                files=(),
                created_at=now(),
                state_since=now(),
                **more,
            )
        )
        if judged_against is not False:
            verdict = {"gate": "beats-baseline", "passed": passed, "reason": "", "values": {}}
            work.versions.add_evidence(model.id, version.id, judged_against, {}, [verdict])
        return version


def rows_of(n: int, *, prefix: str = "o", start: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{prefix}-{index}",
            "inputs": {"text": f"{prefix} text number {index}"},
            "prediction": LABELS[index % 2],
        }
        for index in range(start, start + n)
    ]


def labels_of(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"id": row["id"], "label": row["prediction"]} for row in rows]


def feed(
    work: PostgresUnitOfWork, model: MaintainedModel, rows: Sequence[Any], *, labelled: bool = True
) -> None:
    observations.ingest(work, actor(work), model.name, rows, now=now())
    if labelled:
        observations.add_labels(work, actor(work), model.name, labels_of(rows), now=now())


def upload(
    work: PostgresUnitOfWork,
    artifacts: Artifacts,
    model: MaintainedModel,
    rows: Sequence[Any],
    role: str = "training",
) -> UUID:
    stored, _ = datasets.upload(
        work, artifacts, actor(work), model.name, role=role, rows=rows, now=now()
    )
    return stored.id


def examples(n: int, *, prefix: str = "t") -> list[dict[str, Any]]:
    return [
        {"inputs": {"text": f"{prefix} example {index}"}, "label": LABELS[index % 2]}
        for index in range(n)
    ]


def retrain(
    work: PostgresUnitOfWork, model: MaintainedModel, *, key: str | None = None, **more: Any
) -> TrainingRun:
    request = training.Request(more.pop("reason", "a test asks"), **more)
    return decisions.retrain(work, actor(work), model.name, request, key=key, now=now())


def expire_lease(engine: Engine, table: str, job_id: UUID) -> None:
    """Let a lease run out, as silence of its worker would."""
    with engine.begin() as connection:
        connection.execute(
            text(f"UPDATE {table} SET lease_expires_at = now() - interval '1 s' WHERE id = :id"),
            {"id": job_id},
        )


@contextlib.contextmanager
def fresh(servers: tuple[str, str]) -> Iterator[tuple[PostgresUnitOfWork, Engine]]:
    """Yield a unit of work over a database of its own, and its engine."""
    with fresh_database(servers[0]) as url:
        migrate(url)
        engine = connect(url)
        with PostgresUnitOfWork(engine) as work:
            work.plugins.announce(plugins())
        yield PostgresUnitOfWork(engine), engine
        engine.dispose()


def age(engine: Engine, *, days: int) -> None:
    """Let everything stored have arrived so many days ago."""
    with engine.begin() as connection:
        for change in (
            "UPDATE observations SET received_at = received_at - make_interval(days => :days)",
            "UPDATE observation_segments SET arrived_on = arrived_on - CAST(:days AS integer)",
            "UPDATE quarantined_observations"
            " SET received_at = received_at - make_interval(days => :days)",
            "UPDATE drift_reports SET created_at = created_at - make_interval(days => :days)",
        ):
            connection.execute(text(change), {"days": days})


def partitions(engine: Engine) -> set[str]:
    query = (
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'observation_segments'::regclass"
    )
    with engine.connect() as connection:
        return set(connection.execute(text(query)).scalars())
