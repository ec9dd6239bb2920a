"""What Optuna proposes depends on the record alone, and it prunes what falls behind."""

import math
import statistics
from typing import Any

import pytest

from workers.training.search import Racing, proposed

SPACE = {
    "rate": {"low": 1e-5, "high": 1e-1, "log": True},
    "layers": {"low": 1, "high": 6, "log": False},
    "head": {"choices": ["probe", "random", None]},
}


def search(**changes: Any) -> dict[str, Any]:
    return {"space": SPACE, "pruner": "median", "direction": "maximize", **changes}


def ended(recipe: dict[str, Any], score: float, state: str = "complete") -> dict[str, Any]:
    scores = [[epoch, score - 0.1 / (1 + epoch)] for epoch in range(4)]
    return {
        "recipe": recipe,
        "state": state,
        "score": None if state == "failed" else score,
        "scores": scores,
    }


def played(n: int, seed: int = 3) -> list[dict[str, Any]]:
    """Return trials of a task whose best rate is 1e-3."""
    trials: list[dict[str, Any]] = []
    for number in range(n):
        recipe = proposed(search(), trials, seed=seed)
        score = 1 - abs(math.log10(recipe["rate"]) + 3) / 3
        trials.append(ended(recipe, score, "failed" if number == 4 else "complete"))
    return trials


def test_a_proposal_is_a_function_of_the_seed_and_the_trials_before() -> None:
    trials = played(12)

    assert played(12) == trials
    assert proposed(search(), trials, seed=3) == proposed(search(), [*trials], seed=3)
    assert proposed(search(), trials, seed=4) != proposed(search(), trials, seed=3)
    assert proposed(search(), trials[:-1], seed=3) == trials[-1]["recipe"]


def test_proposals_lie_in_the_space_and_whole_knobs_are_whole() -> None:
    for one in played(12):
        recipe = one["recipe"]
        assert 1e-5 <= recipe["rate"] <= 1e-1
        assert recipe["layers"] in range(1, 7)
        assert recipe["head"] in ["probe", "random", None]


def test_runs_of_neighbouring_seeds_do_not_try_the_same() -> None:
    first, second = ([one["recipe"]["rate"] for one in played(6, seed)] for seed in (3, 4))
    assert not set(first) & set(second)


def test_later_proposals_are_better_than_those_at_random() -> None:
    distances = [abs(math.log10(one["recipe"]["rate"]) + 3) for one in played(30)]
    assert statistics.mean(distances[20:]) < 0.7 * statistics.mean(distances[:10])


@pytest.mark.parametrize("pruner", ["median", "none"])
def test_a_trial_that_falls_behind_the_median_is_stopped_unless_nothing_prunes(pruner: str) -> None:
    before = [ended({"rate": 1e-3, "layers": 2, "head": None}, 0.8) for _ in range(3)]
    recipe = {"rate": 1e-5, "layers": 1, "head": "probe"}
    wanted = search(pruner=pruner)

    good, bad = (Racing(wanted, before, recipe) for _ in range(2))

    assert not any(good.told(epoch, 0.9) for epoch in range(3))
    assert any(bad.told(epoch, 0.1) for epoch in range(3)) == (pruner == "median")


def test_of_losses_the_larger_falls_behind() -> None:
    before = [ended({"rate": 1e-3, "layers": 2, "head": None}, 0.8) for _ in range(3)]
    wanted = search(direction="minimize")
    recipe = {"rate": 1e-5, "layers": 1, "head": "probe"}

    assert Racing(wanted, before, recipe).told(1, 2.0)
    assert not Racing(wanted, before, recipe).told(1, 0.1)


def test_two_trials_are_too_few_to_fall_behind() -> None:
    before = [ended({"rate": 1e-3, "layers": 2, "head": None}, 0.8) for _ in range(2)]
    assert not Racing(search(), before, {"rate": 1e-5, "layers": 1, "head": None}).told(1, 0.0)


def test_hyperband_takes_the_same_record() -> None:
    before = [ended({"rate": 1e-3, "layers": 2, "head": None}, 0.8) for _ in range(3)]
    wanted = search(pruner="hyperband")
    decisions = [
        [Racing(wanted, before, before[0]["recipe"]).told(epoch, 0.1) for epoch in range(3)]
        for _ in range(2)
    ]
    assert decisions[0] == decisions[1]
