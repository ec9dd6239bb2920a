"""Rows held out: about the share asked for, whole blocks, no class starved."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.domain.holdout import held_out

LABELS = st.lists(st.sampled_from("abc"), min_size=2, max_size=300)
SHARES = st.floats(0.1, 0.5)


@given(LABELS, SHARES)
def test_no_class_loses_more_than_half_again_of_what_it_may(labels, share):
    mask = held_out(labels, share=share)

    total = Counter(labels)
    kept = Counter(label for label, out in zip(labels, mask, strict=True) if not out)
    for label, n in total.items():
        assert kept[label] >= 1
        assert kept[label] >= n * (1 - share) / 2 - 1


@given(st.integers(200, 2000), SHARES)
def test_the_share_is_about_what_was_asked_for(n, share):
    labels = ["ab"[i % 2] for i in range(n)]

    assert abs(held_out(labels, share=share).mean() - share) <= 0.06


@given(LABELS, SHARES, st.integers(0, 3))
def test_the_same_rows_give_the_same_mask(labels, share, seed):
    first = held_out(labels, share=share, seed=seed)

    assert (first == held_out(labels, share=share, seed=seed)).all()


def test_rows_that_arrived_together_are_held_out_together():
    mask = held_out(["ab"[i % 2] for i in range(1000)], share=0.25)

    n_borders = int(np.sum(mask[1:] != mask[:-1]))
    assert n_borders <= 2 * 7


def test_a_class_that_came_in_one_block_is_split_and_not_lost():
    labels = ["a"] * 100
    labels[12:16] = ["b"] * 4  # the fourth of 25 blocks would be held out whole

    mask = held_out(labels, share=0.25)

    assert mask[12:16].sum() == 1
    assert 20 <= mask.sum() <= 30


def test_a_single_row_and_a_class_of_one_stay_in_training():
    assert not held_out(["a"], share=0.5).any()
    assert not held_out(["a", "b"], share=0.5).all()
