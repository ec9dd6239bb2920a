"""Selections of rows: what each promises, for any rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.answers import Classes, Number
from app.domain.policies import SelectionPolicy
from app.domain.selection import FEWEST_EACH, Pool, difficulty, draw, selected, share_of_each

DAY = 86_400.0


@st.composite
def pools(draw_of, n_most=60):
    """Rows in order of arrival, the old ones before the new ones."""
    n = draw_of(st.integers(0, n_most))
    n_new = draw_of(st.integers(0, n))
    chance = np.random.default_rng(draw_of(st.integers(0, 2**32 - 1)))
    hard = chance.random(n)
    hard[chance.random(n) < 0.3] = np.nan
    return Pool(
        strata=chance.integers(0, draw_of(st.integers(1, 6)), n),
        is_new=np.arange(n) >= n - n_new,
        draws=np.asarray([draw(0, f"o-{row}") for row in range(n)], dtype=np.uint64),
        seconds=np.where(chance.random(n) < 0.2, np.nan, np.sort(chance.uniform(0, 9 * DAY, n))),
        difficulty=hard,
    )


def first(pool: Pool, n: int) -> Pool:
    """Return the pool as it was before its last rows came."""
    return Pool(
        pool.strata[:n], pool.is_new[:n], pool.draws[:n], pool.seconds[:n], pool.difficulty[:n]
    )


def choose(pool, by, **knobs):
    return selected(SelectionPolicy(by=by, **knobs), pool)


@given(pools())
def test_all_is_every_row_and_new_is_every_new_one(pool):
    assert choose(pool, "all").all()
    assert (choose(pool, "new") == pool.is_new).all()


@given(pools(), st.integers(1, 80), st.floats(0.1, 12))
def test_a_window_is_the_newest_rows_and_of_both_bounds_the_narrower_holds(pool, n, days):
    by_number = choose(pool, "window", maximum_rows=n)
    by_time = choose(pool, "window", days=days)

    assert by_number.sum() == min(n, len(pool.strata))
    assert not by_number.any() or by_number[-1]
    assert (np.diff(by_number.astype(int)) >= 0).all()
    known = pool.seconds[~np.isnan(pool.seconds)]
    if len(known):
        assert (by_time == (pool.seconds >= known.max() - days * DAY)).all()
    both = choose(pool, "window", maximum_rows=n, days=days)
    assert (both == (by_number & by_time)).all()


@given(pools(), st.integers(1, 80))
def test_balanced_rows_are_as_many_of_each_class_as_it_has_and_there_is_room_for(pool, room):
    mask = choose(pool, "balanced", maximum_rows=room)

    names, have = np.unique(pool.strata, return_counts=True)
    kept = np.asarray([np.count_nonzero(mask & (pool.strata == name)) for name in names])
    if len(names):
        assert kept.sum() <= max(room, len(names))
        assert (np.minimum(have, kept.max()) == kept).all()


@given(pools(200))
def test_balanced_without_a_room_keeps_what_the_rarest_class_has(pool):
    mask = choose(pool, "balanced")

    names, have = np.unique(pool.strata, return_counts=True)
    each = max(FEWEST_EACH, have.min(initial=10**9))
    for name, count in zip(names, have, strict=True):
        assert np.count_nonzero(mask & (pool.strata == name)) == min(count, each)


@given(st.lists(st.integers(1, 50), min_size=1), st.integers(1, 1000))
def test_the_share_of_each_class_fills_the_room_as_far_as_whole_rows_can(counts, room):
    have = np.asarray(counts)
    each = share_of_each(room, have)

    used = np.minimum(have, each).sum()
    assert used <= max(room, len(counts))
    more = np.minimum(have, each + 1).sum()
    assert more > room or used == have.sum()


@given(pools(), st.integers(1, 60))
def test_a_reservoir_keeps_all_new_rows_and_at_most_its_part_of_each_old_class(pool, room):
    mask = choose(pool, "reservoir", maximum_rows=room)

    old = pool.strata[~pool.is_new]
    n_classes = len(np.unique(old))
    assert mask[pool.is_new].all()
    for name in np.unique(old):
        of_it = ~pool.is_new & (pool.strata == name)
        part = max(1, room // n_classes)
        assert np.count_nonzero(mask & of_it) == min(part, np.count_nonzero(of_it))


@given(pools(), st.integers(1, 60), st.data())
def test_what_more_rows_have_pushed_out_of_a_reservoir_never_comes_back(pool, room, data):
    n = data.draw(st.integers(0, len(pool.strata)))
    older = Pool(pool.strata, np.zeros_like(pool.is_new), pool.draws, pool.seconds, pool.difficulty)

    before = choose(first(older, n), "reservoir", maximum_rows=room)
    after = choose(older, "reservoir", maximum_rows=room)

    assert not (after[:n] & ~before).any()


@given(pools(), st.integers(1, 60))
def test_a_selection_is_the_same_again_and_the_lot_alone_depends_on_ids(pool, room):
    turned = np.arange(len(pool.strata))[::-1]
    other = Pool(
        pool.strata[turned],
        pool.is_new[turned],
        pool.draws[turned],
        pool.seconds[turned],
        pool.difficulty[turned],
    )
    for by in ("balanced", "reservoir", "hardest"):
        mask = choose(pool, by, maximum_rows=room)
        assert (choose(pool, by, maximum_rows=room) == mask).all()
        assert (choose(other, by, maximum_rows=room) == mask[turned]).all()


@given(pools(), st.integers(1, 60), st.floats(0, 1))
def test_the_hardest_are_harder_than_whatever_was_not_taken_and_others_fill_the_room(
    pool, room, share
):
    mask = choose(pool, "hardest", maximum_rows=room, others_share=share)

    n = len(pool.strata)
    room = min(room, n)
    assert mask.sum() == room
    n_known = np.count_nonzero(~np.isnan(pool.difficulty))
    n_hard = min(n_known, room - round(room * share))
    hardest = np.sort(pool.difficulty[~np.isnan(pool.difficulty)])[::-1][:n_hard]
    taken = np.sort(pool.difficulty[mask & ~np.isnan(pool.difficulty)])[::-1]
    assert (taken[:n_hard] == hardest).all()


def test_difficulty_is_what_the_score_of_the_label_lacks_and_unknown_for_a_mere_hit():
    answer = Classes(("a", "b"))

    assert difficulty(answer, "a", "a", {"a": 0.75, "b": 0.25}) == 0.25
    assert difficulty(answer, "a", "b", {"b": 0.9}) == 1.0
    assert difficulty(answer, "a", "b", None) == 1.0
    assert difficulty(answer, "a", "a", None) is None
    assert difficulty(answer, "a", None, None) is None


def test_the_difficulty_of_a_number_is_its_error_in_scales():
    assert difficulty(Number(scale=4.0), "1.0", "2.0", None) == 0.25
    assert difficulty(Number(scale=4.0), "1.0", "1.0", None) == 0.0
    assert difficulty(Number(), "1.0", "2.0", None) is None


@pytest.mark.parametrize("by", ["window", "reservoir", "hardest"])
def test_a_selection_that_does_not_say_how_much_is_refused(by):
    with pytest.raises(ValueError, match="needs maximum_rows"):
        SelectionPolicy(by=by)


def test_another_seed_draws_other_rows():
    ids = [f"o-{n}" for n in range(200)]
    lots = [sorted(ids, key=lambda one: draw(seed, one))[:20] for seed in (0, 1)]

    assert len(set(lots[0]) & set(lots[1])) < 10
