"""Rows enter a window and leave it block by block, and the counts stay those of its rows."""

import numpy as np
import pytest

from app.domain.profiles import Layout
from app.domain.reference import MAXIMUM_ROWS
from app.domain.windows import EXACT_ROWS, Block, WindowCounts

RNG = np.random.default_rng(0)
LAYOUT = Layout.of({"a": RNG.normal(size=500), "b": RNG.choice(np.array(list("xyz"), object), 500)})


def rows(n, seed=1):
    rng = np.random.default_rng(seed)
    table = {"a": rng.normal(size=n), "b": rng.choice(np.array(list("xyzw"), object), n)}
    return LAYOUT.codes(table, n)


def added(window, codes, portions):
    start = 0
    for n in portions:
        part = slice(start, start + n)
        numbers = np.arange(start + 1, start + n + 1) * 2
        window = window.with_rows(
            LAYOUT, codes[:, part], sequences=numbers, observed_at=numbers * 1000
        )
        start += n
    return window


@pytest.mark.parametrize(
    "portions", [[700], [1] * 700, [3, 90, 7, 600], [150, 150, 150, 250], [699, 1], [50] * 14]
)
def test_whatever_the_portions_the_window_holds_exactly_its_newest_rows(portions):
    codes = rows(700)
    window = added(WindowCounts(200), codes, portions)

    assert window.n_rows == 200
    assert (window.first, window.through) == (2 * 501, 2 * 700)
    assert (window.codes(LAYOUT) == codes[:, -200:]).all()
    assert (window.counts(LAYOUT) == LAYOUT.count(codes[:, -200:])).all()
    assert min(block.first_at for block in window.blocks) == 2 * 501 * 1000


def test_many_small_portions_leave_few_blocks():
    window = added(WindowCounts(320), rows(2000), [1] * 2000)

    assert len(window.blocks) <= 40


@pytest.mark.parametrize("portions", [[60_000], [4096] * 14, [997] * 60])
def test_a_large_window_keeps_all_counts_and_an_even_sample_of_rows(portions):
    codes = rows(60_000)
    window = added(WindowCounts(50_000), codes[:, : sum(portions)], portions)
    n, end = window.n_rows, sum(portions)

    assert 50_000 * (1 - 1 / 16) < n <= 50_000
    assert (window.counts(LAYOUT) == LAYOUT.count(codes[:, end - n : end])).all()
    kept = window.codes(LAYOUT)
    assert EXACT_ROWS / 2 < kept.shape[1] <= MAXIMUM_ROWS
    sequences = np.concatenate([block.sequences for block in window.blocks])
    assert (kept == codes[:, sequences // 2 - 1]).all()


def test_a_block_read_back_is_the_block_that_was_written():
    for size in (100, 50_000):
        block = added(WindowCounts(size), rows(60), [60]).blocks[0]
        about = {
            key: getattr(block, key) for key in ("first", "last", "n_rows", "first_at", "last_at")
        }
        back = Block.read(block.body(), **about)

        assert (back.codes == block.codes).all()
        assert (back.sequences == block.sequences).all()
        assert (back.counts is None) == (block.counts is None)
        assert back.counts is None or (back.counts == block.counts).all()


def test_a_smaller_window_keeps_its_newest_rows_and_a_larger_one_starts_anew():
    codes = rows(300)
    window = added(WindowCounts(300), codes, [300])

    assert (window.cut_to(100).codes(LAYOUT) == codes[:, -100:]).all()
    assert window.cut_to(400).n_rows == 0
    assert window.cut_to(100_000).n_rows == 0
