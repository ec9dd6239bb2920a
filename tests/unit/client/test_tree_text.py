"""A LightGBM text model is whole, or it is refused before LightGBM sees it."""

import lightgbm
import numpy as np
import pytest

from upkeep.tables import Column
from upkeep.tree_text import check_tree_text
from upkeep.trees import Trees

N = 400


def grown(n_classes: int = 2, rounds: int = 4, **more) -> str:
    draw = np.random.default_rng(0)
    table = np.column_stack([draw.normal(size=N), draw.integers(0, 40, N)])
    table[draw.random((N, 2)) < 0.1] = np.nan
    truth = (np.nan_to_num(table).sum(axis=1) // 3).astype(int) % n_classes
    settings = {"objective": "binary", "verbosity": -1, "num_threads": 1, "num_leaves": 6}
    if n_classes > 2:
        settings |= {"objective": "multiclass", "num_class": n_classes}
    data = lightgbm.Dataset(table, truth, categorical_feature=[1])
    return lightgbm.train(settings | more, data, rounds).model_to_string()


@pytest.fixture(scope="module")
def text() -> str:
    return grown()


@pytest.mark.parametrize("n_classes", [2, 3])
def test_what_lightgbm_writes_is_whole(n_classes):
    check_tree_text(grown(n_classes))


def test_trees_that_found_nothing_to_split_are_whole():
    check_tree_text(grown(min_data_in_leaf=N))


def line_of(text: str, name: str, block: int = 0) -> str:
    start = text.index(f"Tree={block}\n")
    at = text.index(f"\n{name}=", start) + 1
    return text[at : text.index("\n", at)]


def changed(text: str, name: str, change) -> str:
    """Change the numbers of a line of the first tree, and state the sizes anew."""
    line = line_of(text, name)
    words = line.partition("=")[2].split()
    new = f"{name}={' '.join(map(str, change(words)))}"
    start = text.index("Tree=0\n")
    head, trees = text[:start], text[start:].replace(line, new, 1)
    sizes = head[head.index("tree_sizes=") :].splitlines()[0]
    first, *rest = sizes.partition("=")[2].split()
    first = int(first) + len(new) - len(line)
    return head.replace(sizes, f"tree_sizes={' '.join([str(first), *rest])}") + trees


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("left_child", lambda words: ["0", *words[1:]], "once"),
        ("right_child", lambda words: ["999", *words[1:]], "once"),
        ("left_child", lambda words: words[:-1], "numbers, not"),
        ("split_feature", lambda words: ["2", *words[1:]], "none of the 2"),
        ("split_feature", lambda words: ["-1", *words[1:]], "none of the 2"),
        ("threshold", lambda words: ["nan"] * len(words), "not finite"),
        ("leaf_value", lambda words: ["inf", *words[1:]], "not finite"),
        ("leaf_value", lambda words: ["x", *words[1:]], "no number"),
        ("decision_type", lambda words: ["1"] * len(words), "categories|whole"),
        ("num_leaves", lambda _: ["999999999"], "leaves"),
        ("num_cat", lambda _: ["7"], "cat_boundaries"),
        ("cat_boundaries", lambda words: [words[0], "9", *words[2:]], "cat_"),
        ("is_linear", lambda _: ["1"], "linear"),
    ],
)
def test_a_tree_that_leads_astray_is_refused(text, name, change, said):
    with pytest.raises(ValueError, match=said):
        check_tree_text(changed(text, name, change))


def test_a_way_that_never_ends_is_refused():
    text = grown(rounds=1)
    n = len(line_of(text, "left_child").partition("=")[2].split())
    assert n == 5
    leaves = [str(~place) for place in range(n + 1)]
    # nodes 1 and 2 are each other's children; every node and leaf still occurs once
    broken = changed(text, "left_child", lambda _: ["3", "2", "1", "4", leaves[0]])
    broken = changed(broken, "right_child", lambda _: leaves[1:])
    with pytest.raises(ValueError, match="before its parent"):
        check_tree_text(broken)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("tree\n", "forest\n", "begin and end"),
        ("end of trees", "end", "begin and end"),
        ("tree_sizes=", "tree_sizes=1 ", "sizes"),
        ("Tree=1\n", "Tree=7\n", "order"),
        ("objective=binary", "objective=regression", "regression"),
        ("max_feature_idx=1", "max_feature_idx=5", "feature_names"),
        ("max_feature_idx=1", "max_feature_idx=-1", "no count"),
        ("num_class=1", "num_class=3", "classes"),
    ],
)
def test_a_text_that_contradicts_itself_is_refused(text, before, after, said):
    assert before in text
    with pytest.raises(ValueError, match=said):
        check_tree_text(text.replace(before, after, 1))


def test_a_text_that_was_cut_anywhere_is_refused(text):
    end = text.index("end of trees") + len("end of trees")
    for at in np.linspace(0, end, 60).astype(int).tolist():
        with pytest.raises(ValueError, match=r"LightGBM|tree|its"):
            check_tree_text(text[:at])


def test_trees_that_do_not_fit_their_columns_or_classes_are_refused(text):
    columns = [Column("a", "number"), Column("b", "category", ("x",))]
    assert Trees(text, ("no", "yes"), columns).scores([{"a": 1.0}]).shape == (1, 2)
    with pytest.raises(ValueError, match="1 scores a row; 3 labels need 3"):
        Trees(text, ("no", "yes", "maybe"), columns)
    with pytest.raises(ValueError, match=r"reads 2 features and config\.json names 1"):
        Trees(text, ("no", "yes"), columns[:1])


def test_columns_in_another_order_than_the_trees_are_refused():
    named = grown().replace("feature_names=Column_0 Column_1", "feature_names=a b")
    columns = [Column("b", "category", ("x",)), Column("a", "number")]
    with pytest.raises(ValueError, match="in the order a, b"):
        Trees(named, ("no", "yes"), columns)
