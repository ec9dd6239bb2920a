"""Times and embeddings beside a text: taken in in every form, read back the same, watched."""

import io
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from app.adapters.postgres.writing import INLINE_ROWS
from app.services.examples import from_parquet
from tests.integration.support import LABELS, actor, feed, upload

FIELDS = [
    {"name": "text", "type": "text"},
    {"name": "age", "type": "number", "min": 0},
    {"name": "since", "type": "datetime", "required": False, "min": "2000-01-01T00:00:00Z"},
    {"name": "vector", "type": "embedding", "required": False, "dimension": 3},
]
SINCE = datetime(2026, 1, 31, 12, 0, 0, 500_000, tzinfo=UTC)
VECTOR = [0.5, -1.0, 0.1]
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"


def created(api, fields, name="mixed"):
    body = {
        "name": f"{name}-{datetime.now(UTC).timestamp():.6f}",
        "task_type": "text-classification",
        "base_model": "preset:none",
        "labels": list(LABELS),
        "input_contract": {"fields": fields},
    }
    return api.post("/v1/models", json=body)


@pytest.fixture
def mixed(api, work, announced):
    answer = created(api, FIELDS)
    assert answer.status_code == 201, answer.text
    with work:
        return work.models.get(answer.json()["name"], actor(work).project_id)


def rows_of(n, *, prefix="o"):
    return [
        {
            "id": f"{prefix}-{index}",
            "inputs": {
                "text": f"text {index}",
                "age": index,
                "since": None if index % 3 == 2 else "2026-01-31T13:00:00.5+01:00",
                "vector": None if index % 4 == 3 else VECTOR,
            },
            "prediction": LABELS[index % 2],
            "version": 1,
        }
        for index in range(n)
    ]


def kept(row):
    inputs = {key: value for key, value in row["inputs"].items() if value is not None}
    return {**inputs, **({"since": SINCE.isoformat()} if "since" in inputs else {})}


def as_table(rows):
    return pa.table(
        {
            "id": [row["id"] for row in rows],
            "prediction": [row["prediction"] for row in rows],
            "version": [1] * len(rows),
            "text": [row["inputs"]["text"] for row in rows],
            "age": [row["inputs"]["age"] for row in rows],
            "since": pa.array(
                [row["inputs"]["since"] and SINCE for row in rows], pa.timestamp("ns", "UTC")
            ),
            "vector": pa.array(
                [row["inputs"]["vector"] for row in rows], pa.list_(pa.float64(), 3)
            ),
        }
    )


def body_of(rows, kind):
    sink = io.BytesIO()
    table = as_table(rows)
    if kind == PARQUET:
        pq.write_table(table, sink)
    else:
        with pyarrow.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    return sink.getvalue()


def test_a_contract_is_shown_as_it_was_stated(api):
    shown = created(api, FIELDS).json()["input_contract"]["fields"]

    assert shown[2]["min"] == "2000-01-01T00:00:00+00:00"
    assert (shown[1]["min"], shown[3]["dimension"]) == (0, 3)


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ({"type": "embedding"}, "an embedding needs a dimension, such as 384"),
        ({"type": "number", "dimension": 3}, "an embedding needs a dimension"),
        ({"type": "datetime", "min": 5}, "the bounds of a datetime are RFC 3339 times"),
        ({"type": "number", "max": "2026-01-31T12:00:00Z"}, "min and max bound a number by"),
        ({"type": "category", "min": 1}, "min and max bound a number by numbers"),
        ({"type": "number", "min": 2, "max": 1}, "min must not be beyond max: 2.0 is beyond 1.0"),
    ],
)
def test_a_field_that_cannot_be_is_refused_with_what_would_work(api, field, said):
    answer = created(api, [FIELDS[0], {"name": "odd", **field}])

    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["pointer"] == "/input_contract/fields/1"
    assert said in error["detail"]


@pytest.mark.parametrize("n", [3, INLINE_ROWS + 5])
@pytest.mark.parametrize("kind", ["json", ARROW, PARQUET])
def test_times_and_embeddings_are_read_as_they_were_sent(api, work, mixed, n, kind):
    rows, path = rows_of(n), f"/v1/models/{mixed.name}/observations"

    if kind == "json":
        answer = api.post(path, json={"observations": rows})
    else:
        answer = api.post(path, content=body_of(rows, kind), headers={"Content-Type": kind})

    assert answer.json()["accepted"] == n, answer.text
    with work:
        found = work.observations.newest(mixed.id, version=1, limit=n)
    assert [row.inputs for row in found] == [kept(row) for row in rows]


def test_rows_of_small_and_large_batches_become_one_array(work, mixed):
    small, large = rows_of(4, prefix="s"), rows_of(INLINE_ROWS + 1, prefix="l")
    for batch in (small, large):
        feed(work, mixed, batch, labelled=False)

    with work:
        found = work.observations.columns(mixed.id, version=1, after_sequence=0, limit=1000)

    sent = [row["inputs"] for row in [*small, *large]]
    since = np.array([row["since"] and SINCE.replace(tzinfo=None) for row in sent])
    np.testing.assert_array_equal(found.inputs["since"], since.astype("datetime64[us]"))
    vectors = [row["vector"] or [np.nan] * 3 for row in sent]
    np.testing.assert_array_equal(found.inputs["vector"], vectors)


def test_each_bad_value_costs_its_row_and_is_told_what_would_work(api, mixed):
    rows = rows_of(5)
    rows[0]["inputs"]["since"] = "yesterday"
    rows[1]["inputs"]["since"] = "1999-12-31T23:59:59Z"
    rows[2]["inputs"]["vector"] = [1.0, 2.0]
    rows[4]["inputs"]["vector"] = [1.0, "2", 3.0]

    answer = api.post(f"/v1/models/{mixed.name}/observations", json={"observations": rows}).json()

    assert answer["accepted"] == 1
    assert [row["errors"] for row in answer["rejected"]] == [
        [
            {
                "pointer": "/inputs/since",
                "detail": "must be an RFC 3339 time with an offset, such as 2026-01-31T12:00:00Z",
            }
        ],
        [{"pointer": "/inputs/since", "detail": "must be at 2000-01-01T00:00:00+00:00 or later"}],
        [{"pointer": "/inputs/vector", "detail": "has 2 numbers; exactly 3 are needed"}],
        [
            {
                "pointer": "/inputs/vector",
                "detail": "must hold numbers only; the one at 1 is str",
            }
        ],
    ]


def test_an_example_keeps_when_it_was_observed_and_is_known_by_its_content(work, artifacts, mixed):
    inputs = rows_of(1)[0]["inputs"]
    same = {**inputs, "since": "2026-01-31T12:00:00.5Z"}
    rows = [
        {"inputs": inputs, "label": LABELS[0], "at": "2026-02-01T00:00:00Z"},
        {"inputs": same, "label": LABELS[0]},
    ]

    upload(work, artifacts, mixed, rows, "reference")

    with work:
        (dataset,) = work.datasets.of(mixed.id, "reference")
    first, other = from_parquet(artifacts.read(dataset.sha256))
    assert (first.observed_at, other.observed_at) == (datetime(2026, 2, 1, tzinfo=UTC), None)
    assert first.inputs == other.inputs == kept({"inputs": inputs})
    assert other.id == f"{first.id}-2"  # the second row of one content


def test_a_labelled_row_tells_when_it_was_observed(work, mixed):
    at = "2026-02-01T00:00:00+00:00"
    feed(work, mixed, [{**row, "at": at} for row in rows_of(3)])

    with work:
        _, through = work.observations.horizon(mixed.id)
        found = [
            row.example
            for row in work.observations.labelled(mixed.id, after_label=0, through_label=through)
        ]

    assert {row.observed_at for row in found} == {datetime.fromisoformat(at)}
