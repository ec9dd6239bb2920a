import numpy as np

from workers.statistics.marginals import DEPENDENCE, KINDS
from workers.statistics.profile import FittedReference

AT = KINDS.index(DEPENDENCE)


def read(reference, current):
    fitted = FittedReference.of(reference)
    return fitted.read(fitted.seen(current), fdr=0.05)


def correlated(n, rng, d=5):
    hidden = rng.normal(size=(n, 1))
    rows = hidden + 0.7 * rng.normal(size=(n, d))
    return {f"x{i}": rows[:, i].copy() for i in range(d)}


def test_the_column_that_broke_away_is_blamed_and_no_other():
    rng = np.random.default_rng(0)
    current = correlated(500, rng)
    current["x2"] = rng.permutation(current["x2"])
    p = read(correlated(4000, rng), current).p_values[:, AT]

    assert p[2] < 1e-6
    assert (np.delete(p, 2) > 0.01).all()


def test_a_column_that_moved_by_itself_is_not_held_against_the_others():
    rng = np.random.default_rng(1)
    current = correlated(500, rng)
    current["x0"] = 3 * current["x0"] ** 2
    p = read(correlated(4000, rng), current).p_values[:, AT]

    assert (p[1:] > 0.01).all()


def test_a_shift_of_a_column_does_not_break_its_correlations():
    rng = np.random.default_rng(2)
    current = correlated(500, rng)
    current["x0"] = current["x0"] + 0.3
    effects = read(correlated(4000, rng), current).effects[:, AT]

    assert effects[0] < 0.05


def test_columns_that_hardly_ever_vary_together_are_not_judged():
    rng = np.random.default_rng(3)
    table = {f"x{i}": (rng.random(2000) < 0.01) * 1.0 for i in range(3)}
    window = {name: values[:200] for name, values in table.items()}

    assert np.isnan(read(table, window).p_values[:, AT]).all()


def test_values_that_went_missing_leave_the_other_rows_correlations_alone():
    rng = np.random.default_rng(4)
    current = correlated(800, rng)
    current["x1"][rng.random(800) < 0.4] = np.nan
    found = read(correlated(4000, rng), current)

    assert found.effects[1, AT] < 0.06
