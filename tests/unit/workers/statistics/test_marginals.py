import numpy as np
import pytest
from scipy import stats

from app.domain.profiles import Layout
from workers.statistics.marginals import KINDS, cauchy_combination, fisher_exact, read_columns


def read(reference, current):
    layout = Layout.of({"x": reference})
    counts = [layout.count(layout.codes({"x": side}, len(side))) for side in (reference, current)]
    found = read_columns(*counts, [column.bins for column in layout.columns])
    return {
        kind: (p, effect)
        for kind, p, effect in zip(KINDS, found.p_values[0], found.effects[0], strict=True)
    }


@pytest.mark.parametrize("sides", [((3, 100), (9, 80)), ((0, 50), (1, 50)), ((40, 50), (1, 30))])
def test_fishers_test_is_scipys_with_twice_the_smaller_tail(sides):
    (hits, n), (other, m) = sides
    table = [[other, m - other], [hits, n - hits]]
    tails = [stats.fisher_exact(table, alternative=side).pvalue for side in ("less", "greater")]

    assert fisher_exact(hits, n, other, m) == pytest.approx(min(1.0, 2 * min(tails)))


def test_the_location_test_is_wilcoxons_where_bins_keep_all_values_apart():
    rng = np.random.default_rng(0)
    reference, current = rng.integers(0, 12, 300) * 1.0, rng.integers(1, 13, 200) * 1.0
    p = stats.mannwhitneyu(reference, current, use_continuity=False, method="asymptotic").pvalue

    assert read(reference, current)["location"][0] == pytest.approx(p, rel=0.02)


def test_the_frequency_test_is_chi_squares_where_cells_are_full():
    rng = np.random.default_rng(1)
    names = np.array(list("abcd"), dtype=object)
    sides = [names[rng.integers(0, 4, n)] for n in (400, 300)]
    table = [[(side == name).sum() for name in names] for side in sides]
    p = stats.chi2_contingency(table, correction=False).pvalue

    assert read(*sides)["frequency"][0] == pytest.approx(p)


def test_each_kind_of_move_is_surest_in_its_own_test():
    rng = np.random.default_rng(2)
    reference, current = rng.normal(size=3000), rng.normal(size=600)
    holes = np.where(np.arange(600) % 20 == 0, np.nan, current)
    moved = {
        "location": current + 0.4,
        "spread": current * 1.5,
        "missing": holes,
        "range": np.where(np.arange(600) % 60 == 0, 30.0, current),
    }

    for kind, window in moved.items():
        p_values = {name: p for name, (p, _) in read(reference, window).items() if p == p}  # noqa: PLR0124  NaN is not itself
        assert min(p_values, key=p_values.__getitem__) == kind


def test_a_handful_of_values_gone_is_found_where_none_was_missing():
    rng = np.random.default_rng(3)
    current = rng.normal(size=500)
    current[:10] = np.nan

    p, effect = read(rng.normal(size=5000), current)["missing"]
    assert p < 1e-8
    assert effect == pytest.approx(0.02)


def test_combining_one_p_value_gives_it_back_and_nothing_gives_one():
    p = cauchy_combination(np.array([[0.03, np.nan], [np.nan, np.nan]]), np.ones(2))

    assert p.tolist() == pytest.approx([0.03, 1.0])


def test_the_combination_listens_to_the_smallest_and_survives_a_one():
    pairs = np.array([[1e-20, 0.9], [0.001, 1.0], [1.0, 1.0], [0.0, 1.0]])
    agreed, sure, none, certain = cauchy_combination(pairs)

    assert cauchy_combination(np.array([0.3])) == pytest.approx(0.3)
    assert agreed == pytest.approx(2e-20, rel=1e-3)
    assert sure < 0.01
    assert none >= 0.9
    assert certain < 1e-200


def test_one_sure_test_of_eight_is_not_drowned_by_the_rest():
    p = cauchy_combination(np.array([[1e-8] + [0.9] * 7]), np.ones(8))

    assert p[0] < 1e-6
