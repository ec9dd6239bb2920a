"""Maintained models, their policies, and which of them are due for a look."""

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.adapters.postgres.paging import page_of
from app.adapters.postgres.schema import ModelRow, PolicyRow, PrivacySecretRow
from app.domain.answers import Answer, answer_of
from app.domain.errors import Conflict, NotFound
from app.domain.models import MaintainedModel, Objective
from app.domain.observations import ContractField, FieldType, InputContract, Intake
from app.domain.privacy import Privacy
from app.services.documents import document
from app.services.ports import Json, Listed, Page

_DUE = text("""
WITH newest AS (
  SELECT m.id,
         m.last_checked_at,
         (SELECT max(o.sequence) FROM observations o WHERE o.model_id = m.id) AS sequence,
         (SELECT max(o.received_at) FROM observations o
           WHERE o.model_id = m.id AND o.sequence =
             (SELECT max(p.sequence) FROM observations p WHERE p.model_id = m.id)) AS seen_at,
         (SELECT max(o.label_sequence) FROM observations o
           WHERE o.model_id = m.id AND o.label_sequence IS NOT NULL) AS label_sequence,
         m.checked_through, m.checked_labels_through, m.created_at, m.recheck_at, p.document,
         (SELECT max(received_at) FROM (
            SELECT q.received_at FROM quarantined_observations q
            WHERE q.model_id = m.id AND q.sequence > m.refused_through LIMIT 1000) AS refused
          HAVING count(*) >= least(1000, coalesce(
            (p.document #>> '{faults,minimum_rows}')::int, 50))) AS refused_at
  FROM models m
  JOIN policies p ON p.model_id = m.id AND p.version = m.policy_version
  WHERE NOT m.is_paused
    AND EXISTS (SELECT 1 FROM model_versions v WHERE v.model_id = m.id AND v.state = 'champion')
    AND NOT EXISTS (SELECT 1 FROM checks c
                    WHERE c.model_id = m.id AND c.state IN ('queued', 'running'))
    AND NOT EXISTS (SELECT 1 FROM training_runs r WHERE r.model_id = m.id
                    AND r.state IN ('queued', 'running', 'trained'))
), stirred AS (
  SELECT n.*,
         greatest(n.seen_at, n.refused_at, (SELECT l.received_at FROM labels l
                              WHERE l.sequence = n.label_sequence)) AS stirred_at
  FROM newest n
  WHERE n.sequence > n.checked_through OR n.label_sequence > n.checked_labels_through
     OR n.recheck_at <= :now OR n.refused_at IS NOT NULL
)
SELECT m.id FROM models m JOIN stirred s ON s.id = m.id
WHERE s.recheck_at <= :now OR s.stirred_at <= :now - make_interval(secs =>
        (s.document #>> '{check,settle_seconds}')::float)
   OR coalesce(s.last_checked_at, s.created_at) <= :now - make_interval(secs =>
        (s.document #>> '{check,every_seconds}')::float)
FOR UPDATE OF m SKIP LOCKED
""")

_SCHEDULED = text("""
SELECT m.id, p.document #>> '{triggers,schedule,cron}' AS cron,
       coalesce(m.last_scheduled_at, m.created_at) AS since
FROM models m JOIN policies p ON p.model_id = m.id AND p.version = m.policy_version
WHERE NOT m.is_paused AND p.document #> '{triggers,schedule}' IS NOT NULL
  AND EXISTS (SELECT 1 FROM model_versions v WHERE v.model_id = m.id AND v.state = 'champion')
FOR UPDATE OF m SKIP LOCKED
""")

_WATCH = text("""
SELECT
  coalesce(c.n_observations, 0) AS n_observations,
  coalesce(c.n_labels, 0) AS n_labels,
  (SELECT count(*) FROM (SELECT 1 FROM observations o WHERE o.model_id = m.id
     AND o.sequence > m.checked_through LIMIT 100000) AS unchecked) AS n_unchecked_observations,
  (SELECT count(*) FROM (SELECT 1 FROM observations o WHERE o.model_id = m.id
     AND o.label_sequence > m.checked_labels_through LIMIT 100000) AS unchecked
  ) AS n_unchecked_labels,
  (SELECT count(*) FROM (SELECT 1 FROM quarantined_observations q
     WHERE q.model_id = m.id AND q.sequence > m.refused_through LIMIT 1000) AS refused
  ) AS n_unchecked_refusals,
  (SELECT least(1000, coalesce((p.document #>> '{faults,minimum_rows}')::int, 50))
   FROM policies p WHERE p.model_id = m.id AND p.version = m.policy_version) AS enough_refusals,
  m.last_checked_at,
  m.recheck_at,
  m.is_paused,
  EXISTS (SELECT 1 FROM checks c
          WHERE c.model_id = m.id AND c.state IN ('queued', 'running')) AS is_checking,
  EXISTS (SELECT 1 FROM training_runs r WHERE r.model_id = m.id
          AND r.state IN ('queued', 'running', 'trained')) AS is_training,
  EXISTS (SELECT 1 FROM model_versions v WHERE v.model_id = m.id AND v.adopt
          AND v.state = 'imported') AS is_importing
FROM models m LEFT JOIN observation_counts c ON c.model_id = m.id WHERE m.id = :model_id
""")


_OVERVIEW = text("""
SELECT m.id, m.name, m.last_checked_at,
  coalesce(c.n_observations, 0) AS n_observations,
  coalesce(c.n_labels, 0) AS n_labels,
  (SELECT count(*) FROM (SELECT 1 FROM observations o WHERE o.model_id = m.id
     AND o.sequence > m.checked_through LIMIT 100000) AS unchecked) AS n_unchecked,
  v.number AS champion, v.state_since AS champion_since,
  r.finding, r.scores, r.performance,
  CASE WHEN r.version_id = v.id THEN r.estimate END AS estimate,
  CASE WHEN r.version_id = v.id THEN r.slices END AS slices,
  (SELECT jsonb_object_agg(state, n) FROM (SELECT state, count(*) AS n FROM training_runs t
    WHERE t.model_id = m.id GROUP BY state) AS s) AS runs,
  (SELECT jsonb_object_agg(outcome, n) FROM (SELECT outcome, count(*) AS n FROM decisions d
    WHERE d.model_id = m.id GROUP BY outcome) AS s) AS decisions,
  (SELECT jsonb_object_agg(kind, n) FROM (SELECT kind, count(*) AS n FROM incidents i
    WHERE i.model_id = m.id AND i.state <> 'resolved' GROUP BY kind) AS s) AS incidents,
  (SELECT extract(epoch FROM t.finished_at - t.started_at)::float FROM training_runs t
    WHERE t.model_id = m.id AND t.finished_at IS NOT NULL AND t.started_at IS NOT NULL
    ORDER BY t.id DESC LIMIT 1) AS run_seconds,
  (SELECT t.progress FROM training_runs t
    WHERE t.model_id = m.id AND t.state = 'running'
    ORDER BY t.started_at DESC LIMIT 1) AS progress
FROM models m
LEFT JOIN observation_counts c ON c.model_id = m.id
LEFT JOIN model_versions v ON v.model_id = m.id AND v.state = 'champion'
LEFT JOIN LATERAL (SELECT finding, scores, performance, estimate, slices, version_id
  FROM drift_reports d
  WHERE d.model_id = m.id ORDER BY d.id DESC LIMIT 1) AS r ON true
""")

_INTAKE = text("""
SELECT m.id, m.labels, m.contract, m.answer, v.number, s.secret
FROM models m LEFT JOIN model_versions v ON v.model_id = m.id AND v.state = 'champion'
LEFT JOIN privacy_secrets s ON s.model_id = m.id
WHERE m.name = :name AND m.project_id = :project_id
""")


class PostgresModels:
    """Keeps `app.services.ports.Models`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, model: MaintainedModel, *, actor: str) -> None:
        row = {
            "id": model.id,
            "project_id": model.project_id,
            "name": model.name,
            "task_type": model.task_type,
            "base_model": model.base_model,
            "labels": list(model.labels),
            "contract": [_stored(field) for field in model.contract.fields],
            "objective": document(model.objective),
            "answer": model.answer.document(),
            "created_at": model.created_at,
        }
        try:
            self._session.execute(insert(ModelRow).values(**row))
        except IntegrityError as error:
            raise Conflict(
                f"a model named {model.name!r} exists already; choose another name"
            ) from error
        self._add_policy(model.id, 1, dict(model.policy), actor)
        if any(field.privacy is Privacy.HASH for field in model.contract.fields):
            secret = {"model_id": model.id, "secret": secrets.token_bytes(32)}
            self._session.execute(insert(PrivacySecretRow).values(**secret))

    def _add_policy(self, model_id: UUID, version: int, body: Json, actor: str) -> None:
        values = {"model_id": model_id, "version": version, "document": body, "actor": actor}
        self._session.execute(insert(PolicyRow).values(**values))

    def get(self, name: str, project_id: UUID) -> MaintainedModel:
        row = self._session.scalar(
            select(ModelRow).where(ModelRow.name == name, ModelRow.project_id == project_id)
        )
        if row is None:
            raise _unknown(name)
        return self._model(row)

    def intake(self, name: str, project_id: UUID) -> Intake:
        """Return what the observations of a model are held to, in one look."""
        parameters = {"name": name, "project_id": project_id}
        row = self._session.connection().execute(_INTAKE, parameters).one_or_none()
        if row is None:
            raise _unknown(name)
        contract = _contract(row.contract)
        labels, secret = tuple(row.labels), bytes(row.secret or b"")
        answers_with = _answers_with(labels, row.answer)
        return Intake(row.id, labels, contract, row.number, secret, answers_with)

    def by_id(self, model_id: UUID) -> MaintainedModel:
        row = self._session.get(ModelRow, model_id, populate_existing=True)
        if row is None:
            raise NotFound(f"there is no model {model_id}")
        return self._model(row)

    def lock(self, model_id: UUID) -> None:
        """Hold the model until the transaction ends; everything that spans rows takes this."""
        self._session.execute(select(ModelRow.id).where(ModelRow.id == model_id).with_for_update())

    def _model(self, row: ModelRow) -> MaintainedModel:
        policy = self._session.get(PolicyRow, (row.id, row.policy_version))
        return MaintainedModel(
            id=row.id,
            project_id=row.project_id,
            name=row.name,
            task_type=row.task_type,
            base_model=row.base_model,
            labels=tuple(row.labels),
            contract=_contract(row.contract),
            objective=Objective(**row.objective),
            policy_version=row.policy_version,
            policy=policy.document if policy else {},
            is_paused=row.is_paused,
            created_at=row.created_at,
            measured_baseline=row.measured_baseline,
            answers_with=_answers_with(row.labels, row.answer),
        )

    def listed(self, project_id: UUID, page: Page) -> Listed:
        query = select(ModelRow).where(ModelRow.project_id == project_id)
        return page_of(self._session, query, page, (ModelRow.id,), self._model)

    def set_policy(self, model_id: UUID, document: Json, *, actor: str) -> int:
        version = self._session.scalar(
            update(ModelRow)
            .where(ModelRow.id == model_id)
            .values(policy_version=ModelRow.policy_version + 1)
            .returning(ModelRow.policy_version)
        )
        if version is None:
            raise NotFound(f"there is no model {model_id}")
        self._add_policy(model_id, version, document, actor)
        return int(version)

    def policy_versions(self, model_id: UUID) -> Sequence[Json]:
        rows = self._session.scalars(
            select(PolicyRow)
            .where(PolicyRow.model_id == model_id)
            .order_by(PolicyRow.version.desc())
        )
        return [
            {
                "version": row.version,
                "document": row.document,
                "actor": row.actor,
                "created_at": row.created_at,
            }
            for row in rows
        ]

    def set_paused(self, model_id: UUID, is_paused: bool) -> None:
        self._set(model_id, is_paused=is_paused)

    def set_labels(self, model_id: UUID, labels: Sequence[str]) -> None:
        self._set(model_id, labels=list(labels))

    def set_baseline(self, model_id: UUID, value: float) -> None:
        self._session.execute(
            update(ModelRow)
            .where(ModelRow.id == model_id, ModelRow.measured_baseline.is_(None))
            .values(measured_baseline=value)
        )

    def learn_scale(self, model_id: UUID, scale: float) -> None:
        """Keep the scale of a model's answers, where it has none yet."""
        self._session.execute(
            update(ModelRow)
            .where(ModelRow.id == model_id, ModelRow.answer["scale"].astext.is_(None))
            .values(answer=ModelRow.answer.concat({"scale": scale}))
        )

    def due(self, *, now: datetime) -> Sequence[UUID]:
        """Return models with rows or labels nobody looked at, locked for this transaction."""
        return list(self._session.scalars(_DUE, {"now": now}))

    def with_schedule(self) -> Sequence[tuple[UUID, str, datetime]]:
        """Return (model, cron, when it last fired) of each model that has a schedule, locked."""
        return [(row.id, row.cron, row.since) for row in self._session.execute(_SCHEDULED)]

    def checked(
        self, model_id: UUID, *, through: int, labels_through: int, recheck_at: datetime | None
    ) -> None:
        self._session.execute(
            update(ModelRow)
            .where(ModelRow.id == model_id)
            .values(
                checked_through=func.greatest(ModelRow.checked_through, through),
                checked_labels_through=func.greatest(
                    ModelRow.checked_labels_through, labels_through
                ),
                last_checked_at=func.now(),
                recheck_at=recheck_at,
            )
        )

    def look_again(self, model_id: UUID, at: datetime) -> None:
        self._set(model_id, recheck_at=at)

    def scheduled(self, model_id: UUID, at: datetime) -> None:
        self._set(model_id, last_scheduled_at=at)

    def last_scheduled_at(self, model_id: UUID) -> datetime:
        row = self._session.get_one(ModelRow, model_id)
        return row.last_scheduled_at or row.created_at

    def watch(self, model_id: UUID) -> Json:
        row = dict(self._session.execute(_WATCH, {"model_id": model_id}).one()._mapping)
        busy = row["is_checking"] or row["is_training"] or row["is_importing"]
        unchecked = row["n_unchecked_observations"] or row["n_unchecked_labels"]
        unchecked = unchecked or row["n_unchecked_refusals"] >= row.pop("enough_refusals")
        unchecked = unchecked or row["recheck_at"] is not None
        waits = bool(unchecked) and not row["is_paused"]
        return {**row, "is_settled": not busy and not waits}

    def overview(self) -> Sequence[Json]:
        """Return what the metrics show of every model."""
        return [dict(row._mapping) for row in self._session.execute(_OVERVIEW)]

    def _set(self, model_id: UUID, **values: Any) -> None:
        self._session.execute(update(ModelRow).where(ModelRow.id == model_id).values(**values))


def _answers_with(labels: Sequence[str], document: Json | None) -> Answer | None:
    return None if document is None else answer_of(labels, document)


def _unknown(name: str) -> NotFound:
    return NotFound(f"there is no model {name!r}; GET /v1/models lists them")


def _stored(field: ContractField) -> Json:
    """Return a field without what it leaves open: an older process knows no newer keys."""
    return {key: value for key, value in document(field).items() if value is not None}


def _contract(fields: Sequence[Json]) -> InputContract:
    return InputContract(tuple(_field(item) for item in fields))


def _field(stored: Json) -> ContractField:
    privacy = stored.get("privacy")
    return ContractField(
        **{
            **stored,
            "type": FieldType(stored["type"]),
            "privacy": Privacy(privacy) if privacy else None,
        }
    )
