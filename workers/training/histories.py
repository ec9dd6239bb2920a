"""How much of history do trees learn from, and on which trees? What is tried, and what is taken."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from workers.training.errors import RecipeError

OLDEST: Final = 6.0
"""Age beyond which fading rows are left out; there they would count for less than 1/64."""
FRESH, CONTINUE = "fresh", "continue"
ALL, FADING, NEWEST = "all", "fading", "newest"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to learn: from which trees, and how much older rows count."""

    trees: str
    history: str


def ages(n_rows: int, n_newest: int) -> NDArray[np.float64]:
    """Return how old rows are, shape (n,), in sets as large as the newest, whose age is 0."""
    behind = np.arange(n_rows - n_newest, 0, -1, dtype=np.float64)
    return np.concatenate([behind / max(1, n_newest), np.zeros(n_newest)])


def even_ages(n_rows: int, n_each: float) -> NDArray[np.float64]:
    """Return how old rows are, shape (n,), in sets of so many rows; the last is of age 0."""
    return np.arange(n_rows - 1, -1, -1, dtype=np.float64) / n_each


def history_weights(history: str, old: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what rows of these ages count for: all 1, half for each unit of age, newest alone."""
    if history == ALL:
        return np.ones(len(old))
    if history == FADING:
        return np.asarray(np.where(old <= OLDEST, 0.5 ** np.minimum(old, OLDEST), 0.0))
    return np.where(old == 0, 1.0, 0.0)


def candidates(
    recipe: Mapping[str, Any], *, can_continue: bool, has_history: bool
) -> list[Candidate]:
    """Return the ways to learn that a recipe allows, those with the most history first.

    Left to choose, older rows are not shown once more to trees that have learned from them. Where
    all rows are new, they may fade by `fading_rows` alone.

    Raises:
        RecipeError: it wants to continue trees that are not there.
    """
    trees, history = str(recipe["trees"]), str(recipe["history"])
    if trees == CONTINUE and not can_continue:
        raise RecipeError("there are no trees to continue; start from a champion, or take 'fresh'")
    known = [FRESH, CONTINUE] if can_continue else [FRESH]
    kinds = known if trees == "auto" else [trees]
    if not int(recipe["rounds"]):
        kinds = [kind for kind in kinds if kind == CONTINUE]
    if not kinds:
        raise RecipeError("0 rounds of fresh trees learn nothing; allow some, or take 'continue'")
    past = [ALL, FADING, NEWEST] if history == "auto" else [history]
    if not has_history:
        may_fade = FADING in past and recipe["fading_rows"] is not None
        past = [one for one in past if one == ALL or (may_fade and one == FADING)] or [ALL]
    return [
        Candidate(kind, one)
        for kind in kinds
        for one in past
        if kind == FRESH or one == past[-1] or trees == CONTINUE
    ]


def can_be_continued(text: str, objective: str) -> bool:
    """Return whether more trees can be added: to a sum of them, for the objective that is ours."""
    lines = text[: text.find("Tree=0")].splitlines()
    return f"objective={objective}" in lines and "average_output" not in lines


def least_forgetful(losses: Sequence[NDArray[np.float64]]) -> int:
    """Return the first of candidates that is not clearly worse than the best.

    Clearly is by more than one standard error of the paired difference.

    Args:
        losses: of each candidate on the same rows, shape (n,).
    """
    best = min(losses, key=lambda one: float(one.mean()))
    for place, one in enumerate(losses):
        excess = one - best
        error = float(excess.std(ddof=1)) / math.sqrt(len(excess)) if len(excess) > 1 else 0.0
        if float(excess.mean()) <= error:
            return place
    return 0
