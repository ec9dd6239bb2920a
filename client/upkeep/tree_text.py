"""Is the text of a LightGBM model whole, so that it can be read and asked without harm?

LightGBM trusts its own files: a child that is no node, a feature that is no column or a size that
is wrong is read beyond its arrays, or followed for ever. So everything that it follows is looked at
before it sees the text. The format is version 4 of `GBDT::SaveModelToString`.
"""

import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

END: Final = "end of trees"
OF_CLASSES: Final = ("binary", "multiclass")
OF_NUMBERS: Final = (
    "regression",
    "regression_l1",
    "huber",
    "fair",
    "quantile",
    "mape",
    "poisson",
    "gamma",
    "tweedie",
)
MOST_LEAVES: Final = 1 << 17
_FIRST: Final = re.compile(r"^Tree=0$", re.MULTILINE)
_PER_SPLIT: Final = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
_PER_SPLIT_TOO: Final = ("split_gain", "internal_value", "internal_weight", "internal_count")
_PER_LEAF: Final = ("leaf_value", "leaf_weight", "leaf_count")
_CATEGORICAL: Final = 1
"""Bit of a decision type."""


def check_tree_text(text: str, objectives: Sequence[str] = OF_CLASSES) -> None:
    """Refuse a text that is no whole LightGBM model of plain trees.

    Args:
        text: of model.txt.
        objectives: those it may have been grown for.

    Raises:
        ValueError: says what is wrong with it.
    """
    first = _FIRST.search(text)
    end = text.find(f"\n{END}\n")
    if not text.startswith("tree\n") or first is None or end < first.start():
        raise ValueError("it does not begin and end as a LightGBM text model does; save it anew")
    header = _fields(text[: first.start()])
    n_features = _count(header, "max_feature_idx") + 1
    n_each = _count(header, "num_tree_per_iteration")
    objective = header.get("objective", "").split(" ")[0]
    if objective not in objectives:
        *others, last = objectives
        known = f"{', '.join(others)} and {last}"
        raise ValueError(f"its objective is {objective or 'not said'}; {known} are answered")
    if n_each < 1 or n_each != _count(header, "num_class"):
        raise ValueError("it grows another number of trees a round than it has classes")
    for name in ("feature_names", "feature_infos"):
        if len(header.get(name, "").split()) != n_features:
            raise ValueError(f"its {name} are not {n_features}, as max_feature_idx says")
    blocks = _blocks(text[first.start() : end + 1], header.get("tree_sizes"))
    if len(blocks) % n_each:
        raise ValueError(f"its {len(blocks)} trees are no whole number of rounds of {n_each}")
    for place, block in enumerate(blocks):
        try:
            _check_tree(_fields(block), n_features)
        except ValueError as error:
            raise ValueError(f"tree {place}: {error}") from error


def _fields(block: str) -> dict[str, str]:
    """Return the `name=value` lines of a block.

    Raises:
        ValueError: a name occurs twice.
    """
    pairs = [line.partition("=") for line in block.splitlines() if "=" in line]
    found = {name: value for name, _, value in pairs}
    if len(found) < len(pairs):
        raise ValueError("it says something twice")
    return found


def _count(fields: Mapping[str, str], name: str) -> int:
    value = fields.get(name, "")
    if not re.fullmatch(r"\d{1,9}", value):
        raise ValueError(f"its {name} is {value!r}, no count")
    return int(value)


def _blocks(text: str, sizes: str | None) -> list[str]:
    """Return the text of each tree; their stated sizes must be right, for they are trusted."""
    starts = [found.start() for found in re.finditer(r"^Tree=\d+$", text, re.MULTILINE)]
    bounds = [*starts, len(text)]
    blocks = [text[start:stop] for start, stop in pairwise(bounds)]
    for place, block in enumerate(blocks):
        if not block.startswith(f"Tree={place}\n"):
            raise ValueError("its trees are not numbered in their order")
    if sizes is not None and sizes.split() != [str(len(block.encode())) for block in blocks]:
        raise ValueError("the sizes that it states of its trees are not theirs")
    return blocks


def _check_tree(fields: Mapping[str, str], n_features: int) -> None:
    n_leaves, n_categories = _count(fields, "num_leaves"), _count(fields, "num_cat")
    if not 1 <= n_leaves <= MOST_LEAVES:
        raise ValueError(f"it has {n_leaves} leaves; 1 to {MOST_LEAVES} are read")
    if fields.get("is_linear", "0") != "0":
        raise ValueError("its leaves are linear models; plain ones are answered")
    n_splits = n_leaves - 1
    numbers = {
        name: _numbers(fields, name, n, is_needed=name in {*_PER_SPLIT, "leaf_value"})
        for names, n in ((_PER_SPLIT + _PER_SPLIT_TOO, n_splits), (_PER_LEAF, n_leaves))
        for name in names
    }
    if not n_splits:
        return
    features = _whole(numbers["split_feature"], "split_feature")
    if features.min() < 0 or features.max() >= n_features:
        raise ValueError(f"it splits by a feature that is none of the {n_features}")
    children = np.concatenate([numbers["left_child"], numbers["right_child"]])
    _check_shape(_whole(children, "child"), n_splits, n_leaves)
    kinds = _whole(numbers["decision_type"], "decision_type")
    by_category = numbers["threshold"][(kinds & _CATEGORICAL) > 0]
    _check_categories(fields, _whole(by_category, "threshold"), n_categories)


def _check_shape(children: NDArray[np.int64], n_splits: int, n_leaves: int) -> None:
    """Refuse children that are not each node but the first, and each leaf, exactly once.

    A node's number must be above its parent's, as LightGBM grows them: then no way is endless.
    """
    parents = np.tile(np.arange(n_splits), 2)
    is_node = children >= 0
    wanted = np.concatenate([np.arange(1, n_splits), ~np.arange(n_leaves)])
    if not np.array_equal(np.sort(children), np.sort(wanted)):
        raise ValueError("its children are not each of its nodes and leaves once")
    if (children[is_node] <= parents[is_node]).any():
        raise ValueError("a node comes before its parent")


def _check_categories(
    fields: Mapping[str, str], thresholds: NDArray[np.int64], n_categories: int
) -> None:
    if not len(thresholds) and not n_categories:
        return
    bounds = _whole(_numbers(fields, "cat_boundaries", n_categories + 1), "cat_boundaries")
    if bounds[0] != 0 or (np.diff(bounds) < 0).any():
        raise ValueError("its cat_boundaries do not rise from 0")
    _whole(_numbers(fields, "cat_threshold", int(bounds[-1])), "cat_threshold")
    if len(thresholds) and (thresholds.min() < 0 or thresholds.max() >= n_categories):
        raise ValueError(f"it splits by a set of categories that is none of the {n_categories}")


def _numbers(
    fields: Mapping[str, str], name: str, n: int, *, is_needed: bool = True
) -> NDArray[np.float64]:
    """Return the n numbers of a field, shape (n,)."""
    words: Sequence[Any] = fields.get(name, "").split()
    if not words and not is_needed:
        return np.empty(0)
    if len(words) != n:
        raise ValueError(f"its {name} has {len(words)} numbers, not {n}")
    try:
        found = np.array(words, dtype=np.float64)
    except ValueError as error:
        raise ValueError(f"its {name} has something that is no number") from error
    is_endless = name == "threshold" and not np.isnan(found).any()  # what is missing goes apart
    if not (np.isfinite(found).all() or is_endless):
        raise ValueError(f"its {name} has a number that is not finite")
    return found


def _whole(values: NDArray[np.float64], name: str) -> NDArray[np.int64]:
    if len(values) and (np.abs(values).max() > math.ldexp(1, 53) or (values % 1).any()):
        raise ValueError(f"its {name} has a number that is not whole")
    return values.astype(np.int64)
