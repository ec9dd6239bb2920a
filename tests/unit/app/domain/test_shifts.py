"""Each known shift goes as far as it says."""

import numpy as np
import pytest

from app.domain.shifts import NEW_CATEGORY, SHIFTS

BY_LABEL = {shift.label: shift for shift in SHIFTS}
N = 1000


def column(kind: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Values and spare ones of a column that can take every shift of its kind."""
    rng = np.random.default_rng(seed)
    if kind == "numeric":
        both = rng.normal(10.0, 2.0, 2 * N)
    elif kind == "embedding":
        centres = rng.normal(size=(5, 8))
        both = centres[rng.integers(0, 5, 2 * N)] + rng.normal(0, 0.5, (2 * N, 8))
    else:
        letters = np.array(["a", "b", "c"], dtype=object)
        both = rng.choice(letters, 2 * N, p=[0.6, 0.3, 0.1])
    return both[:N], both[N:]


def shifted(label: str, values: np.ndarray, spare: np.ndarray | None = None, seed: int = 1):
    other = values if spare is None else spare
    return BY_LABEL[label].inject(values, other, np.random.default_rng(seed))


@pytest.mark.parametrize("label", BY_LABEL)
def test_a_shift_leaves_the_rows_it_was_given_untouched(label):
    values, spare = column(BY_LABEL[label].kind)
    before = values.copy(), spare.copy()

    changed = shifted(label, values, spare)

    assert (values == before[0]).all()
    assert (spare == before[1]).all()
    assert changed.shape == values.shape
    assert not np.shares_memory(changed, values)


@pytest.mark.parametrize("label", BY_LABEL)
def test_the_same_seed_gives_the_same_shift_and_another_one_other_rows(label):
    values, spare = column(BY_LABEL[label].kind)
    first = shifted(label, values, spare)

    assert (first.astype(str) == shifted(label, values, spare).astype(str)).all()
    if label not in {"numeric/mean", "numeric/spread"}:  # these draw nothing
        assert (first.astype(str) != shifted(label, values, spare, seed=2).astype(str)).any()


def test_labels_are_unique():
    assert len(BY_LABEL) == len(SHIFTS)


def test_the_mean_moves_by_half_a_standard_deviation():
    values, _ = column("numeric")
    moved = shifted("numeric/mean", values)

    assert abs(moved.mean() - values.mean()) / values.std() == pytest.approx(0.5, abs=0.02)


def test_a_column_near_its_upper_end_moves_down():
    values = 1 - np.random.default_rng(0).beta(1, 20, N)
    moved = shifted("numeric/mean", values)

    assert moved.mean() < values.mean() - 0.25 * values.std()
    assert values.min() <= moved.min() <= moved.max() <= values.max()


def test_the_spread_grows_by_half():
    values, _ = column("numeric")
    wider = shifted("numeric/spread", values)

    assert 1.35 < wider.std() / values.std() < 1.5  # the range cuts some off
    assert wider.mean() == pytest.approx(values.mean(), abs=0.1)


@pytest.mark.parametrize("label", ["numeric/mean", "numeric/spread"])
def test_whole_numbers_stay_whole(label):
    values = np.random.default_rng(0).poisson(5.0, N).astype(float)
    changed = shifted(label, values)

    assert (changed == np.floor(changed)).all()
    assert abs(changed.mean() - values.mean()) < 0.6 * values.std()


def test_the_farther_twentieth_gives_a_fifth_of_the_rows():
    values, _ = column("numeric")
    mixed = shifted("numeric/tail", values)

    tail = (
        np.sort(values)[-N // 20 :] if mixed.mean() > values.mean() else np.sort(values)[: N // 20]
    )
    assert (mixed != values).sum() == pytest.approx(200, abs=15)  # some were there before
    assert set(mixed[mixed != values]) <= set(tail)


@pytest.mark.parametrize("kind", ["numeric", "categorical"])
def test_a_tenth_of_the_rows_goes_missing(kind):
    values, _ = column(kind)
    lost = shifted(f"{kind}/missing", values)

    gone = [value is None or value != value for value in lost]  # noqa: PLR0124  NaN
    assert sum(gone) == 100


def test_a_tenth_of_the_rows_gets_a_category_that_never_was():
    values, _ = column("categorical")
    assert (shifted("categorical/new_category", values) == NEW_CATEGORY).sum() == 100


@pytest.mark.parametrize("kind", ["categorical", "prediction"])
def test_a_fifth_of_the_rows_moves_into_one_category(kind):
    values, _ = column(kind)
    moved = shifted(f"{kind}/frequency", values)
    now = {name: (moved == name).sum() - (values == name).sum() for name in "abc"}

    assert max(now.values()) == 200
    assert sum(now.values()) == 0
    assert (moved != values).sum() == 200


def test_a_fifth_of_the_embeddings_becomes_new_rows_of_one_cluster():
    values, spare = column("embedding")
    crowded = shifted("embedding/cluster", values, spare)
    fresh = crowded[(crowded != values).any(axis=1)]

    assert len(fresh) == 200
    assert len(np.unique(fresh, axis=0)) == 200
    assert fresh.std(axis=0).mean() < 0.6 * values.std(axis=0).mean()
    nearest = [((spare - row) ** 2).sum(axis=1).min() for row in fresh]
    usual = [np.sort(((spare - row) ** 2).sum(axis=1))[1] for row in spare[:200]]
    assert np.median(nearest) < 2 * np.median(usual)  # they lie where rows do


@pytest.mark.parametrize(
    ("label", "values"),
    [
        ("numeric/mean", np.ones(N)),
        ("numeric/mean", np.full(N, np.nan)),
        ("numeric/spread", np.repeat([0.0, 1.0], N // 2)),
        ("numeric/tail", np.repeat([0.0, 1.0], N // 2)),
        ("numeric/missing", np.full(N, np.nan)),
        ("categorical/missing", np.full(N, None, dtype=object)),
        ("categorical/new_category", np.full(N, None, dtype=object)),
        ("categorical/frequency", np.full(N, "a", dtype=object)),
        ("embedding/cluster", np.ones((N, 4))),
        ("embedding/cluster", np.full((N, 4), np.nan)),
    ],
)
def test_a_column_that_cannot_take_a_shift_is_not_asked(label, values):
    assert shifted(label, values) is None


def test_rows_move_into_a_category_that_has_room_for_them():
    values = np.array(["a"] * 900 + ["b"] * 2 + [None] * 98, dtype=object)
    assert (shifted("prediction/frequency", values) == "b").sum() == 202
