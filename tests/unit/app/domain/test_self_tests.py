"""Blind is what surely misses too much, and shifts go only where drift is not already."""

import pytest

from app.domain.self_tests import Plan, Trial, judged, planned, turned
from app.domain.shifts import SHIFTS


def trials(n_seen, n, *, delays=()):
    delays = [*delays, *[None] * (n - len(delays))]
    return [
        Trial("x", i < n_seen, is_watched=True, delay_rows=delay) for i, delay in enumerate(delays)
    ]


def sight(n_seen, n, **more):
    return judged(SHIFTS[0], trials(n_seen, n, **more), minimum_power=0.8)


@pytest.mark.parametrize(
    ("n_seen", "n", "is_blind"),
    [(0, 2, False), (0, 3, True), (26, 40, True), (27, 40, False), (40, 40, False)],
)
def test_blind_is_only_what_surely_misses_too_much(n_seen, n, is_blind):
    found = sight(n_seen, n)

    assert found.is_blind is is_blind
    assert found.is_blind == (found.upper < 0.8)
    assert found.lower <= found.power <= found.upper


def test_the_interval_is_that_of_clopper_and_pearson():
    found = sight(30, 40)
    assert (found.lower, found.upper) == pytest.approx((0.588, 0.873), abs=1e-3)


@pytest.mark.parametrize(
    ("delays", "median"),
    [([10, 20, 30], 20), ([10, 20], None), ([10, 20, 30, 40, 50], 30), ([], None)],
)
def test_a_delay_that_half_of_the_trials_never_reach_is_none(delays, median):
    n = len(delays) + (len(delays) == 2) * 2
    found = sight(0, n or 3, delays=delays)

    assert found.delay_rows == median
    assert found.n_alarmed == len(delays)


def test_what_the_watch_does_not_read_has_no_delay():
    found = judged(SHIFTS[-1], [Trial("e", True)] * 3, minimum_power=0.8)
    assert (found.delay_rows, found.n_watched) == (None, 0)


def test_each_column_is_named_with_its_own_share():
    mixed = [Trial("a", True), Trial("b", False), Trial("a", False), Trial("c", True)]
    found = judged(SHIFTS[0], mixed, minimum_power=0.8)
    assert found.columns == {"a": 0.5, "b": 0.0, "c": 1.0}


def test_only_what_turned_is_told():
    blind, sighted = sight(0, 40), sight(40, 40)
    label = blind.label

    assert turned([], [blind]) == ([label], [])
    assert turned([label], [blind]) == ([], [])
    assert turned([label], [sighted]) == ([], [label])
    assert turned([], [sighted]) == ([], [])
    assert turned([label], []) == ([], [])


def plan(**more):
    situation = {"n_live": 2000, "n_reference": 2000, "full_rows": 1000, "minimum_rows": 50}
    return planned(**{**situation, "unfit": None, **more})


def test_live_rows_are_copied_while_nothing_speaks_against_them():
    assert plan() == Plan("live", 1000)
    assert plan(n_live=600) == Plan("live", 300)
    assert plan(full_rows=60, n_live=120) == Plan("live", 60)


def test_the_reference_stands_in_for_live_rows_that_drifted_or_are_few():
    assert plan(unfit="an incident stands") == Plan("reference", 500, "an incident stands")
    assert plan(n_live=499) == Plan(
        "reference", 500, "there are 499 live rows, and a test needs 500"
    )


def test_with_too_few_rows_of_either_the_test_is_deferred_with_the_numbers():
    assert plan(n_live=10, n_reference=999) == (
        "there are 10 live rows, and a test needs 500; the reference, which could stand in, has "
        "999 rows and would need 1000"
    )
