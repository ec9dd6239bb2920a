"""Observations and labels over the API on a real Postgres: nothing lost, nothing counted twice."""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from app.adapters.postgres.unit_of_work import PostgresUnitOfWork
from app.domain.models import MaintainedModel
from app.domain.observations import ContractField, FieldType
from app.services import observations
from tests.integration.support import LABELS, actor, labels_of, now, rows_of, text_model


class Feed:
    """One model's ingest over REST."""

    def __init__(self, api: TestClient, model: MaintainedModel) -> None:
        self.api, self.base = api, f"/v1/models/{model.name}"

    def send(self, rows):
        return self.api.post(f"{self.base}/observations", json={"observations": rows}).json()

    def label(self, rows):
        return self.api.post(f"{self.base}/labels", json={"labels": rows}).json()

    def get(self, observation_id):
        return self.api.get(f"{self.base}/observations/{observation_id}").json()

    def watch(self):
        return self.api.get(self.base).json()["watch"]


@pytest.fixture
def feed(api, model) -> Feed:
    return Feed(api, model)


def test_the_same_batch_again_changes_nothing(feed):
    rows = rows_of(20)

    first, again = feed.send(rows), feed.send(rows)

    assert (first["accepted"], first["duplicates"]) == (20, 0)
    assert (again["accepted"], again["duplicates"]) == (0, 20)
    assert feed.watch()["n_observations"] == 20


def test_an_id_twice_in_a_batch_is_stored_once_as_it_first_came(feed):
    first, other = rows_of(1)[0], rows_of(1, prefix="x")[0]

    answer = feed.send([first, {**other, "id": first["id"]}])

    assert (answer["accepted"], answer["duplicates"]) == (1, 1)
    assert feed.get(first["id"])["inputs"] == first["inputs"]


def test_writers_whose_ids_overlap_lose_and_double_nothing(engine, work, model):
    rows = rows_of(600)
    batches = [rows[start : start + 200] for start in range(0, 401, 50)] * 2

    def write(batch):
        mine = PostgresUnitOfWork(engine)
        return observations.ingest(mine, actor(mine), model.name, batch, now=now()).n_accepted

    with ThreadPoolExecutor(6) as pool:
        accepted = sum(pool.map(write, batches))

    assert accepted == 600
    query = text(
        "SELECT count(*), count(DISTINCT id), count(DISTINCT sequence) FROM observations"
        " WHERE model_id = :m"
    )
    with engine.connect() as connection:
        assert tuple(connection.execute(query, {"m": model.id}).one()) == (600, 600, 600)


def test_labels_from_two_writers_are_each_counted_once(engine, work, model):
    rows = rows_of(200)
    observations.ingest(work, actor(work), model.name, rows, now=now())

    def write(_):
        mine = PostgresUnitOfWork(engine)
        done = observations.add_labels(mine, actor(mine), model.name, labels_of(rows), now=now())
        return done.n_accepted

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(write, range(4))) == 200


@pytest.mark.parametrize("n", [10, 200])
def test_what_is_stored_is_counted_once_whatever_is_sent_again(work, model, n):
    rows = rows_of(n)
    for batch in (rows[: n // 2], rows, rows):
        observations.ingest(work, actor(work), model.name, batch, now=now())
    for label in ("positive", "negative", "negative"):
        labels = [{"id": row["id"], "label": label} for row in rows[:7]]
        observations.add_labels(work, actor(work), model.name, labels, now=now())

    with work:
        watched = work.models.watch(model.id)
        (shown,) = [one for one in work.models.overview() if one["id"] == model.id]
    assert (watched["n_observations"], watched["n_labels"]) == (n, 7)
    assert (shown["n_observations"], shown["n_labels"]) == (n, 7)


def test_a_check_reads_the_newest_labels_in_the_order_of_the_answers(work, model, monkeypatch):
    monkeypatch.setattr("app.adapters.postgres.observations.MOST_LABELLED", 3)
    rows = [
        {**row, "version": 1, "prediction": "positive", "label": label}
        for row, label in zip(rows_of(4), ["positive"] * 3 + ["negative"], strict=True)
    ]
    observations.ingest(work, actor(work), model.name, rows, now=now())
    late = [{"id": "o-0", "label": "negative"}]
    observations.add_labels(work, actor(work), model.name, late, now=now())

    with work:
        assert work.observations.correctness(model.id, version=1) == [False, True, False]
        assert work.observations.n_classes(model.id) == 2


def test_a_late_label_is_known_with_its_time(feed):
    feed.send(rows_of(1))

    answer = feed.label([{"id": "o-0", "label": "positive", "at": "2026-01-31T12:00:00+02:00"}])

    assert answer == {"accepted": 1, "unchanged": 0, "rejected": []}
    found = feed.get("o-0")
    assert found["label"] == "positive"
    assert found["labels"][0]["at"] == "2026-01-31T10:00:00+00:00"


def test_a_correction_stands_and_the_history_is_kept(feed):
    feed.send(rows_of(1))
    for label in ("positive", "negative", "negative", "positive"):
        feed.label([{"id": "o-0", "label": label}])

    found = feed.get("o-0")

    assert found["label"] == "positive"
    assert [entry["label"] for entry in found["labels"]] == ["positive", "negative", "positive"]


def test_a_label_twice_in_a_batch_leaves_the_last_one(feed):
    feed.send(rows_of(1))

    feed.label([{"id": "o-0", "label": label} for label in LABELS])

    assert feed.get("o-0")["label"] == LABELS[-1]


def test_a_batch_sent_again_does_not_undo_a_correction(feed):
    row = {**rows_of(1)[0], "label": "negative"}
    feed.send([row])
    feed.label([{"id": row["id"], "label": "positive"}])

    feed.send([row])

    assert feed.get(row["id"])["label"] == "positive"


def test_labels_of_unknown_ids_are_rejected_by_index_and_the_others_kept(feed):
    feed.send(rows_of(2))

    answer = feed.label([{"id": i, "label": "positive"} for i in ("o-0", "who", "o-1", "where")])

    assert answer["accepted"] == 2
    assert [(row["index"], row["id"]) for row in answer["rejected"]] == [(1, "who"), (3, "where")]
    assert "send the observation first" in answer["rejected"][0]["errors"][0]["detail"]


def test_one_bad_row_in_ten_thousand_is_reported_by_its_index(feed):
    rows = rows_of(10_000)
    rows[7_321] = {**rows[7_321], "prediction": "neither"}

    answer = feed.send(rows)

    assert answer["accepted"] == 9_999
    assert [row["index"] for row in answer["rejected"]] == [7_321]
    assert answer["rejected"][0]["errors"] == [
        {
            "pointer": "/prediction",
            "detail": "must be one of the model's labels: negative, positive",
        }
    ]


def test_a_row_that_broke_the_contract_is_in_quarantine_with_what_is_wrong(feed):
    feed.send([*rows_of(1), {"id": "bad", "inputs": {"txt": 5}}])

    kept = feed.api.get(f"{feed.base}/quarantine").json()["items"]

    assert [row["id"] for row in kept] == ["bad"]
    assert json.loads(kept[0]["body"]) == {"id": "bad", "inputs": {"txt": 5}}
    assert {error["pointer"] for error in kept[0]["errors"]} == {"/inputs/txt", "/inputs/text"}


def test_a_batch_without_a_good_row_is_refused_with_every_fault_by_index(feed):
    answer = feed.send([{"id": "a"}, "row"])

    assert answer["status"] == 422
    assert {error["pointer"] for error in answer["errors"]} == {"/0/inputs/text", "/1"}


@pytest.mark.parametrize("kind", ["ndjson", "arrow", "parquet"])
def test_rows_come_in_every_format(feed, kind):
    body, media_type = as_body(kind, [{"id": "a", "text": "good"}, {"id": "b", "text": "bad"}])

    answer = feed.api.post(
        f"{feed.base}/observations", content=body, headers={"Content-Type": media_type}
    )

    assert answer.json()["accepted"] == 2
    assert feed.get("b")["inputs"] == {"text": "bad"}


def as_body(kind, rows):
    if kind == "ndjson":
        return "\n".join(map(json.dumps, rows)).encode(), "application/x-ndjson"
    table, sink = pa.Table.from_pylist(rows), io.BytesIO()
    if kind == "parquet":
        pq.write_table(table, sink)
        return sink.getvalue(), "application/vnd.apache.parquet"
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue(), "application/vnd.apache.arrow.stream"


def test_an_answer_without_a_version_is_the_champions_and_missing_values_stay_missing(
    api, work, announced
):
    contract = [
        ContractField("text", FieldType.TEXT),
        ContractField("age", FieldType.NUMBER, is_required=False),
    ]
    feed = Feed(api, text_model(work, contract=contract))

    feed.send([{"id": "a", "inputs": {"text": "x", "age": None}}])

    assert feed.get("a")["inputs"] == {"text": "x"}
    assert feed.get("a")["version"] is None


def at(time):
    return f'{{"id": "q", "inputs": {{"text": "a"}}, "at": "{time}"}}'


ODD_ROWS = {
    "half a surrogate pair in a text": '{"id": "q", "inputs": {"text": "a \\ud800 b"}}',
    "half a surrogate pair in an id": '{"id": "\\udfff", "inputs": {"text": "a"}}',
    "half a surrogate pair in a field": '{"id": "q", "inputs": {"text": "a", "\\ud800": 1}}',
    "NUL in a text": '{"id": "q", "inputs": {"text": "a\\u0000"}}',
    "NUL in an id": '{"id": "q\\u0000", "inputs": {"text": "a"}}',
    "NUL in a category": '{"id": "q", "inputs": {"text": "a", "kind": "\\u0000"}}',
    "NaN": '{"id": "q", "inputs": {"text": "a", "age": NaN}}',
    "infinity": '{"id": "q", "inputs": {"text": "a", "age": -Infinity}}',
    "a number beyond all bounds": '{"id": "q", "inputs": {"text": "a", "age": 1e999}}',
    "an integer beyond all bounds": '{"id": "q", "inputs": {"text": "a", "age": 1'
    + "0" * 400
    + "}}",
    "a NaN score": '{"id": "q", "inputs": {"text": "a"}, "scores": {"positive": NaN}}',
    "a time before the calendar": at("0001-01-01T00:00:00+23:00"),
    "a time after the calendar": at("9999-12-31T23:59:59-23:00"),
    "a time without offset": at("2026-01-31T12:00:00"),
    "a version out of bounds": '{"id": "q", "inputs": {"text": "a"}, "version": 4294967296}',
    "an unhashable label": '{"id": "q", "inputs": {"text": "a"}, "prediction": ["positive"]}',
    "an id that is too long": '{"id": "' + "q" * 201 + '", "inputs": {"text": "a"}}',
    "a list": '[{"id": "q", "inputs": {"text": "a"}}]',
    "deep nesting": '{"id": "q", "inputs": {"text": ' + "[" * 400 + "]" * 400 + "}}",
}


@pytest.fixture
def wide(api, work, announced) -> Feed:
    contract = [
        ContractField("text", FieldType.TEXT),
        ContractField("age", FieldType.NUMBER, is_required=False),
        ContractField("kind", FieldType.CATEGORY, is_required=False),
    ]
    return Feed(api, text_model(work, contract=contract))


@pytest.mark.parametrize("row", ODD_ROWS.values(), ids=ODD_ROWS.keys())
@pytest.mark.parametrize("kind", ["json", "ndjson"])
def test_an_odd_row_is_refused_alone(wide, row, kind):
    good = json.dumps(rows_of(1)[0])
    body = f'{{"observations": [{good}, {row}]}}' if kind == "json" else f"{good}\n{row}\n"
    media_type = "application/json" if kind == "json" else "application/x-ndjson"

    answer = wide.api.post(
        f"{wide.base}/observations", content=body.encode(), headers={"Content-Type": media_type}
    )

    assert answer.status_code == 200, answer.text
    assert answer.json()["accepted"] == 1
    assert [row["index"] for row in answer.json()["rejected"]] == [1]
    assert wide.api.get(f"{wide.base}/quarantine").status_code == 200


UNREADABLE = {
    "not JSON": (b"{", "application/json"),
    "not UTF-8": (b'{"observations": ["\xff"]}', "application/json"),
    "nested beyond all bounds": (b"[" * 200_000, "application/json"),
    "a number": (b"5", "application/json"),
    "empty": (b"", "application/json"),
    "no rows": (b'{"observations": []}', "application/json"),
    "rows under another name": (b'{"rows": []}', "application/json"),
    "no Arrow stream": (b"ARROW1", "application/vnd.apache.arrow.stream"),
    "no Parquet file": (b"PAR1" * 9, "application/vnd.apache.parquet"),
    "an unknown type": (b"a,b", "text/csv"),
}


@pytest.mark.parametrize(("body", "kind"), UNREADABLE.values(), ids=UNREADABLE.keys())
@pytest.mark.parametrize("route", ["observations", "labels", "datasets?role=training"])
def test_a_body_that_cannot_be_read_is_a_problem_of_the_caller(feed, body, kind, route):
    answer = feed.api.post(f"{feed.base}/{route}", content=body, headers={"Content-Type": kind})

    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.json()["detail"]) > 10


def test_ten_megabytes_of_text_are_refused_with_the_length_allowed(feed):
    answer = feed.send([{"id": "long", "inputs": {"text": "x" * 10_000_000}}])

    assert answer["status"] == 422
    assert "at most 10000 are allowed" in answer["errors"][0]["detail"]


def test_writers_of_different_models_do_not_see_each_others_ids(api, work, model, announced):
    other = text_model(work)
    rows = rows_of(3, prefix=uuid4().hex)

    Feed(api, model).send(rows)

    assert Feed(api, other).send(rows)["accepted"] == 3


def test_a_timeline_is_of_the_newest_and_keeps_its_buckets_as_rows_come(feed, work):
    model_id = UUID(feed.api.get(feed.base).json()["id"])
    feed.send(rows_of(25))

    def sizes(most):
        with work:
            found = work.observations.timeline(model_id, bucket=10, most=most)
        return [one["n"] for one in found]

    assert sizes(100) == [10, 10, 5]
    assert sizes(12) == [7, 5]
    feed.send(rows_of(2, prefix="later"))
    assert sizes(12) == [5, 7]
