import numpy as np
import pytest

from app.domain.profiles import Layout
from app.domain.sequential import Wealth, bets_against, wager


def fitted(**columns):
    layout = Layout.of(columns)
    n = len(next(iter(columns.values())))
    counts = layout.count(layout.codes(columns, n))
    return layout, counts, [column.bins for column in layout.columns]


@pytest.fixture
def mixed():
    rng = np.random.default_rng(0)
    return {
        "normal": rng.normal(size=2000),
        "count": rng.poisson(1.0, 2000).astype(float),
        "holes": np.where(rng.random(2000) < 0.1, np.nan, rng.normal(size=2000)),
        "category": np.array(list("aabbbcd"), dtype=object)[rng.integers(0, 7, 2000)],
    }


def test_no_bet_is_expected_to_gain_on_the_reference(mixed):
    _, counts, bins = fitted(**mixed)
    factors = np.exp(bets_against(counts, bins).log_factors)
    shares = counts / counts.sum(axis=1, keepdims=True)

    assert (np.einsum("cw,cwk->ck", shares, factors) <= 1.001).all()


def test_the_weights_of_all_bets_sum_to_one(mixed):
    _, counts, bins = fitted(**mixed)

    assert bets_against(counts, bins).weights.sum() == pytest.approx(1.0)


def test_tolerance_makes_every_bet_poorer(mixed):
    _, counts, bins = fitted(**mixed)
    eager, calm = (bets_against(counts, bins, tolerance=t).log_factors for t in (0.0, 0.05))

    assert (calm <= eager + 1e-12).all()


def test_playing_in_two_parts_ends_where_playing_at_once_does(mixed):
    layout, counts, bins = fitted(**mixed)
    bets = bets_against(counts, bins)
    blocks = layout.blocks(layout.codes(mixed, 2000), np.arange(0, 2000, 10))

    whole, levels = wager(bets, Wealth.of(bets), blocks)
    first, _ = wager(bets, Wealth.of(bets), blocks[:, :70])
    second, later = wager(bets, first, blocks[:, 70:])

    assert np.allclose(whole.values, second.values)
    assert np.allclose(levels[70:], later)
    assert whole.n_rows == second.n_rows == 2000
    assert whole.peak == pytest.approx(second.peak)


@pytest.mark.parametrize(
    "change",
    [
        {"normal": lambda x: x + 0.5},
        {"normal": lambda x: x * 1.5},
        {"holes": lambda x: np.where(np.arange(len(x)) % 3 == 0, np.nan, x)},
        {"category": lambda x: np.where(np.arange(len(x)) % 10 == 0, "new", x).astype(object)},
        {"category": lambda x: np.where(np.arange(len(x)) % 2 == 0, "d", x).astype(object)},
    ],
    ids=["location", "spread", "missing", "unseen", "frequency"],
)
def test_a_changed_column_raises_the_alarm_within_three_hundred_rows(mixed, change):
    layout, counts, bins = fitted(**mixed)
    bets = bets_against(counts, bins)
    window = {name: values[:300] for name, values in mixed.items()}
    window |= {name: move(window[name]) for name, move in change.items()}
    blocks = layout.blocks(layout.codes(window, 300), np.arange(0, 300, 5))

    assert wager(bets, Wealth.of(bets), blocks)[0].peak > 20_000


def test_certain_drift_does_not_overflow():
    layout, counts, bins = fitted(x=np.random.default_rng(0).normal(size=500))
    bets = bets_against(counts, bins)
    codes = layout.codes({"x": np.full(100_000, 50.0)}, 100_000)
    wealth, levels = wager(bets, Wealth.of(bets), layout.blocks(codes, np.arange(0, 100_000, 2000)))

    assert np.isfinite(wealth.values).all()
    assert np.isfinite(levels).all()
