"""How a batch of observations is written: each id once, with as little work as that takes."""

from typing import Final
from uuid import UUID

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy.orm import Session

from app.adapters.postgres import copying, segments
from app.adapters.postgres.copying import Cursor
from app.adapters.postgres.segments import Segment
from app.domain.identity import canonical_json
from app.services.batches import PREDICTION, Batch, inputs_of, scores_of

INLINE_ROWS: Final = 64
"""Below so many rows a batch's inputs are kept in its rows: an Arrow schema would outweigh them."""

POSTGRES_EPOCH: Final = 946_684_800_000_000  # microseconds from 1970 to 2000
_SAMPLE: Final = 8

_COPY: Final = """
COPY observations (model_id, id, observed_at, prediction, version, shadow, segment_id, place,
                   inputs, scores) FROM STDIN (FORMAT binary)
"""

_COUNT: Final = """
INSERT INTO observation_counts AS c (model_id, n_observations, n_labels) VALUES (%s, %s, %s)
ON CONFLICT (model_id) DO UPDATE SET n_observations = c.n_observations + excluded.n_observations,
                                     n_labels = c.n_labels + excluded.n_labels
"""

# The subquery with LIMIT keeps this what it is, one descent of the primary key for an id, whatever
# the planner believes about a model it has no statistics of.
_KNOWN: Final = """
SELECT o.id FROM unnest(%s) AS i(id), LATERAL
  (SELECT o.id FROM observations o WHERE o.model_id = %s AND o.id = i.id LIMIT 1) AS o
"""


def take_turn(cursor: Cursor, model_id: UUID) -> None:
    """Wait until no other writer of the model is at work; hold it until the transaction ends."""
    key = model_id.int & 0x7FFF_FFFF_FFFF_FFFF
    cursor.execute("SELECT pg_advisory_xact_lock(%s::bigint)", (key,))


def store(session: Session, model_id: UUID, batch: Batch) -> int:
    """Store the rows whose id is new, and take the model's turn for it; return how many they were.

    The primary key says which ids are new. A batch that looks new by a sample is copied at once:
    most are, and a look-up of every id costs as much as an index. Where the key then objects, and
    where the sample is known, the ids are looked up and the new ones copied. Nobody else can add
    one meanwhile. What needs no turn is done before it: others wait for as long as it is held.

    Args:
        session: in a transaction.
        model_id: whose observations they are.
        batch: no id twice.
    """
    with copying.raw_cursor(session) as cursor:
        looks_new = len(batch) >= INLINE_ROWS and not _known(cursor, model_id, _sample(batch))
        if looks_new and _copy_all(cursor, model_id, batch):
            count(cursor, model_id, n_observations=len(batch))
            return len(batch)
        take_turn(cursor, model_id)
        fresh = _without(batch, _known(cursor, model_id, batch.ids))
        if len(fresh):
            packed, rows = _packed(cursor, model_id, fresh)
            segments.add(cursor, model_id, packed)
            _copy(cursor, rows)
            count(cursor, model_id, n_observations=len(fresh))
    return len(fresh)


def count(cursor: Cursor, model_id: UUID, *, n_observations: int = 0, n_labels: int = 0) -> None:
    """Add to how many rows, and rows with a label, a model has; its turn is held."""
    if n_observations or n_labels:
        cursor.execute(_COUNT, (model_id, n_observations, n_labels))


def _copy_all(cursor: Cursor, model_id: UUID, batch: Batch) -> bool:
    """Store a batch if all of it is new; tell whether it was. The turn is held in any case."""
    packed, rows = _packed(cursor, model_id, batch)
    segments.add(cursor, model_id, packed)
    take_turn(cursor, model_id)
    try:
        with cursor.connection.transaction():
            _copy(cursor, rows)
    except psycopg.errors.UniqueViolation:
        segments.remove(cursor, packed)
        return False
    return True


def _sample(batch: Batch) -> pa.StringArray:
    places = np.linspace(0, len(batch) - 1, _SAMPLE).astype(np.int64)
    return batch.ids.take(pa.array(np.unique(places)))


def _known(cursor: Cursor, model_id: UUID, ids: pa.StringArray) -> list[str]:
    """Return those of the ids that are stored."""
    return [row[0] for row in cursor.execute(_KNOWN, (copying.Texts(ids), model_id)).fetchall()]


def _without(batch: Batch, known: list[str]) -> Batch:
    if not known:
        return batch
    is_known = pc.is_in(batch.ids, value_set=pa.array(known, pa.string()))
    return batch.take(np.flatnonzero(~np.asarray(is_known)))


def _packed(cursor: Cursor, model_id: UUID, batch: Batch) -> tuple[list[Segment], bytes]:
    """Return a batch in the forms that are written: the segments, and the rows that point there."""
    packed: list[Segment] = []
    if len(batch) < INLINE_ROWS:
        places = _inline(batch)
    else:
        packed, held_in, at = segments.pack(cursor, batch.body)
        nothing = copying.constant(None)
        places = [copying.integers(held_in, 8), copying.integers(at, 4), nothing, nothing]
    columns = [
        copying.constant(model_id.bytes),
        copying.texts(batch.ids),
        copying.integers(batch.observed_at - POSTGRES_EPOCH, 8),
        copying.few(batch.body.column(PREDICTION).combine_chunks(), str.encode),
        copying.few(batch.versions, lambda number: int(number).to_bytes(4, "big")),
        copying.few(batch.shadow, _jsonb),
        *places,
    ]
    return packed, copying.copy_body(columns)


def _copy(cursor: Cursor, rows: bytes) -> None:
    with cursor.copy(_COPY) as copy:
        copy.write(rows)


def _inline(batch: Batch) -> list[copying.Parts]:
    """Return segment, place, inputs and scores of rows that hold the latter two themselves."""
    nothing = copying.constant(None)
    inputs = pa.array([canonical_json(row) for row in inputs_of(batch.body)], pa.string())
    scores = pa.array([row and canonical_json(row) for row in scores_of(batch.body)], pa.string())
    return [nothing, nothing, copying.few(inputs, _jsonb), copying.few(scores, _jsonb)]


def _jsonb(value: str) -> bytes:
    return b"\x01" + value.encode()
