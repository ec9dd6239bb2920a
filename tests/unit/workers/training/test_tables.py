"""What rows say of their columns before any label is looked at."""

import numpy as np
import pytest

from upkeep.tables import Column, matrix
from workers.training.errors import DataError, RecipeError
from workers.training.tables import (
    MOST_CATEGORIES,
    MOST_SHOWN,
    columns_of,
    features,
    fitted,
    signal_state,
    signals,
)

NUMBER, STATE = Column("age", "number"), Column("state", "category", ("TX",))


def test_columns_are_the_fields_that_are_kept_as_they_come():
    fields = [
        {"name": "a", "type": "number"},
        {"name": "b", "type": "category", "categories": ["x", "y"]},
        {"name": "c", "type": "category", "privacy": "hash"},
        {"name": "d", "type": "boolean", "privacy": None},
        {"name": "e", "type": "text"},
        {"name": "f", "type": "datetime"},
    ]
    assert columns_of(fields) == (
        Column("a", "number"),
        Column("b", "category", ("x", "y")),
        Column("d", "boolean"),
    )
    with pytest.raises(RecipeError, match="no column to learn from"):
        columns_of(fields[4:])


def test_known_categories_keep_their_places_and_new_ones_follow_by_frequency():
    rows = [{"state": name} for name in ("IA", "NC", "NC", "TX")]
    (column,), cleaning = fitted([STATE], rows)
    assert column.categories == ("TX", "NC", "IA")
    assert cleaning.new_categories == {"state": 2}


def test_categories_beyond_the_most_frequent_are_counted_and_read_as_missing():
    rows = [{"state": f"s{n:05}"} for n in range(MOST_CATEGORIES + 5)]
    (column,), cleaning = fitted([STATE], rows)
    assert len(column.categories) == MOST_CATEGORIES
    assert cleaning.rare_rows == {"state": 6}
    assert np.isnan(matrix([column], rows)).sum() == 6


def test_what_is_amiss_with_columns_is_told():
    columns = [NUMBER, STATE, Column("flag", "boolean"), Column("gone", "number")]
    rows = [{"age": 3.0, "state": "TX", "flag": True}, {"age": 3.0, "flag": False}]
    _, cleaning = fitted(columns, rows)
    assert cleaning.document() == {
        "missing_share": {"state": 0.5, "gone": 1.0},
        "empty_columns": ["gone"],
        "constant_columns": ["age"],
        "new_categories": {},
        "rows_of_rare_categories": {},
    }


def test_rows_that_miss_every_column_teach_nothing():
    with pytest.raises(DataError, match="all 2 rows miss every column"):
        fitted([NUMBER, STATE], [{}, {"other": 1}])


@pytest.mark.parametrize(
    "values", [[1e300, -1e300, 1e308, 0.0], [5.0] * 4, [0.0] * 4, [1e-320, 0.0, 0.0, 0.0]]
)
def test_scales_are_usable_whatever_the_numbers(values):
    (column,), _ = fitted([NUMBER], [{"age": value} for value in values])
    assert np.isfinite(column.center)
    assert np.isfinite(column.scale)
    assert column.scale > 0
    table = np.array(values)[:, None]
    assert np.isfinite(features([column], table)).all()


def test_features_are_distances_and_places():
    columns = (
        Column("age", "number", center=40.0, scale=10.0),
        Column("state", "category", ("TX", "IA")),
        Column("flag", "boolean"),
    )
    rows = [{"age": 50.0, "state": "IA", "flag": True}, {"state": "AK"}, {"age": -1e9}]
    found = features(columns, matrix(columns, rows))
    assert found.tolist() == [[1, 0, 0, 1, 1], [0, 1, 0, 0, 0], [-10, 0, 0, 0, 0]]
    many = Column("state", "category", tuple(f"s{n}" for n in range(500)))
    assert features([many], matrix([many], [{"state": "s499"}])).shape == (1, MOST_SHOWN)


def test_signals_compare_a_row_with_the_reference():
    reference = [{"age": float(n), "state": "TX", "flag": n % 2 == 0} for n in range(9)]
    state = signal_state(reference)
    rows = [{"age": 4.0, "state": "TX", "flag": True}, {"age": 99.0, "state": "AK"}]
    found = {
        name: values.tolist() for name, values in signals(rows, state, of_reference=False).items()
    }
    assert found["missing_share"] == [0.0, pytest.approx(1 / 3)]
    assert found["unseen_share"] == [0.0, 1.0]
    assert found["outside_share"] == [0.0, 1.0]
    assert found["category_surprise"][1] > found["category_surprise"][0] >= 0
    assert found["mean_distance"][0] == 0.0
    assert found["mean_distance"][1] > 5


def test_a_category_that_one_row_of_the_reference_alone_has_is_unseen_there():
    reference = [{"state": "TX"}, {"state": "TX"}, {"state": "AK"}]
    state = signal_state(reference)
    within = signals(reference, state, of_reference=True)["unseen_share"]
    assert within.tolist() == [0.0, 0.0, 1.0]
    assert signals(reference, state, of_reference=False)["unseen_share"].tolist() == [0.0] * 3


def test_rows_like_the_reference_are_no_more_and_no_less_surprising_than_its_own():
    draw = np.random.default_rng(0)
    rows = [{"a": str(draw.choice(["x", "y"])), "b": bool(draw.random() < 0.3)} for _ in range(400)]
    state = signal_state(rows)
    within, beside = (
        set(signals(rows, state, of_reference=own)["category_surprise"].tolist())
        for own in (True, False)
    )
    assert within == beside
