"""Recipes are completed and checked."""

import pytest

from workers.training.errors import RecipeError
from workers.training.recipes import complete, recipe_schema

SCHEMA = recipe_schema(
    {"epochs": 2, "learning_rate": 0.1, "head_learning_rate": 0.2, "trainable_layers": None}, {}
)


def test_missing_knobs_take_their_defaults() -> None:
    recipe = complete(SCHEMA, {"epochs": 5})
    assert recipe["epochs"] == 5
    assert recipe["weight_decay"] == 0.01


@pytest.mark.parametrize("recipe", [{"epoch": 1}, {"epochs": -1}, {"epochs": "two"}])
def test_a_knob_that_is_unknown_or_out_of_bounds_is_refused(recipe: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match="the knobs are"):
        complete(SCHEMA, recipe)
