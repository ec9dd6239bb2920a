"""Detectors that cannot see a shift are found blind, and those of the default policy are not."""

from dataclasses import replace

import numpy as np
import pytest

import workers.detectors
from app.domain.policies import CheckPolicy
from app.domain.registry import scan
from app.domain.self_tests import judged
from workers.jobs.trials import Copy, Examiner
from workers.statistics.profile import FittedReference
from workers.statistics.watching import table_of

scan(workers.detectors)

RULES = CheckPolicy()
SCALARS = {kind: RULES.detectors[kind] for kind in ("numeric", "categorical")}


def columns(n, seed, *, moved=0.0):
    rng = np.random.default_rng(seed)
    letters = np.array(["a", "b", "c", "d"], dtype=object)
    centres = np.random.default_rng(0).normal(size=(6, 8))
    return {
        "numeric": {"x": rng.normal(moved, 1.0, n), "count": rng.poisson(6.0, n).astype(float)},
        "categorical": {
            "place": rng.choice(letters, n, p=[0.4, 0.3, 0.2, 0.1]),
            "prediction": rng.choice(letters[:2], n),
        },
        "embedding": {"embedding": centres[rng.integers(0, 6, n)] + rng.normal(0, 0.5, (n, 8))},
    }


def copied(seed=1, *, reference=None, n=1000, **more):
    before = reference or columns(1000, 0)
    rows = columns(n, seed, **more)
    hours = 1_790_000_000_000_000 + np.arange(n) * 3_600_000_000
    return Copy(before, FittedReference.of(table_of(before), times=hours[:1000]), rows, hours)


def examiner(copy=None, *, detectors=SCALARS, rules=RULES, window_rows=500, seed=0):
    return Examiner(copy or copied(), replace(rules, detectors=detectors), window_rows, seed)


def rounds(n):
    """Say after so many rounds that the time is over."""
    asked = iter(range(1, n + 1))
    return lambda: next(asked) >= n


def sights(found, *, minimum_power=0.8):
    return {
        shift.label: judged(shift, trials, minimum_power=minimum_power)
        for shift, trials in found.trials.items()
    }


@pytest.fixture(scope="module")
def found():
    return examiner().run(lambda: False)


def test_the_default_detectors_see_every_shift_of_well_behaved_columns(found):
    seen = sights(found)

    assert [label for label, one in seen.items() if one.is_blind] == []
    assert min(one.power for one in seen.values()) >= 0.75
    assert {label.partition("/")[0] for label in seen} == {"numeric", "categorical", "prediction"}


def test_windows_without_a_shift_are_quiet(found):
    assert (found.n_rounds, found.level) == (40, 0.025)
    assert found.n_false <= 2
    assert found.n_false_watched <= 2


def test_the_watch_tells_after_how_many_rows_it_alarms(found):
    seen = sights(found)

    for label in ("numeric/mean", "categorical/new_category", "prediction/frequency"):
        assert 0 < seen[label].delay_rows < 300, label
    assert seen["numeric/missing"].delay_rows < seen["numeric/mean"].delay_rows


def test_a_detector_with_an_absurd_threshold_is_blind():
    knobs = ("effect", "missing", "unseen", "dependence")
    absurd = {"calibrated": {f"tolerated_{name}": 1.0 for name in knobs}}
    seen = sights(examiner(detectors={**SCALARS, "numeric": absurd}).run(rounds(6)))

    numeric = {label for label in seen if label.startswith("numeric")}
    assert {label for label, one in seen.items() if one.is_blind} == numeric
    assert all(seen[label].power == 0 for label in numeric)
    assert seen["numeric/mean"].n_alarmed == 6  # the watch of rows needs no detector


def test_a_detector_of_one_thing_is_blind_to_the_others():
    seen = sights(examiner(detectors={"numeric": {"missing": {}}}).run(rounds(6)))

    assert not seen["numeric/missing"].is_blind
    assert seen["numeric/mean"].is_blind
    assert set(seen) == {f"numeric/{name}" for name in ("mean", "spread", "tail", "missing")}


def test_embeddings_are_shown_a_cluster_and_the_default_detectors_see_it():
    detectors = {**SCALARS, "embedding": RULES.detectors["embedding"]}
    seen = sights(examiner(detectors=detectors, window_rows=250).run(rounds(3)))

    assert seen["embedding/cluster"].power == 1.0
    assert (seen["embedding/cluster"].delay_rows, seen["embedding/cluster"].n_watched) == (None, 0)


def test_an_embedding_detector_with_an_absurd_threshold_is_blind():
    detectors = {"embedding": {"classifier": {"tolerated_effect": 1.0}}}
    seen = sights(examiner(detectors=detectors, window_rows=250).run(rounds(3)))

    assert seen["embedding/cluster"].is_blind


def test_the_same_seed_finds_the_same_and_the_copy_stays_as_it_was():
    copy = copied()
    before = copy.rows["numeric"]["x"].copy(), copy.rows["categorical"]["place"].copy()
    first = examiner(copy).run(rounds(4))

    assert examiner(copy).run(rounds(4)) == first
    assert (copy.rows["numeric"]["x"] == before[0]).all()
    assert (copy.rows["categorical"]["place"] == before[1]).all()


def test_time_that_is_over_ends_the_test_after_a_whole_round_and_the_first_is_always_done():
    over = examiner().run(lambda: True)

    assert over.n_rounds == 1
    assert {len(trials) for trials in over.trials.values()} == {1}


def test_a_copy_that_has_moved_says_in_which_columns():
    assert examiner(copied(moved=0.5)).moved() == ["x"]
    assert examiner().moved() == []


def test_at_most_so_many_columns_of_a_kind_are_tried_each_in_turn():
    rng = np.random.default_rng(0)
    many = {"numeric": {f"x{i}": rng.normal(size=600) for i in range(20)}}
    rows = {"numeric": {f"x{i}": rng.normal(size=600) for i in range(20)}}
    copy = Copy(many, FittedReference.of(table_of(many)), rows, np.zeros(600, dtype=np.int64))
    found = examiner(copy, window_rows=300).run(rounds(16))

    (mean,) = [trials for shift, trials in found.trials.items() if shift.name == "mean"]
    counts = {name: sum(t.column == name for t in mean) for name in {t.column for t in mean}}
    assert len(counts) == 8
    assert set(counts.values()) == {2}


def test_windows_are_held_against_their_season_where_the_policy_says_so():
    rules = replace(RULES, season="hour_of_day")
    seen = sights(examiner(rules=rules).run(rounds(4)))

    assert seen["numeric/mean"].power == 1.0
    assert seen["numeric/missing"].n_alarmed == 4
