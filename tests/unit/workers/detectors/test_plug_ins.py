"""What single detectors must see, and what each must not be fooled by."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

import workers.detectors
from app.domain.registry import scan
from workers.detectors import detectors, resampled_p_value
from workers.detectors.chi_square import ChiSquare
from workers.detectors.ks import two_sample_ks

scan(workers.detectors)


def test_detectors_are_listed_without_importing_evidently() -> None:
    code = (
        "import sys, workers.detectors as w\n"
        "from app.domain.registry import scan\n"
        "scan(w)\n"
        "assert 'evidently:psi' in w.detectors\n"
        "assert not {'evidently', 'pandas', 'plotly', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_ks_agrees_with_scipy_where_there_are_no_ties() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=2000), rng.normal(0.08, 1, 900)
    distance, p_value, _ = two_sample_ks(x, y, seed=0)
    expected = stats.ks_2samp(x, y)
    assert distance == pytest.approx(expected.statistic)
    assert p_value == pytest.approx(expected.pvalue, rel=0.1)


def test_ks_on_ties_is_sharper_than_the_bound_that_assumes_none() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.binomial(1, 0.5, 1000).astype(float), rng.binomial(1, 0.57, 500).astype(float)
    _, p_value, _ = two_sample_ks(x, y, seed=0)
    assert p_value < 0.5 * stats.ks_2samp(x, y).pvalue


def test_two_percent_missing_against_none_is_significant_at_five_hundred_rows() -> None:
    before, after = np.zeros(500), np.zeros(500)
    after[:10] = np.nan
    p_value = detectors.get("missing").measure(before, after, seed=0).p_value
    assert p_value is not None
    assert p_value < 0.01


def test_chi_square_agrees_with_scipy_where_every_cell_is_full() -> None:
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdef"), dtype=object)
    x, y = rng.choice(letters, 900), rng.choice(letters, 400)
    table = [[(side == letter).sum() for letter in letters] for side in (x, y)]
    expected = stats.chi2_contingency(table)
    measurement = ChiSquare().measure(x, y, seed=0)
    assert measurement.statistic == pytest.approx(expected.statistic)
    assert measurement.p_value == pytest.approx(expected.pvalue)


def test_one_unseen_row_in_a_long_tail_is_no_new_category() -> None:
    x = np.array([f"word {i}" for i in range(400)] * 2, dtype=object)
    y = np.array([f"word {i}" for i in range(399)] + ["unseen"], dtype=object)
    measurement = detectors.get("new-category").measure(x, y, seed=0)
    assert measurement.p_value is not None
    assert measurement.p_value > 0.05


def test_a_new_category_is_named() -> None:
    x = np.array(["a", "b"] * 200, dtype=object)
    y = np.array(["a"] * 90 + ["cash"] * 10, dtype=object)
    measurement = detectors.get("new-category").measure(x, y, seed=0)
    assert measurement.detail["new_categories"] == {"cash": 10}
    assert measurement.effect == pytest.approx(0.1)
    assert measurement.p_value is not None
    assert measurement.p_value < 1e-4


def test_duplicated_embeddings_do_not_look_like_drift() -> None:
    rng = np.random.default_rng(0)
    few = rng.normal(size=(10, 8))
    x, y = few[rng.integers(0, 10, 300)], few[rng.integers(0, 10, 200)]
    for name in ("classifier", "mmd", "neighbours"):
        p_value = detectors.get(name).measure(x, y, seed=0).p_value
        assert p_value is not None
        assert p_value > 0.05


def test_a_resampled_p_value_is_never_zero_and_stops_early_when_quiet() -> None:
    drawn: list[int] = []

    def draw(n: int) -> np.ndarray:
        drawn.append(n)
        return np.linspace(0, 1, n)

    assert resampled_p_value(2.0, draw, at_most=999) == 1 / 1000
    drawn.clear()
    assert resampled_p_value(0.5, draw, at_most=999) == pytest.approx(0.5, abs=0.02)
    assert sum(drawn) == 100


@pytest.mark.slow
def test_every_test_of_evidently_is_selectable_and_known_for_what_it_is() -> None:
    module = sys.modules["workers.detectors.evidently"]
    registered = module._library()[0]._registered_stat_tests
    names = {name for name in registered if not name.startswith("upkeep")}
    assert names == set(module.NATURES)
    for name in names:
        (test, *_), kinds = list(registered[name].values()), set(registered[name])
        words = {"num": "numeric", "cat": "categorical", "text": "text"}
        assert {words[kind.value] for kind in kinds} == set(module.NATURES[name].kinds)
        if name != "perc_text_content_drift":  # its threshold is a percentile, not a score
            assert test.default_threshold == module.NATURES[name].threshold


@pytest.mark.slow
@pytest.mark.parametrize("shift", [-0.5, 0.5])
def test_evidently_mann_whitney_sees_a_fall_as_well_as_a_rise(shift: float) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=500), rng.normal(shift, 1, 300)
    p_value = detectors.get("evidently:mannw").measure(x, y, seed=0).p_value
    assert p_value is not None
    assert p_value < 0.001
