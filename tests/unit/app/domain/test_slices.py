"""A slice's fall is seen where the other rows hide it, and quiet slices keep quiet."""

import json

import numpy as np
import pytest
from scipy.stats import binom

from app.domain.drift import DriftScore
from app.domain.performance import watch_accuracy
from app.domain.slices import (
    MINIMUM_REFERENCE,
    SliceDrift,
    SliceFinding,
    fallen,
    judged_together,
    labels_by_slice,
    slices_of,
    values_of,
    with_drift,
)
from app.services.documents import document
from app.services.performance import read_slices

REFERENCE = [{"site": "ab"[i % 2]} for i in range(400)] + [{"site": "rare"}] * 5
RIGHT = [i % 10 != 0 and i % 10 != 1 for i in range(405)]
FIELDS = ("site",)


def fresh(tolerance=0.02):
    return slices_of(FIELDS, REFERENCE, RIGHT, tolerance=tolerance, allowance_errors=1.0)


def labels(rng, n, accuracy):
    sites = rng.choice(list(accuracy), n)
    right = [bool(rng.random() < accuracy[site]) for site in sites]
    return [{"site": str(site)} for site in sites], right


def after(accuracy, n, seed=1, slices=None):
    rng = np.random.default_rng(seed)
    return labels_by_slice(slices or fresh(), FIELDS, *labels(rng, n, accuracy))


def test_a_slice_that_fell_is_named_while_the_others_hold():
    found = fallen(after({"a": 0.8, "b": 0.5}, 600), 10_000)

    assert [one.name for one in found] == ["site=b"]
    assert "accuracy of site=b" in found[0].in_words()


def test_a_rare_slice_is_counted_but_not_judged():
    rare = next(one for one in after({"rare": 0.0}, 300) if one.name == "site=rare")

    assert (rare.n, rare.n_right, rare.n_reference) == (300, 0, 5)
    assert rare.n_reference < MINIMUM_REFERENCE
    assert (rare.floor, rare.has_fallen(1.0)) == (None, False)


def test_labels_in_two_batches_are_the_same_as_in_one():
    rows, right = labels(np.random.default_rng(3), 200, {"a": 0.8, "b": 0.5, "new": 1.0})
    whole = labels_by_slice(fresh(), FIELDS, rows, right)
    halves = labels_by_slice(fresh(), FIELDS, rows[:77], right[:77])

    assert labels_by_slice(halves, FIELDS, rows[77:], right[77:]) == whole


def test_a_slices_evidence_is_that_of_the_watch_over_accuracy():
    rows, right = labels(np.random.default_rng(4), 150, {"a": 0.6})
    found = labels_by_slice(fresh(), FIELDS, rows, right)[0]
    watched = watch_accuracy(np.array(right), found.accepted, found.accepted - found.floor)

    assert found.log_e_value_max == pytest.approx(watched.log_e_value_max)


def test_a_missing_value_is_a_slice_of_its_own():
    found = slices_of(FIELDS, [{}] * 40, [True] * 40, tolerance=0.02, allowance_errors=1.0)

    assert [one.name for one in found] == ["site=(missing)"]


@pytest.mark.slow
def test_all_slices_together_sound_a_false_alarm_no_sooner_than_promised():
    n, run_length, n_streams = 200, 2000, 150
    at_floor = {one.name[-1]: one.floor for one in fresh() if one.floor is not None}
    n_alarms = sum(
        bool(fallen(after(at_floor, n, seed=[9, seed]), run_length)) for seed in range(n_streams)
    )

    assert n_alarms <= binom.ppf(1 - 1e-4, n_streams, n / run_length)


def score(feature, p_value, *, effect=0.5):
    return DriftScore(feature, "location", "ks", 1.0, p_value, 90, 80, effect=effect, threshold=0.1)


def compared(**scores):
    known = SliceDrift(SliceFinding.INSUFFICIENT_DATA, 90, 80, last_sequence=7)
    return {name: (known, found) for name, found in scores.items()}


def test_signals_of_all_slices_are_one_family():
    alone = judged_together(compared(a=[score("age", 0.02)]), fdr=0.05)
    quiet = {f"s{i}": [score("age", 0.9)] for i in range(9)}
    among = judged_together(compared(a=[score("age", 0.02)], **quiet), fdr=0.05)

    assert alone["a"].drifted == ("age",)
    assert among["a"].drifted == ()
    assert among["a"].strongest["q_value"] == pytest.approx(0.2)


def test_a_slice_says_what_moved_most_and_one_without_scores_keeps_its_finding():
    found = judged_together(
        compared(a=[score("n", 0.5), score("age", 1e-9), score("small", 1e-12, effect=0.01)], b=[]),
        fdr=0.05,
    )
    assert (found["a"].finding, found["a"].drifted, found["a"].n_signals) == ("drift", ("age",), 3)
    assert (found["a"].strongest["feature"], found["a"].strongest["drifted"]) == ("age", True)
    assert (found["b"].finding, found["b"].strongest) == ("insufficient_data", None)


def test_what_a_look_said_stands_until_the_next_one():
    found = judged_together(compared(**{"site=a": [score("age", 1e-9)]}), fdr=0.05)
    slices = with_drift(fresh(), found)
    later = labels_by_slice(slices, FIELDS, [{"site": "a"}], [True])

    assert [one.drift for one in later if one.name == "site=a"] == [found["site=a"]]
    assert with_drift(later, {}) == later
    assert with_drift([], found)[0].name == "site=a"


def test_the_most_frequent_values_are_slices_where_nothing_is_labelled():
    assert values_of(FIELDS, REFERENCE) == ["site=a", "site=b", "site=rare"]


def test_a_report_gives_back_what_it_kept_of_a_slices_drift():
    found = judged_together(compared(**{"site=a": [score("age", 1e-9)]}), fdr=0.05)
    slices = with_drift(fresh(), found)
    kept = json.loads(json.dumps(document(slices)))

    assert [one.drift for one in read_slices(kept)] == [one.drift for one in slices]
    assert read_slices([{k: v for k, v in kept[0].items() if k != "drift"}])[0].drift is None
