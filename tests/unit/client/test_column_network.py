"""A network over columns is whole, or it is refused before anything is answered."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from upkeep.column_network import Network, Sizes, shown
from upkeep.tables import Column

COLUMNS = (
    Column("x", "number", center=1.0, scale=2.0, knots=(0.0, 1.0, 3.0)),
    Column("kind", "category", ("a", "b")),
    Column("y", "number"),
    Column("paid", "boolean"),
)
SIZES = Sizes(embedding_size=3, n_bins=4, hidden_sizes=(5,))


@pytest.fixture
def version(tmp_path: Path) -> Path:
    network = Network.drawn(("no", "yes"), COLUMNS, SIZES, seed=0)
    save_file(network.model.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(network.document()))
    return tmp_path


def test_a_number_fills_the_bins_below_it_and_a_missing_one_fills_none():
    table = np.array([[2.0, 1.0, np.nan, 1.0], [-1e300, np.nan, 5.0, np.nan]])
    numbers, places = shown(COLUMNS, 4, table)
    assert numbers[0].tolist() == [[0.5, 1.0, 0.5, 0.0, 0.0, 0.0], [0.0] * 5 + [1.0]]
    assert numbers[1].tolist() == [[-5.0, 0.0, 0.0, 0.0, 0.0, 0.0], [5.0] + [0.0] * 5]
    assert places.tolist() == [[2, 5], [0, 3]]


def test_a_version_read_back_answers_as_the_one_written(version):
    drawn = Network.drawn(("no", "yes"), COLUMNS, SIZES, seed=0)
    drawn.model.eval()
    inputs = [{"x": 0.3, "kind": "b", "paid": False}, {}]
    assert np.array_equal(Network.read(version).scores(inputs), drawn.scores(inputs))


def test_answers_do_not_hang_on_how_many_are_asked_for_at_once(version):
    network = Network.read(version)
    inputs = [{"x": float(x)} for x in np.linspace(-3, 3, 1100)]
    alone = np.concatenate([network.scores([one]) for one in inputs[:20] + inputs[-20:]])
    together = network.scores(inputs)
    assert np.allclose(alone, np.concatenate([together[:20], together[-20:]]), atol=1e-6)


@pytest.mark.parametrize("columns", [COLUMNS, COLUMNS[:1], COLUMNS[1:2]])
def test_the_documented_lines_answer_as_the_version_does(tmp_path, columns):
    network = Network.drawn(("no", "yes"), columns, SIZES, seed=0)
    network.model.eval()
    with torch.no_grad():
        for weights in network.model.parameters():
            weights.normal_()
    save_file(network.model.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(network.document()))
    page = (Path(__file__).parents[3] / "docs" / "tabular.md").read_text()
    lines = page.partition("<!-- loads a network -->\n```python\n")[2].partition("```")[0]
    known: dict[str, Any] = {}
    exec(lines, known)
    inputs = [{"x": 2.5, "kind": "b", "y": -1e300, "paid": False}, {"kind": "new"}, {}]
    plain = [known["logits"](tmp_path, one).softmax(0).tolist() for one in inputs]
    assert np.allclose(network.scores(inputs), plain, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_sizes": [6]}, "does not hold this network"),
        ({"hidden_sizes": [10**9]}, "whole numbers above 0"),
        ({"hidden_sizes": [65_536, 65_536, 65_536]}, "does not hold this network"),
        ({"embedding_size": True}, "whole numbers above 0"),
        ({"dropout": 1.0}, "dropout"),
        ({"n_bins": 1}, "more knots"),
        ({"columns": [{"name": "x", "type": "number", "knots": [1.0, 1.0]}]}, "must ascend"),
        ({"columns": [{"name": "x", "type": "number", "knots": ["1"]}]}, "finite numbers"),
        ({"columns": [{"name": "x", "type": "number"}]}, "does not hold this network"),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, "does not hold this network"),
    ],
)
def test_a_config_that_does_not_fit_the_weights_is_refused(version, changes, said):
    config = json.loads((version / "config.json").read_text())
    (version / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(ValueError, match=said):
        Network.read(version)


@pytest.mark.parametrize("target", [None, {"center": 0.0, "scale": 0.0}, {"center": float("nan")}])
def test_numbers_need_the_unit_they_are_counted_in(version, target):
    config = json.loads((version / "config.json").read_text())
    (version / "config.json").write_text(json.dumps(config | {"target": target}))
    with pytest.raises(ValueError, match="counts numbers in"):
        Network.read(version, has_labels=False)


def test_weights_that_are_no_numbers_are_refused(version):
    tensors = load_file(version / "model.safetensors")
    tensors["head.bias"][0] = torch.nan
    save_file(tensors, version / "model.safetensors")
    with pytest.raises(ValueError, match="no numbers"):
        Network.read(version)


@pytest.mark.parametrize("content", [None, b"", b"no safetensors"])
def test_a_file_that_is_no_safetensors_is_refused(version, content):
    path = version / "model.safetensors"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ValueError, match="does not hold this network"):
        Network.read(version)


def test_a_new_category_is_answered_as_a_missing_one_until_it_is_learned(version):
    network = Network.read(version)
    with torch.no_grad():
        network.model.categories.weight.normal_()
    before = network.scores([{"kind": "a"}, {}, {"paid": True}])
    grown = network.with_columns(
        (COLUMNS[0], Column("kind", "category", ("a", "b", "c")), *COLUMNS[2:])
    )
    after = grown.scores([{"kind": "a"}, {"kind": "c"}, {"paid": True}])
    assert np.array_equal(before, after)
