"""Rows judged column by column are judged as they are one by one, whatever they hold."""

import json
from datetime import UTC, datetime
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.answers import Number, Spans, Text
from app.domain.errors import Invalid
from app.domain.observations import ContractField, FieldType, InputContract, Intake, Rejected
from app.services.arrow_columns import sort_table
from app.services.batches import Batch, inputs_of, scores_of
from app.services.columns import sort_rows
from app.services.rows import OWN, body_of, id_of, observation, observation_faults
from app.services.tables import nested, rows_of_table
from bench import ingest_malformed

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
X = ContractField("x", FieldType.NUMBER)
PICTURES = (*ingest_malformed.OPEN, ContractField("image", FieldType.IMAGE, is_required=False))


def intake(fields=ingest_malformed.OPEN, serving=3):
    return Intake(UUID(int=1), ingest_malformed.LABELS, InputContract(fields), serving, b"secret")


def one_by_one(rows, held_to):
    """Judge rows as the rules say, without columns."""
    good, rejected, bodies = [], [], []
    for index, sent in enumerate(rows):
        row = nested(sent, held_to.contract, OWN)
        faults = observation_faults(row, held_to)
        if faults:
            rejected.append(Rejected(index, id_of(row), faults))
            bodies.append(body_of(row))
        else:
            good.append(observation(row, NOW, held_to))
    return Batch.of(good), rejected, bodies


def shown(batch):
    """Return everything a batch holds, as text, so that 1 and 1.0 and True differ."""
    rows = zip(
        batch.ids.to_pylist(),
        batch.observed_at.tolist(),
        batch.versions.to_pylist(),
        batch.shadow.to_pylist(),
        batch.labels.to_pylist(),
        batch.body.column("prediction").to_pylist(),
        inputs_of(batch.body),
        scores_of(batch.body),
        strict=True,
    )
    return [json.dumps(row, sort_keys=True) for row in rows]


def alike(found, expected):
    batch, rejected, bodies = expected
    assert found.rejected == rejected
    assert found.bodies == bodies
    assert shown(found.batch) == shown(batch)


@given(st.lists(ingest_malformed.good_rows | ingest_malformed.odd_rows, min_size=1, max_size=8))
def test_rows_are_judged_by_columns_as_they_are_one_by_one(rows):
    alike(sort_rows(rows, intake(), now=NOW), one_by_one(rows, intake()))


@given(ingest_malformed.rows_sent.filter(len), st.none() | st.integers(1, 9))
def test_whatever_stands_among_the_rows_the_others_are_judged_alike(rows, serving):
    held_to = intake(PICTURES, serving)

    alike(sort_rows(rows, held_to, now=NOW), one_by_one(rows, held_to))


@given(st.lists(ingest_malformed.good_rows, min_size=1, max_size=8))
def test_private_fields_are_kept_alike_by_columns_and_one_by_one(rows):
    held_to = intake(ingest_malformed.FIELDS)

    alike(sort_rows(rows, held_to, now=NOW), one_by_one(rows, held_to))


@given(ingest_malformed.tables().filter(len))
def test_a_table_is_judged_by_columns_as_its_rows_are_one_by_one(table):
    found = sort_table(table, intake(), now=NOW)
    if found is not None:  # None: its rows are judged as JSON's are
        alike(found, one_by_one(rows_of_table(table), intake()))


TABLE = {
    "id": ["a", "b", "c", "", "e", "f\x00"],
    "age": [1.0, None, float("nan"), 3.0, 151.0, 4.0],
    "kind": ["x", "y", None, "z", "x", "x"],
    "prediction": ["a", "b", "c", None, "a", "b"],
    "at": pa.array([10**15, None, 10**15, 10**15, 10**15, 10**15], pa.timestamp("us", "UTC")),
    "scores": [{"a": 0.5, "b": 0.5}, None, {"a": 2.0, "b": 0.0}, None, None, None],
    "version": [1, 0, None, 2**31, 5, 6],
}
MIXED = {
    "id": list("abcdef"),
    "age": [1.0] * 6,
    "since": pa.array([10**15, None, -1, 5 * 10**15, 10**15, 0], pa.timestamp("us")),
    "vector": [[1.0, 2.0], None, [1.0, 2.0], [1.0, 2.0], [1.0], [float("nan"), 1.0]],
}


def test_each_kind_of_fault_in_a_table_is_found_and_said_as_ever():
    table = pa.table(TABLE)

    found = sort_table(table, intake(), now=NOW)

    assert found is not None
    assert [row.index for row in found.rejected] == [1, 2, 3, 4, 5]
    alike(found, one_by_one(table.to_pylist(), intake()))


@pytest.mark.parametrize("kind", ["time", "text"])
@pytest.mark.parametrize("lists", [pa.list_(pa.float32()), pa.large_list(pa.float64())])
def test_times_and_embeddings_in_a_table_are_judged_without_looking_at_each(kind, lists):
    since = MIXED["since"]
    texts = [at and at.isoformat() + "Z" for at in since.to_pylist()]
    table = pa.table(
        {
            **MIXED,
            "since": since if kind == "time" else texts,
            "vector": pa.array(MIXED["vector"], lists),
        }
    )

    found = sort_table(table, intake(), now=NOW)

    assert found is not None
    assert [row.index for row in found.rejected] == [2, 3, 4, 5]
    alike(found, one_by_one(table.to_pylist(), intake()))


def test_private_fields_of_a_table_are_kept_as_those_of_its_rows_are():
    table = pa.table(
        {"id": ["a", "b", "c"], "age": [1.0] * 3, "who": ["x", None, "x"], "pay": [1.5] * 3}
    )
    held_to = intake(ingest_malformed.FIELDS)

    found = sort_table(table, held_to, now=NOW)

    assert found is not None
    assert "input:pay" not in found.batch.body.column_names
    alike(found, one_by_one(table.to_pylist(), held_to))


def test_an_embedding_of_fixed_width_is_judged_as_any_list_is():
    table = pa.table({**MIXED, "vector": pa.array([[1.0, 2.0]] * 6, pa.list_(pa.float32(), 2))})

    found = sort_table(table, intake(), now=NOW)

    assert found is not None
    assert found.batch.body.schema.field("input:vector").type == pa.list_(pa.float32(), 2)
    alike(found, one_by_one(table.to_pylist(), intake()))


@pytest.mark.parametrize("kind", ["float32", "int8", "uint32", "int64", "double"])
def test_numbers_of_every_width_are_judged_alike(kind):
    table = pa.table({"id": ["a", "b"], "age": pa.array([7, 8], pa.type_for_alias(kind))})

    found = sort_table(table, intake(), now=NOW)

    assert found is not None
    alike(found, one_by_one(table.to_pylist(), intake()))


def test_nested_inputs_are_judged_as_flat_ones_are():
    inputs = [{"age": 1.0, "note": "n"}, {"age": None, "note": "n"}, None]
    table = pa.table({"id": ["a", "b", "c"], "inputs": inputs})

    found = sort_table(table, intake(), now=NOW)

    assert found is not None
    assert len(found.batch) == 1
    alike(found, one_by_one(table.to_pylist(), intake()))


def test_a_value_without_counterpart_in_python_is_a_refusal():
    table = pa.table({"id": ["a"], "at": pa.array([2**62], pa.timestamp("us"))})

    assert sort_table(table, intake(), now=NOW) is None
    with pytest.raises(Invalid):
        rows_of_table(table)


SAID = st.one_of(
    st.none(), st.floats(-100, 100), st.integers(-9, 9), st.just(1e39), st.just(float("nan"))
)


@given(st.lists(st.tuples(SAID, SAID), min_size=1, max_size=8), st.booleans())
def test_numbers_are_judged_alike_in_columns_in_a_table_and_one_by_one(pairs, is_odd):
    bounded = Number(minimum=-50.0, maximum=50.0)
    held_to = Intake(UUID(int=1), (), InputContract([X]), 3, answers_with=bounded)
    rows = [
        {"id": f"r{place}", "inputs": {"x": 1.0}, "prediction": said, "label": label}
        for place, (said, label) in enumerate(pairs)
    ]
    strange = [{**rows[0], "id": "s", "prediction": "7"}] if is_odd else []
    alike(sort_rows(rows + strange, held_to, now=NOW), one_by_one(rows + strange, held_to))
    table = pa.table(
        {
            "id": [row["id"] for row in rows],
            "x": [1.0] * len(rows),
            "prediction": pa.array([said for said, _ in pairs], pa.float64()),
            "label": pa.array([label for _, label in pairs], pa.float64()),
        }
    )
    alike(sort_table(table, held_to, now=NOW), one_by_one(rows_of_table(table), held_to))


ENDS = st.integers(-1, 9)
PLACES = st.lists(st.tuples(ENDS, ENDS, st.sampled_from(["price", "name"])), max_size=2)


@given(st.lists(st.tuples(st.none() | PLACES, st.text("ab", max_size=8)), min_size=1, max_size=6))
def test_spans_are_judged_alike_in_columns_in_a_table_and_one_by_one(pairs):
    fields = [ContractField("text", FieldType.TEXT)]
    spans = Spans(("price",))
    held_to = Intake(UUID(int=1), ("price",), InputContract(fields), 3, answers_with=spans)
    said = [
        places and [{"start": a, "end": b, "label": label} for a, b, label in places]
        for places, _ in pairs
    ]
    rows = [
        {"id": f"r{place}", "inputs": {"text": text}, "prediction": one, "shadow": {"2": one or []}}
        for place, (one, (_, text)) in enumerate(zip(said, pairs, strict=True))
    ]
    alike(sort_rows(rows, held_to, now=NOW), one_by_one(rows, held_to))
    kind = pa.list_(pa.struct({"start": pa.int64(), "end": pa.int64(), "label": pa.string()}))
    ids, texts = [row["id"] for row in rows], [text for _, text in pairs]
    table = pa.table({"id": ids, "text": texts, "label": pa.array(said, kind)})
    sent = rows_of_table(table)
    alike(
        sort_table(table, held_to, now=NOW) or sort_rows(sent, held_to, now=NOW),
        one_by_one(sent, held_to),
    )


WORDS = st.none() | st.sampled_from(["", "said", "a\x00b", "x" * 20_001])


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=6))
def test_texts_are_judged_alike_in_columns_in_a_table_and_one_by_one(pairs):
    held_to = Intake(UUID(int=1), (), InputContract([X]), 3, answers_with=Text())
    rows = [
        {"id": f"r{place}", "inputs": {"x": 1.0}, "prediction": said, "label": label}
        for place, (said, label) in enumerate(pairs)
    ]
    strange = [{**rows[0], "id": "s", "label": one} for one in (7, "\ud800", [])]
    alike(sort_rows(rows + strange, held_to, now=NOW), one_by_one(rows + strange, held_to))
    sent = [{**row, "x": row["inputs"]["x"]} for row in rows]
    table = pa.Table.from_pylist([{k: v for k, v in row.items() if k != "inputs"} for row in sent])
    sent = rows_of_table(table)
    alike(
        sort_table(table, held_to, now=NOW) or sort_rows(sent, held_to, now=NOW),
        one_by_one(sent, held_to),
    )
