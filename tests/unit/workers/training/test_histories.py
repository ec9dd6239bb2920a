"""Which ways to learn are tried, and which is taken."""

from typing import Any

import numpy as np
import pytest

from workers.task_types.tabular_classification import TabularClassification
from workers.training.errors import RecipeError
from workers.training.histories import (
    ages,
    can_be_continued,
    candidates,
    even_ages,
    history_weights,
    least_forgetful,
)
from workers.training.recipes import complete

SCHEMA = TabularClassification().recipe_schema
BINARY = "binary sigmoid:1"


def test_ages_count_back_in_sets_as_large_as_the_newest():
    assert ages(5, 2).tolist() == [1.5, 1.0, 0.5, 0.0, 0.0]
    assert ages(3, 3).tolist() == [0.0] * 3


def test_even_ages_count_back_from_the_last_row():
    assert even_ages(5, 2.0).tolist() == [2.0, 1.5, 1.0, 0.5, 0.0]
    assert even_ages(0, 2.0).tolist() == []


def test_history_counts_fully_fadingly_or_not():
    old = np.array([7.0, 2.0, 1.0, 0.0])
    assert history_weights("all", old).tolist() == [1, 1, 1, 1]
    assert history_weights("fading", old).tolist() == [0, 0.25, 0.5, 1]
    assert history_weights("newest", old).tolist() == [0, 0, 0, 1]


def ways(recipe: dict[str, Any], **more: bool) -> list[tuple[str, str]]:
    whole = complete(SCHEMA, recipe)
    found = candidates(whole, **{"can_continue": True, "has_history": True, **more})
    return [(one.trees, one.history) for one in found]


def test_a_recipe_says_which_ways_are_tried():
    fresh = [("fresh", "all"), ("fresh", "fading"), ("fresh", "newest")]
    assert ways({}) == [*fresh, ("continue", "newest")]
    assert ways({}, can_continue=False) == fresh
    assert ways({}, can_continue=False, has_history=False) == [("fresh", "all")]
    alone = {"can_continue": False, "has_history": False}
    assert ways({"fading_rows": 9}, **alone) == [("fresh", "all"), ("fresh", "fading")]
    assert ways({"fading_rows": 9, "history": "fading"}, **alone) == [("fresh", "fading")]
    assert ways({"history": "newest"}, **alone) == [("fresh", "all")]
    assert ways({"trees": "continue", "history": "all"}) == [("continue", "all")]
    assert ways({"rounds": 0}) == [("continue", "newest")]
    with pytest.raises(RecipeError, match="no trees to continue"):
        ways({"trees": "continue"}, can_continue=False)
    with pytest.raises(RecipeError, match="learn nothing"):
        ways({"rounds": 0, "trees": "fresh"})


def test_the_first_that_is_not_clearly_worse_is_taken():
    draw = np.random.default_rng(0)
    best = draw.random(400)
    same, worse = best + draw.normal(0.001, 0.5, 400), best + draw.normal(0.2, 0.5, 400)
    assert least_forgetful([same, best]) == 0
    assert least_forgetful([worse, best]) == 1
    assert least_forgetful([best, worse]) == 0


def test_trees_of_another_objective_are_not_continued():
    head = "tree\nobjective=binary sigmoid:1\n"
    assert can_be_continued(f"{head}\nTree=0\n", BINARY)
    assert not can_be_continued(f"{head}average_output\n\nTree=0\n", BINARY)
    assert not can_be_continued(f"{head}\nTree=0\n", "multiclass num_class:3")
    assert not can_be_continued("tree\nobjective=binary sigmoid:2\n\nTree=0\n", BINARY)
    assert not can_be_continued("", BINARY)
