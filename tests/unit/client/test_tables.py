"""Rows of columns become numbers in one way."""

import json

import numpy as np
import pytest

from upkeep.tables import Column, feature_names, matrix, read_columns, read_labels

COLUMNS = (
    Column("age", "number", center=40.0, scale=10.0),
    Column("state", "category", ("TX", "IA")),
    Column("is_new", "boolean"),
)


def test_numbers_stand_for_themselves_categories_for_their_place_booleans_for_0_and_1():
    rows = [
        {"age": 41.5, "state": "IA", "is_new": True},
        {"age": np.int64(7), "state": "TX", "is_new": np.bool_(False)},
    ]
    assert matrix(COLUMNS, rows).tolist() == [[41.5, 1.0, 1.0], [7.0, 0.0, 0.0]]


def test_what_is_missing_or_never_seen_is_nan():
    rows = [{}, {"age": None, "state": None}, {"age": float("nan"), "state": "AK", "more": 1}]
    assert np.isnan(matrix(COLUMNS, rows)).all()
    assert matrix(COLUMNS, []).shape == (0, 3)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"age": "41"}, "input 1: 'age' must be a number, not str"),
        ({"age": True}, "input 1: 'age' must be a number, not bool"),
        ({"age": float("inf")}, "input 1: 'age' must be finite"),
        ({"age": 10**400}, "input 1: 'age' "),
        ({"state": 3}, "input 1: 'state' must be a string, not int"),
        ({"is_new": 1}, "input 1: 'is_new' must be a boolean, not int"),
    ],
)
def test_a_value_of_another_type_is_refused_by_its_place(row, said):
    with pytest.raises(ValueError, match=said):
        matrix(COLUMNS, [{}, row])


def test_columns_are_read_back_as_they_were_written():
    document = json.loads(json.dumps({"columns": [column.document() for column in COLUMNS]}))
    assert read_columns(document) == COLUMNS


@pytest.mark.parametrize(
    "columns",
    [
        None,
        [],
        [{"type": "number"}],
        [{"name": "a", "type": "text"}],
        [{"name": "a", "type": "number"}, {"name": "a", "type": "number"}],
        [{"name": "a", "type": "category", "categories": ["x", "x"]}],
        [{"name": "a", "type": "category", "categories": [1]}],
        [{"name": "a", "type": "number", "scale": 0}],
        [{"name": "a", "type": "number", "center": float("nan")}],
    ],
)
def test_what_are_no_columns_is_refused(columns):
    with pytest.raises(ValueError, match=r"column|name|config\.json"):
        read_columns({"columns": columns})


@pytest.mark.parametrize("names", [None, {}, {"0": "a"}, {"0": "a", "2": "b"}])
def test_classes_are_named_from_0_on(names):
    with pytest.raises(ValueError, match="id2label"):
        read_labels({"id2label": names})
    assert read_labels({"id2label": {"1": "b", "0": "a"}}) == ("a", "b")


def test_names_that_lightgbm_cannot_hold_are_made_plain_and_stay_different():
    columns = [Column(name, "number") for name in ('a:"b"', "a__b_", "größe in €", "plain-1.0")]
    names = feature_names(columns)
    assert names == ["a__b_", "a__b__1", "gr__e_in__", "plain-1.0"]
