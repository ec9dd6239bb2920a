"""Inference records and their labels."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from app.adapters.postgres.paging import page_of
from app.adapters.postgres.schema import LabelRow, ObservationRow, QuarantinedRow
from app.domain.errors import NotFound
from app.domain.observations import Label, Observation, Rejected
from app.services.documents import document
from app.services.ports import Example, Json, Listed, Page

_ADD_LABELS = text("""
WITH incoming AS (
  SELECT * FROM unnest(CAST(:ids AS text[]), CAST(:labels AS text[]), CAST(:times AS timestamptz[]))
    WITH ORDINALITY AS t(id, label, labelled_at, n)
), added AS (
  INSERT INTO labels (model_id, observation_id, label, labelled_at)
  SELECT CAST(:model_id AS uuid), i.id, i.label, i.labelled_at
  FROM incoming i JOIN observations o ON o.model_id = :model_id AND o.id = i.id
  WHERE o.label IS DISTINCT FROM i.label AND (:corrects OR o.label IS NULL)
  ORDER BY o.sequence
  RETURNING sequence, observation_id, label
)
UPDATE observations o SET label = a.label, label_sequence = a.sequence
FROM added a WHERE o.model_id = :model_id AND o.id = a.observation_id
RETURNING o.id
""")

_TIMELINE = text("""
SELECT (rank - 1) / :bucket AS bucket, min(sequence) AS first_sequence,
       max(sequence) AS last_sequence, min(observed_at) AS first_at, max(observed_at) AS last_at,
       count(*) AS n, count(label) AS n_labelled,
       count(*) FILTER (WHERE prediction = label) AS n_right
FROM (SELECT *, row_number() OVER (ORDER BY sequence) AS rank
      FROM observations WHERE model_id = :model_id) AS o
GROUP BY 1 ORDER BY 1
""")

_BY_VERSION = text("""
WITH ranked AS (
  SELECT *, row_number() OVER (ORDER BY sequence) AS rank
  FROM observations WHERE model_id = :model_id
), answers AS (
  SELECT rank, label, version::text AS version, prediction FROM ranked
  WHERE label IS NOT NULL AND version IS NOT NULL AND prediction IS NOT NULL
  UNION ALL
  SELECT r.rank, r.label, s.key, s.value FROM ranked r, jsonb_each_text(r.shadow) AS s
  WHERE r.label IS NOT NULL AND s.key <> r.version::text
)
SELECT (rank - 1) / :bucket AS bucket, version, count(*) AS n,
       count(*) FILTER (WHERE prediction = label) AS n_right
FROM answers GROUP BY 1, 2
""")


class PostgresObservations:
    """Keeps `app.services.ports.Observations`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, model_id: UUID, rows: Sequence[Observation]) -> int:
        """Store the rows whose id is new, in order; return how many they were.

        Writers of one model take turns, so that arrival numbers are committed in order and a
        window never gains a row behind its end.
        """
        if not rows:
            return 0
        self._take_turn(model_id)
        statement = (
            upsert(ObservationRow)
            .on_conflict_do_nothing(index_elements=["model_id", "id"])
            .returning(ObservationRow.id)
        )
        values = [
            {
                "model_id": model_id,
                "id": row.id,
                "observed_at": row.at,
                "inputs": dict(row.inputs),
                "prediction": row.prediction,
                "scores": dict(row.scores) if row.scores else None,
                "version": row.version,
                "shadow": dict(row.shadow) if row.shadow else None,
            }
            for row in rows
        ]
        return len(self._session.scalars(statement, values).all())

    def _take_turn(self, model_id: UUID) -> None:
        key = model_id.int & 0x7FFF_FFFF_FFFF_FFFF
        self._session.execute(select(func.pg_advisory_xact_lock(key)))

    def quarantine(
        self, model_id: UUID, rejected: Sequence[Rejected], bodies: Sequence[str]
    ) -> None:
        values = [
            {
                "model_id": model_id,
                "observation_id": row.id,
                "body": body,
                "faults": document(row.faults),
            }
            for row, body in zip(rejected, bodies, strict=True)
        ]
        if values:
            self._session.execute(insert(QuarantinedRow), values)

    def quarantined(self, model_id: UUID, page: Page) -> Listed:
        query = select(QuarantinedRow).where(QuarantinedRow.model_id == model_id)

        def render(row: QuarantinedRow) -> Json:
            return {
                "id": row.observation_id,
                "body": row.body,
                "errors": row.faults,
                "received_at": row.received_at,
            }

        return page_of(self._session, query, page, (QuarantinedRow.sequence,), render)

    def add_labels(
        self, model_id: UUID, labels: Sequence[Label], *, corrects: bool = True
    ) -> tuple[set[str], int]:
        """Store labels; return the known ids among them, and how many labels were news.

        Unless `corrects`, an observation that has a label keeps it.
        """
        ids = [label.observation_id for label in labels]
        self._take_turn(model_id)
        known = set(
            self._session.scalars(
                select(ObservationRow.id).where(
                    ObservationRow.model_id == model_id, ObservationRow.id.in_(ids)
                )
            )
        )
        newest = {label.observation_id: label for label in labels if label.observation_id in known}
        if not newest:
            return known, 0
        changed = self._session.execute(
            _ADD_LABELS,
            {
                "model_id": model_id,
                "corrects": corrects,
                "ids": list(newest),
                "labels": [label.label for label in newest.values()],
                "times": [label.at for label in newest.values()],
            },
        ).all()
        return known, len(changed)

    def get(self, model_id: UUID, observation_id: str) -> Json:
        row = self._session.get(ObservationRow, (model_id, observation_id))
        if row is None:
            raise NotFound(f"there is no observation {observation_id!r}")
        history = self._session.scalars(
            select(LabelRow)
            .where(LabelRow.model_id == model_id, LabelRow.observation_id == observation_id)
            .order_by(LabelRow.sequence)
        )
        return {
            **document(_observation(row)),
            "received_at": row.received_at,
            "labels": [
                {"label": label.label, "at": label.labelled_at, "received_at": label.received_at}
                for label in history
            ],
        }

    def newest(self, model_id: UUID, *, version: int, limit: int) -> Sequence[Observation]:
        """Return the newest rows that a version answered, oldest first."""
        rows = self._session.scalars(
            select(ObservationRow)
            .where(ObservationRow.model_id == model_id, ObservationRow.version == version)
            .order_by(ObservationRow.sequence.desc())
            .limit(limit)
        ).all()
        return [_observation(row) for row in reversed(rows)]

    def labelled(
        self, model_id: UUID, *, after_label: int, through_label: int
    ) -> Sequence[Example]:
        rows = self._session.execute(
            select(
                ObservationRow.id,
                ObservationRow.inputs,
                ObservationRow.label,
                ObservationRow.sequence,
            )
            .where(
                ObservationRow.model_id == model_id,
                ObservationRow.label_sequence > after_label,
                ObservationRow.label_sequence <= through_label,
            )
            .order_by(ObservationRow.sequence)
        )
        return [Example(row.id, row.inputs, row.label or "", row.sequence) for row in rows]

    def correctness(self, model_id: UUID, *, version: int) -> Sequence[bool]:
        """Return whether each labelled answer of a version was right, in order of arrival."""
        return [
            bool(right)
            for right in self._session.scalars(
                select(ObservationRow.prediction == ObservationRow.label)
                .where(
                    ObservationRow.model_id == model_id,
                    ObservationRow.version == version,
                    ObservationRow.label.is_not(None),
                    ObservationRow.prediction.is_not(None),
                )
                .order_by(ObservationRow.sequence)
            )
        ]

    def horizon(self, model_id: UUID) -> tuple[int, int]:
        """Return the newest arrival number and the newest label number."""
        row = self._session.execute(
            select(
                func.max(ObservationRow.sequence), func.max(ObservationRow.label_sequence)
            ).where(ObservationRow.model_id == model_id)
        ).one()
        return row[0] or 0, row[1] or 0

    def n_labelled(self, model_id: UUID, *, after_label: int) -> int:
        return self._count(
            ObservationRow.model_id == model_id, ObservationRow.label_sequence > after_label
        )

    def _count(self, *conditions: Any) -> int:
        query = select(func.count()).select_from(ObservationRow).where(*conditions)
        return self._session.scalar(query) or 0

    def n_classes(self, model_id: UUID) -> int:
        query = select(func.count(func.distinct(ObservationRow.label))).where(
            ObservationRow.model_id == model_id
        )
        return self._session.scalar(query) or 0

    def timeline(self, model_id: UUID, *, bucket: int) -> Sequence[Json]:
        """Return the accuracy that users got, by bucket of so many observations."""
        parameters = {"model_id": model_id, "bucket": bucket}
        by_version: dict[int, Json] = {}
        for row in self._session.execute(_BY_VERSION, parameters):
            by_version.setdefault(row.bucket, {})[row.version] = {
                "n": row.n,
                "accuracy": row.n_right / row.n,
            }
        return [
            {
                "first_sequence": row.first_sequence,
                "last_sequence": row.last_sequence,
                "first_at": row.first_at,
                "last_at": row.last_at,
                "n": row.n,
                "n_labelled": row.n_labelled,
                "accuracy": row.n_right / row.n_labelled if row.n_labelled else None,
                "by_version": by_version.get(row.bucket, {}),
            }
            for row in self._session.execute(_TIMELINE, parameters)
        ]


def _observation(row: ObservationRow) -> Observation:
    return Observation(
        id=row.id,
        at=row.observed_at,
        inputs=row.inputs,
        prediction=row.prediction,
        scores=row.scores,
        version=row.version,
        shadow=row.shadow or {},
        label=row.label,
        sequence=row.sequence,
    )
