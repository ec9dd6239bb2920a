"""Batch plans, rows and their checks."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.training.data import (
    Rows,
    batch_plan,
    check_labels,
    check_spans,
    class_weights,
    ordered_batches,
    read_rows,
    sampled_rows,
    set_apart,
)
from workers.training.errors import DataError

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=120).map(
    lambda values: np.asarray(values, dtype=np.int64)
)


@given(LENGTHS, st.integers(0, 5), st.integers(1, 200))
def test_a_plan_holds_every_row_once(lengths: np.ndarray, epoch: int, budget: int) -> None:
    plan = batch_plan(seed=1, epoch=epoch, lengths=lengths, budget=budget)
    assert sorted(np.concatenate(plan).tolist()) == list(range(len(lengths)))


@given(LENGTHS, st.integers(60, 400))
def test_a_padded_batch_stays_within_the_budget_but_for_one_row(
    lengths: np.ndarray, budget: int
) -> None:
    for batch in batch_plan(seed=1, epoch=0, lengths=lengths, budget=budget):
        assert (len(batch) - 1) * lengths[batch].max() <= budget


@given(LENGTHS)
def test_a_plan_is_a_function_of_seed_and_epoch(lengths: np.ndarray) -> None:
    first, again = (batch_plan(seed=3, epoch=2, lengths=lengths, budget=64) for _ in range(2))
    assert [b.tolist() for b in first] == [b.tolist() for b in again]


def test_epochs_differ_in_order_but_not_in_number_of_batches() -> None:
    lengths = np.ones(65, dtype=np.int64)
    plans = [batch_plan(seed=0, epoch=epoch, lengths=lengths, budget=8) for epoch in range(3)]
    assert len({len(plan) for plan in plans}) == 1
    assert plans[0][0].tolist() != plans[1][0].tolist()


def test_a_lone_last_picture_joins_the_batch_before_it() -> None:
    lengths = np.ones(65, dtype=np.int64)
    plan = batch_plan(seed=0, epoch=0, lengths=lengths, budget=64)
    assert [len(batch) for batch in plan] == [65]


@given(LENGTHS, st.data())
def test_a_plan_of_drawn_rows_holds_each_as_often_as_it_was_drawn(
    lengths: np.ndarray, data: st.DataObject
) -> None:
    drawn = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=200))
    rows = np.sort(np.asarray(drawn, dtype=np.int64))
    plan = batch_plan(seed=1, epoch=0, lengths=lengths, budget=64, rows=rows)
    assert sorted(np.concatenate(plan).tolist()) == rows.tolist()


TRUTH = st.lists(st.integers(0, 5), min_size=1, max_size=80).map(np.asarray)


@given(TRUTH, st.integers(0, 3))
def test_each_class_is_drawn_as_often_as_the_commonest_or_the_rarest_has_rows(
    truth: np.ndarray, epoch: int
) -> None:
    present = np.unique(truth, return_counts=True)[1]
    over, under, every = (
        sampled_rows(truth, sampling=sampling, seed=1, epoch=epoch)
        for sampling in ("oversample", "undersample", "none")
    )

    assert set(np.unique(truth[over], return_counts=True)[1]) == {present.max()}
    assert set(np.unique(truth[under], return_counts=True)[1]) == {present.min()}
    assert len(set(under.tolist())) == len(under)
    assert every.tolist() == list(range(len(truth)))
    often = np.bincount(over, minlength=len(truth))
    for name in np.unique(truth):
        of_it = often[truth == name]
        assert of_it.max() - of_it.min() <= 1  # every row is there, none more than once too often


def test_rows_left_out_of_an_epoch_come_in_another() -> None:
    truth = np.asarray([0] * 50 + [1] * 5)
    epochs = [sampled_rows(truth, sampling="undersample", seed=1, epoch=e) for e in range(60)]
    assert set(np.concatenate(epochs).tolist()) == set(range(55))
    again = sampled_rows(truth, sampling="undersample", seed=1, epoch=7)
    assert again.tolist() == epochs[7].tolist()


def at_least(n: int, share: float) -> int:
    """Return how many of n rows are set apart: whole blocks of them, a share rounded down."""
    n_blocks = min(25, n)
    return int(n_blocks * share) * (n // n_blocks) if n else 0


@given(st.integers(8, 300), st.integers(0, 300), st.floats(0.1, 0.5))
def test_rows_set_apart_are_of_the_newest_and_no_row_is_lost_or_in_both(
    n: int, n_newest: int, share: float
) -> None:
    given_rows = rows(*("ab" * n)[:n])
    n_newest = min(n, n_newest)
    share = max(share, 2 / n)
    learned, judged, left = set_apart(given_rows, given_rows.labels, n_newest=n_newest, share=share)

    assert sorted([*learned.ids, *judged.ids], key=int) == list(given_rows.ids)
    newest = [one for one in judged.ids if int(one) >= n - n_newest]
    assert left == n_newest - len(newest)
    if at_least(n_newest, share) >= 20:
        assert newest == list(judged.ids)
    assert len(judged.ids) >= min(20, at_least(n, share))
    assert list(learned.labels) == [given_rows.labels[int(one)] for one in learned.ids]
    assert judged.ids[-1] == list(judged.ids)[-1]


@given(LENGTHS, st.integers(1, 200))
def test_batches_for_inference_hold_every_row_once(lengths: np.ndarray, budget: int) -> None:
    rows = np.concatenate(ordered_batches(lengths, budget))
    assert sorted(rows.tolist()) == list(range(len(lengths)))


def test_class_weights_have_mean_one_over_the_rows() -> None:
    truth = np.asarray([0] * 9 + [1])
    weights = class_weights(np.bincount(truth, minlength=3), power=0.5)
    assert weights[truth].mean() == pytest.approx(1)
    assert weights[1] > weights[0]
    assert weights[2] == 0


def test_no_weighting_is_all_ones() -> None:
    assert class_weights(np.asarray([2, 1]), power=0.0).tolist() == [1, 1]


def rows(*labels: str) -> Rows:
    return Rows([str(n) for n in range(len(labels))], [{}] * len(labels), labels)


@pytest.mark.parametrize(
    ("given_rows", "said"),
    [
        (rows(), "empty"),
        (rows("a", "a"), "at least 2 classes"),
        (rows("a", "b", "z"), "outside the label set: 'z' \\(1\\)"),
    ],
)
def test_rows_that_cannot_teach_are_refused_with_what_would_work(
    given_rows: Rows, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        check_labels(given_rows, ["a", "b"], role="training", n_classes_needed=2)


def test_rows_are_read_in_file_order(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    inputs = [json.dumps({"text": text}) for text in ("one", "two")]
    pq.write_table(pa.table({"id": ["x", "y"], "inputs": inputs, "label": ["b", "a"]}), path)
    read = read_rows(path)
    assert list(read.ids) == ["x", "y"]
    assert read.inputs[1] == {"text": "two"}
    assert read.indices(["a", "b"]).tolist() == [1, 0]


@pytest.mark.parametrize("broken", ["{", "[1]", None])
def test_inputs_that_are_no_object_are_refused_by_row(tmp_path: Path, broken: str | None) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(
        pa.table({"id": ["x"], "inputs": pa.array([broken], pa.string()), "label": ["a"]}), path
    )
    rows_of_file = read_rows(path)
    with pytest.raises(DataError, match="row 0"):
        list(rows_of_file.inputs)


def test_rows_whose_id_came_before_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    ids = ["x", "y", "x", "x", "z"]
    table = pa.table({"id": ids, "inputs": ["{}"] * 5, "label": ["a", "b"] * 2 + ["a"]})
    pq.write_table(table, path)
    assert read_rows(path).n_repeated_ids == 2


def batches_one_by_one(order: list[int], lengths: np.ndarray, budget: int) -> list[list[int]]:
    """Fill batches a row at a time."""
    batches: list[list[int]] = []
    for row in order:
        if batches and (len(batches[-1]) + 1) * int(lengths[row]) <= budget:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


@given(LENGTHS, st.integers(1, 200))
def test_batches_are_those_that_rows_one_by_one_would_make(
    lengths: np.ndarray, budget: int
) -> None:
    order = np.argsort(lengths, kind="stable").tolist()
    found = [batch.tolist() for batch in ordered_batches(lengths, budget)]
    assert found == batches_one_by_one(order, lengths, budget)


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_text("nonsense")
    with pytest.raises(DataError, match="no Parquet file"):
        read_rows(tmp_path / "rows.parquet")


def span_rows(tmp_path: Path, *labels: object) -> Rows:
    written = [label if isinstance(label, str) else json.dumps(label) for label in labels]
    columns = {
        "id": [f"r{n}" for n in range(len(labels))],
        "inputs": ['{"text": "9 EUR"}'] * len(labels),
        "label": written,
    }
    pq.write_table(pa.table(columns), tmp_path / "spans.parquet")
    return read_rows(tmp_path / "spans.parquet", are_labels_long=True)


PRICE = [{"start": 0, "end": 5, "label": "price"}]


def test_rows_of_spans_are_gone_through_without_holding_their_labels(tmp_path: Path) -> None:
    rows = span_rows(tmp_path, PRICE, [])
    assert not isinstance(rows.labels, list)
    assert [json.loads(label) for label in rows.labels] == [PRICE, []]
    assert (len(rows), rows.n_repeated_ids) == (2, 0)
    check_spans(rows, ["price"], role="training", n_different_needed=2)


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("no JSON", r"row 1 \(r1\) has no spans of its text for a label:  is no JSON"),
        ([{"start": 0, "end": 6, "label": "price"}], "/0/end must be at most 5"),
        ([{"start": 0, "end": 5, "label": "city"}], "/0/label must be one of the model's labels"),
        (PRICE, "have the same spans; spans can be learned from at least 2 different lists"),
    ],
)
def test_labels_that_teach_no_spans_are_refused(tmp_path: Path, label: object, said: str) -> None:
    rows = span_rows(tmp_path, PRICE, label)
    with pytest.raises(DataError, match=said):
        check_spans(rows, ["price"], role="training", n_different_needed=2)
