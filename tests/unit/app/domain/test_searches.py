"""The best of trials, and whether another may be begun."""

import pytest

from app.domain.searches import best_of, may_go_on


def trial(number, state="complete", score=0.5, seconds=2.0):
    return {"number": number, "state": state, "score": score, "seconds": seconds}


def test_the_best_is_complete_and_the_first_of_equals():
    trials = [
        trial(0, score=0.6),
        trial(1, "pruned", 0.9),
        trial(2, score=0.8),
        trial(3, score=0.8),
    ]
    none = [trial(0, "failed", None), trial(1, "running", None)]

    assert best_of(trials, direction="maximize")["number"] == 2
    assert best_of(trials, direction="minimize")["number"] == 0
    assert best_of(none, direction="maximize") is None


@pytest.mark.parametrize(
    ("n_trials", "budget_seconds", "expected"),
    [(3, None, True), (2, None, False), (3, 5.0, True), (3, 4.0, False)],
)
def test_another_trial_needs_room_and_time(n_trials, budget_seconds, expected):
    trials = [trial(0), trial(1, "failed")]
    assert may_go_on(trials, n_trials=n_trials, budget_seconds=budget_seconds) is expected


def test_a_trial_that_was_interrupted_is_gone_on_with_though_it_is_the_last():
    assert may_go_on([trial(0), trial(1, "running")], n_trials=2, budget_seconds=None)


def test_a_trial_that_was_interrupted_goes_on_beyond_the_budget_while_none_is_complete():
    failed, running = trial(0, "failed", None), trial(1, "running", None, seconds=9.0)

    assert may_go_on([failed, running], n_trials=3, budget_seconds=5.0)
    assert not may_go_on([trial(0), running], n_trials=3, budget_seconds=5.0)
    assert not may_go_on([failed, trial(1, "failed", None, 9.0)], n_trials=3, budget_seconds=5.0)
