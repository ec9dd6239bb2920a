"""Does any payload, however wrong, fail the service or leave half of itself behind?

Hypothesis makes bodies for every route that takes rows: JSON and NDJSON of any shape, Arrow IPC and
Parquet of any types, whole and with bytes changed or cut off. Every answer must be 2xx or 4xx, and
what is stored afterwards must be what the answer says: all it accepted, and nothing of a refusal.
"""

import contextlib
import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import httpx
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from app.adapters.postgres.unit_of_work import PostgresUnitOfWork, connect
from app.domain.observations import ContractField, FieldType
from app.domain.privacy import Privacy
from bench.ingest_support import ARROW, JSON, LABELS, Servers, add_model, servers, serving

NDJSON = "application/x-ndjson"
PARQUET = "application/vnd.apache.parquet"
ROUTES = {"observations": "observations", "labels": "labels", "datasets?role=golden": "rows"}
FIELDS = (
    ContractField("age", FieldType.NUMBER, minimum=0.0, maximum=150.0),
    ContractField("kind", FieldType.CATEGORY, is_required=False, categories=("x", "y")),
    ContractField("note", FieldType.TEXT, is_required=False, maximum_length=20),
    ContractField("is_new", FieldType.BOOLEAN, is_required=False),
    ContractField("since", FieldType.DATETIME, is_required=False, minimum=0.0, maximum=4e9),
    ContractField("vector", FieldType.EMBEDDING, is_required=False, dimension=2),
    ContractField("who", FieldType.TEXT, is_required=False, privacy=Privacy.HASH),
    ContractField("pay", FieldType.NUMBER, is_required=False, privacy=Privacy.DROP),
)
OPEN = tuple(replace(field, privacy=None) for field in FIELDS)
"""The same fields, none of them private."""
KEYS = ("id", "at", "prediction", "scores", "version", "shadow", "label", "inputs")
NAMES = tuple(field.name for field in FIELDS)

CENTRAL = timezone(timedelta(hours=1))

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=8)
    | st.sampled_from([*LABELS, "x", "1", 40, 40.5, "2026-01-31T12:00:00Z", "\x00", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*KEYS, *NAMES, *LABELS, "1", "?"]), inner, max_size=4)
    ),
    max_leaves=6,
)
finite: Any = {"allow_nan": False, "allow_infinity": False}
two: Any = {"min_size": 2, "max_size": 2}
times = st.builds(
    lambda seconds, zone: datetime.fromtimestamp(seconds, zone).isoformat(),
    st.integers(1, 3 * 10**9) | st.floats(1, 3e9),
    st.sampled_from([UTC, CENTRAL]),
) | st.sampled_from(["2026-01-31T12:00:00Z", "2026-01-31 12:00+0200"])
good_inputs = st.fixed_dictionaries(
    {"age": st.integers(0, 150) | st.floats(0, 150)},
    optional={
        "kind": st.sampled_from(["x", "y"]),
        "note": st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20),
        "is_new": st.booleans(),
        "since": times,
        "who": st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=9),
        "pay": st.floats(**finite),
        "vector": st.lists(st.integers(-9, 9) | st.floats(width=32, **finite), **two)
        | st.lists(st.floats(-1e30, 1e30), **two),
    },
)
good_rows = st.fixed_dictionaries(
    {"id": st.uuids().map(str) | st.sampled_from(["one", "two"]), "inputs": good_inputs},
    optional={
        "prediction": st.sampled_from(LABELS),
        "label": st.sampled_from(LABELS),
        "scores": st.fixed_dictionaries({label: st.floats(0, 1) for label in LABELS}),
        "version": st.integers(1, 9),
        "shadow": st.dictionaries(st.sampled_from(["1", "2"]), st.sampled_from(LABELS)),
        "at": st.sampled_from(["2026-01-31T12:00:00Z", "2026-01-31T12:00:00+02:00"]),
    },
)
odd_rows = st.builds(
    lambda row, changes, inner: {**row, **changes, "inputs": {**row["inputs"], **inner}},
    good_rows,
    st.dictionaries(st.sampled_from([*KEYS[:-1], "?"]), values, max_size=2),
    st.dictionaries(st.sampled_from([*NAMES, "?"]), values, max_size=2),
)
rows_sent = st.lists(good_rows | odd_rows | values, max_size=6)

columns = {
    "string": st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(LABELS),
    "double": st.floats() | st.floats(0, 150),
    "float": st.floats(width=32),
    "int64": st.integers(-(2**63), 2**63 - 1) | st.integers(0, 150),
    "uint64": st.integers(0, 2**64 - 1),
    "bool": st.booleans(),
    "timestamp[us]": st.integers(-(2**63), 2**63 - 1) | st.integers(0, 2**50),
    "timestamp[ns]": st.integers(-(2**63), 2**63 - 1),
    "date32": st.integers(-(2**31), 2**31 - 1),
    "binary": st.binary(max_size=8),
    "null": st.none(),
}


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Draw a table of the fields that count, each of any type, or of the right ones."""
    n = draw(st.integers(0, 6))
    found: dict[str, pa.Array] = {}
    usual = {"id": "string", "age": "double", "since": "timestamp[us]", "vector": "double"}
    for name in draw(st.sets(st.sampled_from([*KEYS, *NAMES, "?"]), max_size=6)) | {"id", "age"}:
        kind = draw(st.just(usual.get(name, "string")) | st.sampled_from(sorted(columns)))
        item = columns[kind] if kind == "null" else columns[kind] | st.none()
        if name in {"prediction", "label"} and kind == "string":
            item = st.sampled_from([*LABELS, None])
        array = made(draw(st.lists(item, min_size=n, max_size=n)), kind)
        shape = draw(st.sampled_from(["plain", "plain", "plain", "dictionary", "list", "struct"]))
        if shape == "dictionary" and kind in {"string", "int64"}:
            array = array.dictionary_encode()
        elif shape == "list" or (name == "vector" and kind in {"double", "float", "int64"}):
            width = draw(st.sampled_from([1, 2, 2, 2]))
            lists = [[value] * width for value in array.to_pylist()] if safe(kind) else [[]] * n
            kind_of_list = draw(st.sampled_from([pa.list_, pa.large_list]))(array.type)
            if lists and safe(kind) and draw(st.booleans()):
                kind_of_list = pa.list_(array.type, width)
            array = pa.array(lists, kind_of_list)
        elif shape == "struct":
            array = pa.StructArray.from_arrays([array], [draw(st.sampled_from([*NAMES, *LABELS]))])
        found[name] = array
    return pa.table(found)


def safe(kind: str) -> bool:
    """Return whether every value of a type has a counterpart in Python."""
    return not kind.startswith(("timestamp", "date"))


def made(found: list[Any], kind: str) -> pa.Array:
    """Return a column; times are made from their numbers, so that any will do."""
    if kind.startswith("timestamp"):
        return pa.array(found, pa.int64()).view(pa.timestamp(kind[10:12]))
    if kind == "date32":
        return pa.array(found, pa.int32()).view(pa.date32())
    return pa.array(found, pa.type_for_alias(kind))


def arrow_body(table: pa.Table) -> bytes:
    """Return a table as an Arrow IPC stream."""
    sink = io.BytesIO()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def parquet_body(table: pa.Table) -> bytes:
    """Return a table as a Parquet file; nothing where Parquet has no such type."""
    sink = io.BytesIO()
    try:
        pq.write_table(table, sink)
    except pa.ArrowException:
        return b"PAR1"
    return sink.getvalue()


@st.composite
def payloads(draw: st.DrawFn) -> tuple[str, str, bytes]:
    """Draw a route, a media type and a body."""
    route = draw(st.sampled_from(sorted(ROUTES)))
    kind = draw(st.sampled_from([JSON, NDJSON, ARROW, PARQUET]))
    if kind == JSON:
        key = draw(st.sampled_from([ROUTES[route], "rows", "?"]) | st.just(ROUTES[route]))
        body = json.dumps({key: draw(rows_sent)}).encode()
    elif kind == NDJSON:
        body = "\n".join(map(json.dumps, draw(rows_sent))).encode()
    else:
        body = (arrow_body if kind == ARROW else parquet_body)(draw(tables()))
    for place, byte in draw(
        st.just([]) | st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=3)
    ):
        if body:
            at = place % len(body)
            body = body[:at] + bytes([byte]) + body[at + 1 :]
    return route, kind, body[: draw(st.just(len(body)) | st.integers(0, len(body)))]


class Judge:
    """Sends payloads to one model, and looks at what is stored after each."""

    def __init__(self, send: Callable[..., Any], url: str, model_id: UUID, found: Servers) -> None:
        self._send, self._url, self._model_id = send, url, model_id
        self._connection = found.connect()
        self.statuses: Counter[int] = Counter()
        self._before = self._stored()

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()

    def _stored(self) -> tuple[int, int, int]:
        found = self._connection.execute(
            "SELECT (SELECT count(*) FROM observations WHERE model_id = %(m)s),"
            " (SELECT count(*) FROM labels WHERE model_id = %(m)s),"
            " (SELECT count(*) FROM datasets WHERE model_id = %(m)s)",
            {"m": self._model_id},
        ).fetchone()
        return found or (0, 0, 0)

    def judge(self, route: str, kind: str, body: bytes) -> None:
        """Send one payload.

        Raises:
            AssertionError: the service failed, or stored something else than it said.
        """
        url = f"{self._url}/{route}"
        answer = self._send(url, content=body, headers={"Content-Type": kind})
        self.statuses[answer.status_code] += 1
        assert answer.status_code in {200, 201, 422}, (answer.status_code, answer.text[:300])
        stored, before = self._stored(), self._before
        self._before = stored
        added = tuple(now - then for now, then in zip(stored, before, strict=True))
        if answer.status_code == 422:
            assert added == (0, 0, 0), f"refused, and yet stored: {added}"
        elif route == "observations":
            assert added[0] == answer.json()["accepted"]
        elif route == "labels":
            assert added[:2] == (0, answer.json()["accepted"])
        else:
            assert added == (0, 0, 1)


def malformed(n: int) -> dict[str, Any]:
    """Send so many payloads to a running service; return the answers by status.

    Raises:
        AssertionError: the service failed, or stored something else than it said.
    """
    with servers() as found, serving("app.main:create_app", 8660, found, n_processes=1) as url:
        engine = connect(found.database_url)
        model = add_model(PostgresUnitOfWork(engine), FIELDS)
        with (
            httpx.Client(base_url=url, timeout=60) as client,
            contextlib.closing(
                Judge(client.post, f"/v1/models/{model.name}", model.id, found)
            ) as judge,
        ):

            @settings(
                max_examples=n,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(payloads())
            def every(payload: tuple[str, str, bytes]) -> None:
                judge.judge(*payload)

            every()
        engine.dispose()
    figures = {str(status): n for status, n in sorted(judge.statuses.items())}
    print(f"{sum(judge.statuses.values()):,} payloads, none failed the service: {figures}")
    return {"payloads": sum(judge.statuses.values()), "answers": figures}
