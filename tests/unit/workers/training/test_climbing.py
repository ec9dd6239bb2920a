"""Which rungs of a recipe train layers, and what each is told to do."""

import pytest

from workers.task_types.text_classification import TextClassification
from workers.training.climbing import LORA_RANK, recipe_of, rungs_of
from workers.training.recipes import complete

SCHEMA = TextClassification().recipe_schema


def whole(**recipe: object) -> dict[str, object]:
    return complete(SCHEMA, recipe)


@pytest.mark.parametrize(
    ("rungs", "trained"),
    [
        (["full", "probe", "lora", "top"], ["top", "lora", "full"]),
        (["probe"], ["top"]),
        (["prior", "full"], ["full"]),
    ],
)
def test_rungs_that_train_are_climbed_cheapest_first(rungs: list[str], trained: list[str]) -> None:
    assert rungs_of(whole(rungs=rungs)) == trained


def test_a_recipe_without_rungs_has_one() -> None:
    assert rungs_of({"epochs": 1}) == ["top"]
    assert recipe_of("top", {"epochs": 1}, is_first=True) == {"epochs": 1}


def test_the_first_rung_climbs_the_cheap_ones_too_and_later_ones_keep_the_head() -> None:
    recipe = whole(rungs=["centroid", "probe", "top", "lora", "full"], sufficient=0.9)
    first = recipe_of("top", recipe, is_first=True)
    assert first == {**recipe, "rungs": ["centroid", "probe", "top"]}
    lora = recipe_of("lora", recipe, is_first=False)
    assert (lora["rungs"], lora["head"], lora["sufficient"]) == (["top"], "keep", None)
    assert (lora["trainable_layers"], lora["lora_rank"]) == (None, LORA_RANK)
    full = recipe_of("full", {**recipe, "lora_rank": 4}, is_first=False)
    assert (full["trainable_layers"], full["lora_rank"]) == (None, 0)
    assert recipe_of("lora", {**recipe, "lora_rank": 4}, is_first=False)["lora_rank"] == 4


def test_a_recipe_that_trains_nothing_stays_so() -> None:
    recipe = whole(rungs=["centroid", "probe"])
    assert recipe_of("top", recipe, is_first=True) == recipe
