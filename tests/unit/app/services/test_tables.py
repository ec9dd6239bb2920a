"""Rows out of bodies: formats, flat and nested rows, pictures as arrays."""

import base64
import contextlib
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.domain.errors import Invalid
from app.domain.observations import ContractField, FieldType, InputContract
from app.services.tables import nested, read_rows

IMAGE = InputContract([ContractField("image", FieldType.IMAGE)])
TEXT = InputContract([ContractField("text", FieldType.TEXT)])


def pixels_of(row):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(row["inputs"]["image"]))))


@given(st.binary(max_size=200), st.sampled_from(["json", "ndjson", "parquet", "arrow", "odd"]))
def test_whatever_the_bytes_there_are_rows_or_a_refusal(body, kind):
    types = {
        "json": "application/json",
        "ndjson": "application/x-ndjson",
        "parquet": "application/vnd.apache.parquet",
        "arrow": "application/vnd.apache.arrow.stream",
        "odd": "text/plain",
    }
    with contextlib.suppress(Invalid):
        assert isinstance(read_rows(body, types[kind], key="rows"), list)


def test_rows_may_be_a_bare_list_or_under_their_key():
    assert read_rows(b"[1]", "application/json; charset=utf-8", key="rows") == [1]
    assert read_rows(b'{"rows": [1]}', "", key="rows") == [1]


def test_a_bad_line_is_a_bad_row():
    assert read_rows(b'{"a": 1}\n{\n\n{"a": 2}', "application/x-ndjson", key="rows") == [
        {"a": 1},
        "{",
        {"a": 2},
    ]


def test_a_flat_row_is_folded_and_its_own_fields_stay():
    row = {"id": "a", "text": "t", "label": "x", "at": None}

    assert nested(row, TEXT, ("id", "label", "at")) == {
        "id": "a",
        "label": "x",
        "inputs": {"text": "t"},
    }


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 3), (3, 1), (4, 5), (4, 5, 1), (1, 1, 1), (1, 4, 3), (4, 1, 3), (2, 2, 4)]
)
def test_an_array_becomes_the_picture_it_shows(shape):
    array = np.random.default_rng(0).integers(0, 256, shape)

    row = nested({"inputs": {"image": array.tolist()}}, IMAGE, ())

    assert (pixels_of(row) == array.squeeze(2) if array.shape[2:] == (1,) else array).all()
    assert pixels_of(row).shape == (shape[:2] if shape[2:] == (1,) else shape)


@pytest.mark.parametrize(
    "value", [[], [[]], [[1], [2, 3]], [[256]], [[-1]], [[0.5]], [["a"]], [[2**70]], 5, "png"]
)
def test_what_is_no_array_of_bytes_is_left_for_the_contract_to_refuse(value):
    row = nested({"inputs": {"image": value}}, IMAGE, ())

    assert row["inputs"]["image"] == value
    assert IMAGE.faults(row["inputs"])


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=8))
def test_any_json_can_stand_where_a_picture_should(value):
    json.dumps(nested({"inputs": {"image": value}}, IMAGE, ()))
