import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from app.domain.profiles import MISSING, UNSEEN, CategoryBins, Layout, NumericBins

numbers = arrays.arrays(
    np.float64, st.integers(1, 300), elements=st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0])
)


@given(numbers)
def test_no_value_of_the_reference_lies_beyond_it(values):
    bins = NumericBins.of(values)
    codes = bins.codes(values)

    assert codes.min() >= 1
    assert codes.max() <= bins.n_bins - 2


@given(numbers, numbers)
def test_bins_keep_the_order_of_values(reference, values):
    codes = NumericBins.of(reference).codes(values)
    order = np.argsort(values, kind="stable")

    assert (np.diff(codes[order].astype(int)) >= 0).all()


@given(numbers)
def test_there_is_a_code_for_every_bin(values):
    assert NumericBins.of(values).n_bins <= UNSEEN


def test_a_value_that_is_tied_often_has_a_bin_of_its_own():
    values = np.concatenate([np.zeros(50), np.linspace(-1, 1, 101)])
    codes = NumericBins.of(values).codes(np.array([-1e-9, 0.0, 1e-9]))

    assert len(set(codes.tolist())) == 3


def test_what_is_no_number_is_missing():
    bins = NumericBins.of(np.arange(10.0))
    values = np.array([1.0, None, "x", np.nan, np.inf], dtype=object)

    assert bins.codes(values).tolist()[1:] == [MISSING] * 4


def test_an_unseen_category_is_told_from_a_rare_and_a_missing_one():
    reference = np.array([f"v{i}" for i in range(300)] + ["v0"] * 5, dtype=object)
    bins = CategoryBins.of(reference)
    codes = bins.codes(np.array(["v0", "v299", "new", None, np.nan], dtype=object))

    assert codes.tolist() == [0, bins.n_bins - 1, UNSEEN, MISSING, MISSING]
    assert bins.n_singletons == 299


def test_counts_of_blocks_add_up_to_the_counts_of_the_whole():
    rng = np.random.default_rng(0)
    table = {
        "x": rng.normal(size=500),
        "c": np.array(list("abc"), dtype=object)[rng.integers(0, 3, 500)],
    }
    layout = Layout.of(table)
    codes = layout.codes({"x": table["x"] + 2, "c": table["c"]}, 500)
    blocks = layout.blocks(codes, np.array([0, 7, 100, 499]))

    assert np.array_equal(blocks.sum(axis=1), layout.count(codes))
    assert blocks.sum(axis=2).tolist() == [[7, 93, 399, 1]] * 2


def test_counts_of_two_windows_add_up_to_the_counts_of_both():
    rng = np.random.default_rng(1)
    layout = Layout.of({"x": rng.normal(size=100)})
    first, second = rng.normal(size=60), rng.normal(size=40)
    both = layout.count(layout.codes({"x": np.concatenate([first, second])}, 100))
    apart = [layout.count(layout.codes({"x": side}, len(side))) for side in (first, second)]

    assert np.array_equal(both, apart[0] + apart[1])


def test_an_absent_column_is_wholly_missing():
    layout = Layout.of({"x": np.arange(10.0)})

    assert layout.count(layout.codes({}, 4))[0, -1] == 4


@pytest.mark.parametrize("values", [np.empty(0), np.full(5, np.nan)])
def test_a_reference_without_values_has_one_bin(values):
    bins = NumericBins.of(values)

    assert bins.n_bins == 1
    assert bins.codes(np.array([3.0])).tolist() == [0]
