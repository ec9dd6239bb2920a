"""What a batch holds comes back as it was sent, value and type."""

import json
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.observations import Observation
from app.services.batches import Batch, arrays_of, from_bytes, inputs_of, scores_of, to_bytes
from app.services.times import instants_of

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
values = (
    st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.text(st.characters(codec="utf-8"))
    | st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(), max_size=3)
)


def batch_of(*inputs, **more):
    return Batch.of([Observation(str(n), NOW, row, **more) for n, row in enumerate(inputs)])


def stored(batch):
    return from_bytes(to_bytes(batch.body))


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "c:d"]), values), min_size=1))
def test_inputs_come_back_value_and_type(inputs):
    found = inputs_of(stored(batch_of(*inputs)))

    assert [json.dumps(row, sort_keys=True) for row in found] == [
        json.dumps(row, sort_keys=True) for row in inputs
    ]


def test_scores_come_back_and_stay_away_where_none_came():
    rows = [Observation("a", NOW, {}, scores={"x": 0.25, "y": 0.75}), Observation("b", NOW, {})]

    assert scores_of(stored(Batch.of(rows))) == [{"x": 0.25, "y": 0.75}, None]


def test_an_id_that_comes_twice_counts_as_it_first_came():
    rows = [Observation(i, NOW, {"n": n}) for n, i in enumerate("abcab")]

    firsts = Batch.of(rows).firsts()

    assert firsts.ids.to_pylist() == ["a", "b", "c"]
    assert inputs_of(firsts.body) == [{"n": 0}, {"n": 1}, {"n": 2}]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ([1, 2.5, None], [1.0, 2.5, np.nan]),
        ([1, 2], [1.0, 2.0]),
        ([0.5, None], [0.5, np.nan]),
    ],
)
def test_numbers_become_one_array_with_nan_where_missing(sent, expected):
    inputs = [{} if value is None else {"n": value} for value in sent]

    array = arrays_of(stored(batch_of(*inputs)), ("input", "whole", "json"))["n"]

    assert array.dtype == np.float64
    np.testing.assert_array_equal(array, expected)


def test_other_values_become_objects_with_none_where_missing():
    inputs = [{"t": "x", "big": 2**70}, {"b": True, "big": 0.5}]

    arrays = arrays_of(stored(batch_of(*inputs)), ("input", "whole", "json"))

    assert arrays["t"].tolist() == ["x", None]
    assert arrays["b"].tolist() == [None, True]
    assert arrays["big"].tolist() == [2**70, 0.5]


@pytest.mark.parametrize("kept", [np.float32, np.float64])
def test_embeddings_take_half_the_room_where_nothing_is_lost_by_it(kept):
    vector = np.array([0.1, 0.2], dtype=kept).tolist()
    batch = batch_of({"v": vector}, {}, {"v": vector})

    assert batch.body.schema.field("input:v").type == pa.list_(pa.from_numpy_dtype(kept), 2)
    array = arrays_of(stored(batch), ("input",))["v"]
    np.testing.assert_array_equal(array, [vector, [np.nan, np.nan], vector])


def test_times_come_back_as_texts_and_as_an_array():
    body = pa.table({"input:since": instants_of(["2026-01-31T12:00:00.5+01:00", None])})

    assert inputs_of(body) == [{"since": "2026-01-31T11:00:00.500000+00:00"}, {}]
    expected = np.array(["2026-01-31T11:00:00.5", "NaT"], dtype="datetime64[us]")
    np.testing.assert_array_equal(arrays_of(body, ("input",))["since"], expected)
