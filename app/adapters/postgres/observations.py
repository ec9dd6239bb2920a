"""Inference records and their labels."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any, Final
from uuid import UUID

import pyarrow as pa
from sqlalchemy import (
    ARRAY,
    Date,
    Subquery,
    Text,
    and_,
    cast,
    column,
    func,
    insert,
    literal,
    select,
    text,
    true,
)
from sqlalchemy.orm import Session

from app.adapters.postgres import copying, segments, violations, writing
from app.adapters.postgres.column_reads import columns_of
from app.adapters.postgres.incidents import is_sound
from app.adapters.postgres.label_lags import waits_of
from app.adapters.postgres.paging import page_of
from app.adapters.postgres.schema import (
    ForgottenRow,
    LabelRow,
    ObservationCountsRow,
    ObservationRow,
    QuarantinedRow,
)
from app.adapters.postgres.segments import Address
from app.domain.answers import Answer
from app.domain.errors import NotFound
from app.domain.observations import Label, Observation, Rejected
from app.services.batches import Batch, Columns, inputs_of, scores_of
from app.services.documents import document
from app.services.ports import AnsweredExample, Example, Json, LabelWaits, Listed, Page

# The subquery with LIMIT keeps the look-up what it is, one descent of the primary key for an id,
# whatever the planner believes about a model it has no statistics of.
_ADD_LABELS: Final = """
WITH known AS (
  SELECT o.place, o.id, o.sequence, o.label AS present, i.label, i.labelled_at
  FROM unnest(%(ids)s, %(labels)s, %(times)s::timestamptz[]) AS i(id, label, labelled_at), LATERAL
    (SELECT o.ctid AS place, o.id, o.sequence, o.label FROM observations o
     WHERE o.model_id = %(model_id)s AND o.id = i.id LIMIT 1) AS o
), added AS (
  INSERT INTO labels (model_id, observation_id, label, labelled_at)
  SELECT %(model_id)s, id, label, labelled_at FROM known
  WHERE label IS DISTINCT FROM present AND (%(corrects)s OR present IS NULL)
  ORDER BY sequence
  RETURNING sequence, observation_id, label
), changed AS (
  UPDATE observations o SET label = a.label, label_sequence = a.sequence
  FROM added a JOIN known k ON k.id = a.observation_id
  WHERE o.ctid = k.place
  RETURNING o.id
)
SELECT k.id, c.id IS NOT NULL, c.id IS NOT NULL AND k.present IS NULL
FROM known k LEFT JOIN changed c ON c.id = k.id
"""

_LABELLED_AT_A_TIME: Final = 4096
_TEXTS_AT_A_TIME: Final = 4096
MOST_LABELLED: Final = 100_000
"""Labelled rows that a check reads: the newest labels, whatever came before."""

_RANKED = """
WITH ranked AS (
  SELECT *, row_number() OVER (ORDER BY sequence) - 1 + :n_before % :bucket AS rank
  FROM (SELECT sequence, observed_at, prediction, label, version, shadow
        FROM observations WHERE model_id = :model_id ORDER BY sequence DESC LIMIT :most) AS newest
)
"""
"""Rows in order of arrival, `n_before` older ones left out."""

_TIMELINE = text(f"""{_RANKED}
SELECT rank / :bucket AS bucket, min(sequence) AS first_sequence,
       max(sequence) AS last_sequence, min(observed_at) AS first_at, max(observed_at) AS last_at,
       count(*) AS n, count(label) AS n_labelled,
       count(*) FILTER (WHERE prediction = label) AS n_right
FROM ranked GROUP BY 1 ORDER BY 1
""")  # noqa: S608  # constants alone

_TOLD = """, answers AS (
  SELECT rank, label, version::text AS version, prediction, true AS is_served FROM ranked
  WHERE label IS NOT NULL AND version IS NOT NULL AND prediction IS NOT NULL
  UNION ALL
  SELECT r.rank, r.label, s.key, s.value, false FROM ranked r, jsonb_each_text(r.shadow) AS s
  WHERE r.label IS NOT NULL AND s.key <> r.version::text
)
"""
"""Labelled answers of the version that served, and of those that would have answered."""

_ANSWERS = text(f"""{_RANKED.rstrip()}{_TOLD}
SELECT rank / :bucket AS bucket, version, prediction, label, is_served FROM answers
""")  # noqa: S608  # constants alone

_BY_VERSION = text(f"""{_RANKED.rstrip()}{_TOLD}
SELECT rank / :bucket AS bucket, version, count(*) AS n,
       count(*) FILTER (WHERE prediction = label) AS n_right
FROM answers GROUP BY 1, 2
""")  # noqa: S608  # constants alone


_Body = tuple[Mapping[str, Any], Mapping[str, float] | None]
_THIN: Final = (
    ObservationRow.id,
    ObservationRow.sequence,
    ObservationRow.observed_at,
    ObservationRow.prediction,
    ObservationRow.version,
    ObservationRow.shadow,
    ObservationRow.label,
    ObservationRow.inputs,
    ObservationRow.scores,
    ObservationRow.segment_id,
    ObservationRow.place,
    cast(func.timezone("UTC", ObservationRow.received_at), Date).label("arrived_on"),
)


class PostgresObservations:
    """Keeps `app.services.ports.Observations`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, model_id: UUID, batch: Batch) -> int:
        """Store the rows whose id is new, in order, with the labels that came along.

        Writers of one model take turns, so that arrival numbers are committed in order and a
        window never gains a row behind its end.

        Returns:
            How many rows were new.
        """
        n_new = writing.store(self._session, model_id, batch.firsts())
        self._add_own_labels(model_id, batch)
        return n_new

    def _add_own_labels(self, model_id: UUID, batch: Batch) -> None:
        """Store the labels of a batch; one that is sent again must not undo a correction."""
        if batch.labels.null_count == len(batch):
            return
        now = self._session.execute(select(func.now())).scalar_one()
        pairs = zip(batch.ids.to_pylist(), batch.labels.to_pylist(), strict=True)
        first = {i: Label(i, label, now) for i, label in reversed([*pairs]) if label is not None}
        self.add_labels(model_id, list(first.values()), corrects=False)

    def quarantine(
        self,
        model_id: UUID,
        rejected: Sequence[Rejected],
        bodies: Sequence[str],
        broken: Mapping[tuple[str, str], int],
    ) -> None:
        """Keep refused rows, and count what they broke, by field and kind."""
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
        violations.count(self._session, model_id, broken)

    def violations(self, model_id: UUID, page: Page) -> Listed:
        return violations.listed(self._session, model_id, page)

    def violation_totals(self) -> Sequence[Json]:
        return violations.totals(self._session)

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
        newest = {label.observation_id: label for label in labels}
        if not newest:
            return set(), 0
        parameters = {
            "model_id": model_id,
            "corrects": corrects,
            "ids": copying.Texts(pa.array(list(newest), pa.string())),
            "labels": copying.Texts(pa.array([label.label for label in newest.values()])),
            "times": [label.at for label in newest.values()],
        }
        with copying.raw_cursor(self._session) as cursor:
            writing.take_turn(cursor, model_id)
            found = cursor.execute(_ADD_LABELS, parameters).fetchall()
            writing.count(cursor, model_id, n_labels=sum(row[2] for row in found))
        return {row[0] for row in found}, sum(row[1] for row in found)

    def texts(self, model_id: UUID, ids: Sequence[str], *, field: str) -> Mapping[str, str]:
        """Return a text field of observations by their ids; only those that are still there."""
        found: dict[str, str] = {}
        for first in range(0, len(ids), _TEXTS_AT_A_TIME):
            some = literal(ids[first : first + _TEXTS_AT_A_TIME], ARRAY(Text))
            wanted = func.unnest(some).table_valued(column("id", Text)).render_derived()
            one = select(*_THIN).where(
                ObservationRow.model_id == model_id, ObservationRow.id == wanted.c.id
            )
            known = one.limit(1).lateral()  # one descent of the key an id, as for labels
            rows = self._session.execute(
                select(known).select_from(wanted.join(known, true()))
            ).all()
            for row, body in zip(rows, self._bodies(rows), strict=True):
                if body is not None and isinstance(body[0].get(field), str):
                    found[row.id] = body[0][field]
        return found

    def get(self, model_id: UUID, observation_id: str) -> Json:
        row = self._session.execute(
            select(*_THIN, ObservationRow.received_at).where(
                ObservationRow.model_id == model_id, ObservationRow.id == observation_id
            )
        ).one_or_none()
        if row is None:
            raise NotFound(f"there is no observation {observation_id!r}")
        history = self._session.scalars(
            select(LabelRow)
            .where(LabelRow.model_id == model_id, LabelRow.observation_id == observation_id)
            .order_by(LabelRow.sequence)
        )
        (body,) = self._bodies([row])
        return {
            **document(_observation(row, *(body or ({}, None)))),
            **({} if body else {"inputs": None}),
            "is_forgotten": body is None,
            "received_at": row.received_at,
            "labels": [
                {"label": label.label, "at": label.labelled_at, "received_at": label.received_at}
                for label in history
            ],
        }

    def newest(
        self, model_id: UUID, *, version: int, limit: int, after_sequence: int = 0
    ) -> Sequence[Observation]:
        """Return the newest rows that a version answered, oldest first.

        Rows that came in broken are left out once their incident is resolved.
        """
        rows = self._session.execute(
            select(*_THIN)
            .where(
                *_answered(model_id, version, after_sequence),
                is_sound(self._session, model_id, while_standing=True),
            )
            .order_by(ObservationRow.sequence.desc())
            .limit(limit)
        ).all()[::-1]
        bodies = self._bodies(rows)
        return [_observation(r, *body) for r, body in zip(rows, bodies, strict=True) if body]

    def labelled(
        self, model_id: UUID, *, after_label: int, through_label: int
    ) -> Iterator[AnsweredExample | None]:
        """Yield the rows labelled in a stretch of label numbers, in order of arrival.

        Rows that came in broken are left out; those whose inputs are forgotten are None. A few
        thousand are held at a time: the cursor is the server's.
        """
        # A cursor is planned for the first tenth of its rows; all of these are read.
        self._session.execute(text("SET LOCAL cursor_tuple_fraction = 1"))
        found = self._session.execute(
            select(*_THIN)
            .where(
                ObservationRow.model_id == model_id,
                ObservationRow.label_sequence > after_label,
                ObservationRow.label_sequence <= through_label,
                is_sound(self._session, model_id, while_standing=False),
            )
            .order_by(ObservationRow.sequence),
            execution_options={"yield_per": _LABELLED_AT_A_TIME},
        )
        for rows in found.partitions():
            for row, body in zip(rows, self._bodies(rows), strict=True):
                if body is None:
                    yield None
                    continue
                inputs, scores = body
                label = row.label or ""
                example = Example(row.id, inputs, label, row.sequence, row.observed_at)
                yield AnsweredExample(example, row.prediction, scores, row.version)

    def newly_labelled(
        self, model_id: UUID, *, version: int, after_label: int, limit: int
    ) -> tuple[Sequence[Observation], int]:
        """Return answers of a version in the order in which their labels came, and how far it read.

        Rows whose inputs were dropped, or came in broken, are left out.
        """
        rows = self._session.execute(
            select(*_THIN, ObservationRow.label_sequence)
            .where(
                ObservationRow.model_id == model_id,
                ObservationRow.version == version,
                ObservationRow.label_sequence > after_label,
                ObservationRow.prediction.is_not(None),
                is_sound(self._session, model_id, while_standing=False),
            )
            .order_by(ObservationRow.label_sequence)
            .limit(limit)
        ).all()
        bodies = self._bodies(rows)
        found = [_observation(r, *body) for r, body in zip(rows, bodies, strict=True) if body]
        return found, rows[-1].label_sequence if rows else after_label

    def _bodies(self, rows: Sequence[Any]) -> list[_Body | None]:
        """Return inputs and scores of each row; None where they were dropped."""
        bodies: list[_Body | None] = [
            None if row.inputs is None else (row.inputs, row.scores) for row in rows
        ]
        addresses = [
            Address(row.arrived_on, row.segment_id, row.place) if row.segment_id else None
            for row in rows
        ]
        for indices, table in segments.read(self._session, addresses):
            found = zip(inputs_of(table), scores_of(table), strict=True)
            for index, body in zip(indices, found, strict=True):
                bodies[index] = body
        return bodies

    def columns(self, model_id: UUID, *, version: int, after_sequence: int, limit: int) -> Columns:
        """Return the first rows that a version answered after one, as arrays.

        Rows whose inputs were dropped are left out, so fewer than `limit` may come while there are
        more; the last row's number says how far it read.
        """
        return columns_of(self._session, model_id, version, after_sequence, limit)

    def start_of_newest(self, model_id: UUID, *, version: int, limit: int) -> int:
        """Return the arrival number before the newest rows that a version answered."""
        oldest = self._session.scalar(
            select(ObservationRow.sequence)
            .where(*_answered(model_id, version, 0))
            .order_by(ObservationRow.sequence.desc())
            .offset(limit)
            .limit(1)
        )
        return oldest or 0

    def n_labels_after(self, model_id: UUID, *, version: int, sequence: int) -> int:
        """Return how many rows that a version answered after one have a label."""
        answered = _answered(model_id, version, sequence)
        return self._count(*answered, ObservationRow.label_sequence.is_not(None))

    def correctness(self, model_id: UUID, *, version: int) -> Sequence[bool]:
        """Return whether each labelled answer of a version was right, in order of arrival.

        Of the model's newest `MOST_LABELLED` labels. Answers to rows that came in broken are left
        out once their incident is resolved.
        """
        newest = self._newest_answers(model_id)
        query = (
            select(newest.c.prediction == newest.c.label)
            .where(newest.c.version == version, newest.c.prediction.is_not(None), newest.c.is_sound)
            .order_by(newest.c.sequence)
        )
        return [bool(right) for right in self._session.scalars(query)]

    def answers(self, model_id: UUID, *, version: int) -> Sequence[tuple[str, str]]:
        """Return prediction and label of the same answers, in the same order."""
        newest = self._newest_answers(model_id)
        query = (
            select(newest.c.prediction, newest.c.label)
            .where(newest.c.version == version, newest.c.prediction.is_not(None), newest.c.is_sound)
            .order_by(newest.c.sequence)
        )
        return [(row.prediction, row.label) for row in self._session.execute(query)]

    def _newest_answers(self, model_id: UUID) -> Subquery:
        return self._newest_labelled(
            model_id,
            ObservationRow.sequence,
            ObservationRow.version,
            ObservationRow.prediction,
            ObservationRow.label,
            is_sound(self._session, model_id, while_standing=True).label("is_sound"),
        )

    def _newest_labelled(self, model_id: UUID, *columns: Any) -> Subquery:
        return (
            select(*columns)
            .where(ObservationRow.model_id == model_id, ObservationRow.label_sequence.is_not(None))
            .order_by(ObservationRow.label_sequence.desc())
            .limit(MOST_LABELLED)
            .subquery()
        )

    def horizon(self, model_id: UUID) -> tuple[int, int]:
        """Return the newest arrival number and the newest label number."""
        row = self._session.execute(
            select(
                func.max(ObservationRow.sequence), func.max(ObservationRow.label_sequence)
            ).where(ObservationRow.model_id == model_id)
        ).one()
        return row[0] or 0, row[1] or 0

    def n_labelled(self, model_id: UUID, *, after_label: int) -> int:
        """Return how many sound rows were labelled after one; those whose inputs are known."""
        return self._count(
            ObservationRow.model_id == model_id,
            ObservationRow.label_sequence > after_label,
            *self._known(model_id),
            is_sound(self._session, model_id, while_standing=False),
        )

    def n_forgotten(self, model_id: UUID, *, version: int, limit: int) -> int:
        """Return how many of a version's newest rows have no inputs any more."""
        before = self._forgotten_before(model_id)
        if before is None:
            return 0
        newest = (
            select(ObservationRow.received_at)
            .where(ObservationRow.model_id == model_id, ObservationRow.version == version)
            .order_by(ObservationRow.sequence.desc())
            .limit(limit)
            .subquery()
        )
        query = select(func.count()).where(newest.c.received_at < before)
        return self._session.scalar(query) or 0

    def _known(self, model_id: UUID) -> list[Any]:
        """Return the condition on rows whose inputs are not forgotten; none where none is."""
        before = self._forgotten_before(model_id)
        return [] if before is None else [ObservationRow.received_at >= before]

    def _forgotten_before(self, model_id: UUID) -> datetime | None:
        day = self._session.scalar(
            select(ForgottenRow.before).where(
                ForgottenRow.model_id == model_id, ForgottenRow.kind == "inputs"
            )
        )
        return None if day is None else datetime.combine(day, time(), UTC)

    def _count(self, *conditions: Any) -> int:
        query = select(func.count()).select_from(ObservationRow).where(*conditions)
        return self._session.scalar(query) or 0

    def n_classes(self, model_id: UUID) -> int:
        """Return how many labels occur among the newest that can be learned from."""
        can_be_learned = and_(
            true(), *self._known(model_id), is_sound(self._session, model_id, while_standing=False)
        )
        newest = self._newest_labelled(
            model_id, ObservationRow.label, can_be_learned.label("can_be_learned")
        )
        query = select(func.count(func.distinct(newest.c.label))).where(newest.c.can_be_learned)
        return self._session.scalar(query) or 0

    def timeline(
        self, model_id: UUID, *, bucket: int, most: int, answer: Answer | None = None
    ) -> Sequence[Json]:
        """Return the accuracy that users got, by bucket of so many observations.

        Of the `most` newest; the first bucket holds fewer where older ones are left out.

        Args:
            model_id: which model.
            bucket: observations in each.
            most: observations in all.
            answer: what the model answers with, where that is not one of its labels: then accuracy
                is the mean score of it, and `errors` says more.
        """
        n_known = self._session.scalar(
            select(ObservationCountsRow.n_observations).where(
                ObservationCountsRow.model_id == model_id
            )
        )
        parameters = {
            "model_id": model_id,
            "bucket": bucket,
            "most": most,
            "n_before": max((n_known or 0) - most, 0),
        }
        if answer is not None:
            return self._scored_timeline(answer, parameters)
        by_version: dict[int, Json] = {}
        for row in self._session.execute(_BY_VERSION, parameters):
            by_version.setdefault(row.bucket, {})[row.version] = {
                "n": row.n,
                "accuracy": row.n_right / row.n,
            }
        return [
            {
                **_bucket(row),
                "accuracy": row.n_right / row.n_labelled if row.n_labelled else None,
                "by_version": by_version.get(row.bucket, {}),
            }
            for row in self._session.execute(_TIMELINE, parameters)
        ]

    def _scored_timeline(self, answer: Answer, parameters: Json) -> Sequence[Json]:
        """Return the same of answers that are scored here, for Postgres does not know how."""
        served: dict[int, list[Any]] = {}
        told: dict[int, dict[str, list[Any]]] = {}
        for row in self._session.execute(_ANSWERS, parameters):
            told.setdefault(row.bucket, {}).setdefault(row.version, []).append(row)
            if row.is_served:
                served.setdefault(row.bucket, []).append(row)
        return [
            {
                **_bucket(row),
                **_scored(answer, served.get(row.bucket, ())),
                "by_version": {
                    version: {"n": len(rows), **_scored(answer, rows)}
                    for version, rows in told.get(row.bucket, {}).items()
                },
            }
            for row in self._session.execute(_TIMELINE, parameters)
        ]

    def waits(self, model_id: UUID, *, now: datetime) -> LabelWaits:
        """Return how long a bounded sample of rows waited for their labels, or still does."""
        return waits_of(self._session, model_id, now=now)

    def seen_after(self, model_id: UUID, sequence: int) -> datetime | None:
        """Return the time of the first row that arrived after one; None where none did."""
        return self._session.scalar(
            select(ObservationRow.observed_at)
            .where(ObservationRow.model_id == model_id, ObservationRow.sequence > sequence)
            .order_by(ObservationRow.sequence)
            .limit(1)
        )

    def prepare_days(self, today: date, *, ahead: int) -> None:
        segments.prepare_days(self._session, today, ahead=ahead)


def _bucket(row: Any) -> Json:
    return {
        "first_sequence": row.first_sequence,
        "last_sequence": row.last_sequence,
        "first_at": row.first_at,
        "last_at": row.last_at,
        "n": row.n,
        "n_labelled": row.n_labelled,
    }


def _scored(answer: Answer, rows: Sequence[Any]) -> Json:
    """Return the mean score of labelled answers, and their errors; None and none without any."""
    pairs = [row.prediction for row in rows], [row.label for row in rows]
    return {
        "accuracy": float(answer.scores(*pairs).mean()) if rows and answer.is_scored else None,
        "errors": answer.errors(*pairs) if rows else {},
    }


def _answered(model_id: UUID, version: int, after_sequence: int) -> tuple[Any, ...]:
    return (
        ObservationRow.model_id == model_id,
        ObservationRow.version == version,
        ObservationRow.sequence > after_sequence,
    )


def _observation(
    row: Any, inputs: Mapping[str, Any], scores: Mapping[str, float] | None
) -> Observation:
    return Observation(
        id=row.id,
        at=row.observed_at,
        inputs=inputs,
        prediction=row.prediction,
        scores=scores,
        version=row.version,
        shadow=row.shadow or {},
        label=row.label,
        sequence=row.sequence,
    )
