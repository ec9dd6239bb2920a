"""Where the inputs of a batch are kept: as columns in one row of the day's partition."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from psycopg import sql
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.adapters.postgres.copying import Cursor
from app.services.batches import from_bytes, to_bytes

MOST_ROWS: Final = 4096
MOST_BYTES: Final = 8 * 1024 * 1024
_AT_A_TIME: Final = 64
_PARTITIONS: Final = 0x7365676D  # any fixed number: two schedulers take turns on it

_ADD: Final = """
INSERT INTO observation_segments (arrived_on, id, model_id, n_rows, body)
VALUES ((now() AT TIME ZONE 'UTC')::date, %s, %s, %s, %b)
"""
_NUMBERS: Final = "SELECT nextval('observation_segment_ids') FROM generate_series(1, %s::int)"

_REMOVE: Final = """
DELETE FROM observation_segments
WHERE arrived_on = (now() AT TIME ZONE 'UTC')::date AND id = ANY(%s::bigint[])
"""

_READ = text("""
SELECT id, body FROM observation_segments
WHERE arrived_on = ANY(CAST(:days AS date[])) AND id = ANY(CAST(:ids AS bigint[]))
""")

_PARTITIONS_OF = text("""
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'observation_segments'::regclass AND c.relname ~ '_[0-9]{8}$'
ORDER BY c.relname
""")


@dataclass(frozen=True, slots=True)
class Address:
    """Where one observation's inputs are: a segment, the day it arrived, and the row in it."""

    day: date
    segment: int
    place: int


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment before it is stored: its number, and the rows it holds as Arrow IPC."""

    id: int
    n_rows: int
    body: bytes


def pack(
    cursor: Cursor, body: pa.Table
) -> tuple[list[Segment], NDArray[np.int64], NDArray[np.int32]]:
    """Divide a batch's body into segments that are quick to read.

    Returns:
        The segments, then the segment's number and the place in it of each row, shapes (n,).
    """
    n = len(body)
    step = max(1, min(MOST_ROWS, MOST_BYTES * n // max(body.nbytes, 1)))
    numbers = [row[0] for row in cursor.execute(_NUMBERS, (-(-n // step),)).fetchall()]
    pieces = [body.slice(start, step) for start in range(0, n, step)]
    held_in = np.repeat(np.array(numbers, dtype=np.int64), [len(piece) for piece in pieces])
    places = np.concatenate([np.arange(len(piece), dtype=np.int32) for piece in pieces])
    packed = [
        Segment(number, len(piece), to_bytes(piece))
        for number, piece in zip(numbers, pieces, strict=True)
    ]
    return packed, held_in, places


def add(cursor: Cursor, model_id: UUID, packed: Sequence[Segment]) -> None:
    """Store segments."""
    for segment in packed:
        cursor.execute(_ADD, (segment.id, model_id, segment.n_rows, segment.body))


def remove(cursor: Cursor, packed: Sequence[Segment]) -> None:
    """Take back segments that this transaction stored."""
    cursor.execute(_REMOVE, ([segment.id for segment in packed],))


def read(
    session: Session, addresses: Sequence[Address | None]
) -> Iterator[tuple[list[int], pa.Table]]:
    """Yield the bodies at these addresses: which of them, then their rows in that order.

    Bodies whose day was dropped are left out; so are missing addresses.
    """
    wanted: dict[int, list[int]] = {}
    for index, address in enumerate(addresses):
        if address is not None:
            wanted.setdefault(address.segment, []).append(index)
    days = {address.segment: address.day for address in addresses if address is not None}
    for segment, body in bodies(session, days):
        indices = wanted[segment]
        places = [address.place for i in indices if (address := addresses[i]) is not None]
        yield indices, body.take(pa.array(places, pa.int64()))


def bodies(session: Session, days: Mapping[int, date]) -> Iterator[tuple[int, pa.Table]]:
    """Yield segments and their bodies, given the day each arrived; dropped ones are left out."""
    wanted = sorted(days)
    for start in range(0, len(wanted), _AT_A_TIME):
        some = wanted[start : start + _AT_A_TIME]
        parameters = {"days": list({days[segment] for segment in some}), "ids": some}
        for segment, body in session.execute(_READ, parameters):
            yield segment, from_bytes(body)


def prepare_days(session: Session, today: date, *, ahead: int) -> None:
    """Make the partitions of the coming days, where they are missing.

    Without one, a day's segments go to the default partition: nothing fails, only that day is
    then deleted row by row instead of dropped.
    """
    days = [today + timedelta(days=n) for n in range(1, ahead + 1)]
    missing = [
        day
        for day in days
        if session.scalar(text("SELECT to_regclass(:name)"), {"name": _partition(day)}) is None
    ]
    if not missing:
        return
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _PARTITIONS})
    session.execute(text("SET LOCAL lock_timeout = '2s'"))
    for day in missing:
        make = sql.SQL(
            "CREATE TABLE IF NOT EXISTS {} PARTITION OF observation_segments"
            " FOR VALUES FROM ({}) TO ({})"
        ).format(
            sql.Identifier(_partition(day)),
            sql.Literal(day.isoformat()),
            sql.Literal((day + timedelta(days=1)).isoformat()),
        )
        try:
            with session.begin_nested():
                session.execute(text(make.as_string(None)))
        except IntegrityError:  # the default partition holds rows of that day already
            continue


def partitions(session: Session) -> list[tuple[str, date]]:
    """Return the partitions that are for one day, and that day, the oldest first."""
    names = session.scalars(_PARTITIONS_OF).all()
    return [(name, datetime.strptime(name[-8:], "%Y%m%d").date()) for name in names]  # noqa: DTZ007  a day of UTC


def rows_by_model(session: Session, partition: str) -> dict[UUID, int]:
    """Return how many rows each model has in a partition."""
    count = sql.SQL("SELECT model_id, sum(n_rows)::bigint FROM {} GROUP BY model_id").format(
        sql.Identifier(partition)
    )
    return {row[0]: int(row[1]) for row in session.execute(text(count.as_string(None)))}


def _partition(day: date) -> str:
    return f"observation_segments_{day:%Y%m%d}"
