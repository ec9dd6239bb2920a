"""A private value is in no table, segment, quarantine, log or artifact, however it came."""

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
import structlog
from psycopg import sql
from sqlalchemy import make_url, text

import workers.detectors
from app.adapters.logs import configure_logs
from app.adapters.postgres.writing import INLINE_ROWS
from app.domain.privacy import pseudonym
from app.domain.registry import scan
from app.services.batches import from_bytes
from tests.integration.support import LABELS, actor
from tests.integration.test_mixed_inputs import created
from workers.detectors import DEFAULTS
from workers.detectors.measure import measure_window
from workers.jobs.fields import field_columns

scan(workers.detectors)

CANARY = "canary-4711-x@nowhere.example"
NUMBER = 471100.8125
TIME = "1947-11-08T04:07:11+00:00"
TRACES = (CANARY, CANARY.encode().hex(), str(NUMBER), "4.711e+05", TIME[:10])
FIELDS = [
    {"name": "text", "type": "text", "max_length": 60},
    {"name": "age", "type": "number", "required": False, "min": 0, "max": 150},
    {"name": "email", "type": "text", "privacy": "hash", "max_length": 40},
    {"name": "plan", "type": "category", "privacy": "hash", "required": False},
    {"name": "income", "type": "number", "privacy": "drop", "required": False, "max": 1e6},
    {"name": "born", "type": "datetime", "privacy": "drop", "required": False},
    {"name": "face", "type": "embedding", "dimension": 2, "privacy": "drop", "required": False},
]
PRIVATE = {
    "email": CANARY,
    "plan": CANARY,
    "income": NUMBER,
    "born": TIME,
    "face": [NUMBER, NUMBER],
}
BAD = [
    {"email": CANARY * 2},
    {"email": [CANARY]},
    {"age": CANARY},
    {"age": NUMBER},
    {"age": TIME},
    {"text": [CANARY]},
    {"text": CANARY * 3},
    {"income": NUMBER * 1000},
    {"born": CANARY},
    {"face": [NUMBER]},
    {"face": CANARY},
    {"emial": CANARY},
    {CANARY: CANARY},
    {f"{CANARY}/{CANARY}": 1},
]
MALFORMED = [
    b'{"observations": [{"id": "m", "inputs": {"email": "%s"' % CANARY.encode(),
    b'{"observation": [{"inputs": {"email": "%s"}}]}' % CANARY.encode(),
    b'{"observations": ["%s", {"email": "%s"}, ["%s"], %s]}' % ((CANARY.encode(),) * 4),
    b'{"observations": ["%s", {"email": "%s"}, ["%s"], 7]}' % ((CANARY.encode(),) * 3),
]


@pytest.fixture
def private(api, work, announced):
    """A model of an open text and number, and of fields that are private in every way."""
    answer = created(api, FIELDS, name="private")
    assert answer.status_code == 201, answer.text
    with work:
        return work.models.get(answer.json()["name"], actor(work).project_id)


def good_rows(n, *, prefix="g"):
    return [
        {
            "id": f"{prefix}-{index}",
            "inputs": {"text": f"text {index}", **PRIVATE},
            "prediction": LABELS[index % 2],
            "label": LABELS[index % 2],
            "version": 1,
        }
        for index in range(n)
    ]


def bad_rows():
    (good,) = good_rows(1)
    rows = [{**good, "inputs": {**good["inputs"], **change}} for change in BAD]
    flat = {"text": "flat", **PRIVATE, "age": CANARY}
    own = ("prediction", "label", "at", "version", "scores", "shadow", CANARY)
    rows += [{**good, key: CANARY} for key in own]
    rows += [{**good, "scores": {CANARY: 2}}, {**good, "id": 7, "inputs": CANARY}]
    return [*rows, flat, {"inputs": [PRIVATE]}, {**good, "id": CANARY * 9}, CANARY, [CANARY]]


def arrow_of(table):
    sink = io.BytesIO()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def parquet_of(table):
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def table_of(n, *, age=40.0, **more):
    born = datetime.fromisoformat(TIME).astimezone(UTC)
    return pa.table(
        {
            "id": [f"a-{index}" for index in range(n)],
            "text": [f"text {index}" for index in range(n)],
            "age": [age] * n,
            "email": [CANARY] * n,
            "income": [NUMBER] * n,
            "born": pa.array([born] * n, pa.timestamp("us", "UTC")),
            "face": [[NUMBER] * 2] * n,
            **{name: [value] * n for name, value in more.items()},
        }
    )


def send_everything(api, model):
    """Send good, bad and malformed rows in every form, and examples too; each answer is known."""
    base = f"/v1/models/{model.name}"
    bodies = [json.dumps({"observations": rows}).encode() for rows in (good_rows(3), bad_rows())]
    bodies += [json.dumps({"observations": [*good_rows(INLINE_ROWS + 9, prefix="s")]}).encode()]
    bodies += [json.dumps({"observations": [*good_rows(5, prefix="x"), *bad_rows()]}).encode()]
    lines = [*map(json.dumps, [*good_rows(2, prefix="n"), *bad_rows()]), f'{{"email": "{CANARY}"']
    tables = [
        table_of(INLINE_ROWS + 9),
        table_of(3, age=NUMBER),
        table_of(2, emial=CANARY),
        table_of(1, age=CANARY),
    ]
    sent = [("application/json", body) for body in [*bodies, *MALFORMED]]
    sent += [("application/x-ndjson", "\n".join(lines).encode())]
    for table in tables:
        sent.append(("application/vnd.apache.arrow.stream", arrow_of(table)))
        sent.append(("application/vnd.apache.parquet", parquet_of(table)))
    sent += [("application/vnd.apache.arrow.stream", arrow_of(tables[0])[:-200])]
    for kind, body in sent:
        for route in ("observations", "labels", "datasets?role=reference"):
            keyed = body.replace(b'"observations"', b'"rows"') if "datasets" in route else body
            answer = api.post(f"{base}/{route}", content=keyed, headers={"Content-Type": kind})
            assert answer.status_code in {200, 201, 422}, answer.text


def everything_stored(database_url) -> Iterator[tuple[str, str]]:
    """Yield every row of every table as text, with its place; segments as the rows they hold."""
    url = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        ).fetchall()
        for (name,) in tables:
            query = sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(name))
            for (row,) in connection.execute(query):
                yield name, row
        for (body,) in connection.execute("SELECT body FROM observation_segments"):
            yield "segment", str(from_bytes(body).to_pydict())


def artifacts_in(home) -> Iterator[tuple[str, str]]:
    for path in home.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            yield str(path), data.decode("latin-1")
            if data.startswith(b"PAR1"):
                yield f"{path} as a table", str(pq.read_table(path).to_pydict())


@pytest.fixture
def logs(capfd):
    """The service's log, written where this test can read it and no later one will."""
    configure_logs("json")
    structlog.configure(**structlog.get_config() | {"cache_logger_on_first_use": False})
    yield capfd
    structlog.reset_defaults()


def test_what_is_private_is_nowhere_however_it_was_sent(api, private, database_url, home, logs):
    send_everything(api, private)

    places = [
        *everything_stored(database_url),
        *artifacts_in(home),
        ("logs", logs.readouterr().err),
    ]
    assert {place for place, found in places for trace in TRACES if trace in found} == set()
    kept = "\n".join(found for _, found in places)
    assert "text 3" in kept
    assert "(withheld)" in kept


def test_a_refused_row_is_still_told_by_its_place_and_what_would_work(api, private):
    rows = good_rows(2)
    rows[1]["inputs"]["age"] = NUMBER
    rows[1]["inputs"]["emial"] = CANARY
    base = f"/v1/models/{private.name}"

    answer = api.post(f"{base}/observations", json={"observations": rows}).json()
    (kept,) = api.get(f"{base}/quarantine").json()["items"]

    assert answer["accepted"] == 1
    assert [error["pointer"] for error in answer["rejected"][0]["errors"]] == [
        "/inputs/?",
        "/inputs/age",
    ]
    assert kept["errors"] == answer["rejected"][0]["errors"]
    assert json.loads(kept["body"])["inputs"]["text"] == "text 1"


@pytest.mark.parametrize("n", [2, INLINE_ROWS + 2])
def test_a_value_has_one_name_in_a_model_and_field_wherever_it_comes_from(
    api, work, engine, private, n
):
    base = f"/v1/models/{private.name}"
    api.post(f"{base}/observations", json={"observations": good_rows(n)})
    stream = {"Content-Type": "application/vnd.apache.arrow.stream"}
    api.post(f"{base}/observations", content=arrow_of(table_of(n)), headers=stream)

    with work:
        seen = [api.get(f"{base}/observations/{i}").json()["inputs"] for i in ("g-0", "a-1")]
    query = text("SELECT secret FROM privacy_secrets WHERE model_id = :m")
    with engine.connect() as connection:
        secret = bytes(connection.execute(query, {"m": private.id}).scalar_one())

    assert [inputs["email"] for inputs in seen] == [pseudonym(secret, "email", CANARY)] * 2
    assert seen[0]["plan"] == pseudonym(secret, "plan", CANARY) != seen[0]["email"]
    assert seen[0].keys() == {"text", "email", "plan"}


def test_the_secret_of_a_model_is_in_no_answer(api, engine, private):
    with engine.connect() as connection:
        found = connection.execute(text("SELECT secret FROM privacy_secrets")).scalars().all()
    paths = ("", "/policy", "/quarantine", "/datasets")

    said = "".join(api.get(f"/v1/models/{private.name}{path}").text for path in paths)

    assert all(len(secret) == 32 for secret in found)
    assert not any(bytes(secret).hex() in said for secret in found)


def test_a_hashed_category_that_was_never_seen_is_found(api, work, private):
    with work:
        intake = work.models.intake(private.name, actor(work).project_id)

    def seen(plans):
        inputs = [intake.stored({"text": "t", "email": "e", "plan": plan}) for plan in plans]
        return field_columns(intake.contract.fields, inputs, [None] * len(inputs))

    reference, current = (
        seen(["free", "paid"] * 300),
        seen([*["free", "paid"] * 90, *["gift"] * 20]),
    )
    scores = measure_window(reference, current, DEFAULTS, fdr=0.05, seed=0)

    assert {(s.feature, s.kind) for s in scores if s.drifted} == {("plan", "new_category")}


@pytest.mark.parametrize("kind", ["number", "boolean", "datetime", "image", "embedding"])
def test_what_cannot_be_hashed_is_refused_with_what_would_work(api, kind):
    more = {"dimension": 3} if kind == "embedding" else {}

    answer = created(api, [FIELDS[0], {"name": "x", "type": kind, "privacy": "hash", **more}])

    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["pointer"] == "/input_contract/fields/1"
    assert f"only text and category fields can be hashed; drop a {kind}" in error["detail"]


@pytest.mark.parametrize("privacy", ["hash", "drop"])
def test_the_field_that_is_learned_from_cannot_be_private(api, privacy):
    answer = created(api, [{"name": "text", "type": "text", "privacy": privacy}])

    assert answer.status_code == 422
    assert "of type text that is neither hashed nor dropped" in answer.text
