"""Texts are tagged by their tokens: where those are, what is cut, and what is no such version."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from app.domain.spans import Reading, Span, written
from tests.contract.test_task_types import CASES, marked, text_base, text_inputs, train
from workers.task_types.token_classification import TokenClassification
from workers.training.data import Rows
from workers.training.errors import RecipeError
from workers.training.lower import lower_layers

KIND = TokenClassification()
CASE = CASES["token-classification"]
NAME = "token-classification"


@pytest.fixture
def version(tmp_path: Path) -> Path:
    base = text_base(tmp_path / "base")
    KIND.create(str(base), ["cold", "warm"], tmp_path / "version", seed=0)
    return tmp_path / "version"


def rows_of(*pairs: tuple[str, Reading]) -> Rows:
    return Rows(
        [str(n) for n in range(len(pairs))],
        [{"text": text} for text, _ in pairs],
        [written(spans) for _, spans in pairs],
    )


def test_tokens_know_their_characters_whatever_those_are(version: Path) -> None:
    text = "😀 snow\n  ÍCE is"
    examples = KIND.open(version).encode([{"text": text}, {"text": ""}])
    places = examples.places(0).tolist()
    assert [text[start:end] for start, end in places] == ["", "😀", "snow", "ÍCE", "is", ""]
    assert examples.lengths.tolist() == [6, 2]


def test_spans_beyond_the_cut_of_a_long_text_are_counted_and_those_before_are_learned(
    version: Path,
) -> None:
    long = "the " * 40 + "snow ice"
    learner = KIND.open(version)
    rows = rows_of((long, (Span(0, 3, "cold"), Span(160, 168, "cold"))), ("ice", ()))
    examples = learner.encode(rows.inputs)
    targets = learner.targets(examples, rows)
    assert int(examples.lengths.max()) == 32
    told = targets.figures["spans"]
    assert told == {"n_spans": 2, "n_beyond": 1, "n_inexact": 0, "n_texts_cut": 1}
    assert targets.counts(5).tolist() == [30, 1, 0, 0, 0]


def test_frozen_layers_are_run_once_for_tokens_too(version: Path) -> None:
    learner = KIND.open(version)
    recipe = {"trainable_layers": 1, "lora_rank": 0}
    learner.choose_trainable(recipe)
    examples = learner.encode(text_inputs(["cold", "warm", "cold", "mild"]))
    assert len(set(examples.lengths.tolist())) > 1
    assert lower_layers(learner, recipe, examples) is not None


def test_a_batch_in_parts_teaches_the_same(tmp_path: Path) -> None:
    recipe = {"dropout": 0.0, "class_weight_power": 0.5, "token_budget": 128, "epochs": 1}
    files = []
    for parts in (1, 3):
        output, _ = train(NAME, CASE, tmp_path / str(parts), accumulation=parts, **recipe)
        files.append(load_file(output / "model.safetensors"))
    whole, cut = files
    # The gradient of a key's bias is nothing but rounding, which Adam makes steps of.
    names = [name for name in whole if not name.endswith("key.bias")]
    assert max(float(np.abs(whole[name] - cut[name]).max()) for name in names) < 1e-4


def test_a_text_without_tokens_has_no_spans_and_the_others_are_as_if_alone(version: Path) -> None:
    tagger = KIND.load(version)
    inputs = [{"text": ""}, {"text": "snow ice"}, {"text": " \n"}, {"text": "the sun is so very"}]
    together = tagger.tagged(inputs)
    assert [together[place].spans for place in (0, 2)] == [(), ()]
    assert [together[place].confidence for place in (0, 2)] == [1.0, 1.0]
    for place in (1, 3):
        (alone,) = tagger.tagged([inputs[place]])
        assert alone.spans == together[place].spans
        assert alone.confidence == pytest.approx(together[place].confidence, abs=1e-6)
        assert np.allclose(alone.features, together[place].features, atol=1e-6)
    assert tagger.features(inputs).shape == (4, 16)
    assert tagger.features([]).shape == (0, 0)


def test_the_loss_of_tokens_is_that_of_their_true_tags(version: Path) -> None:
    torch.manual_seed(0)
    tagger, text = KIND.load(version), "the snow ice"
    (said,) = tagger.tagged([{"text": text}], [marked(text)])
    (other,) = tagger.tagged([{"text": text}], [()])
    assert said.n_tokens == other.n_tokens == 3
    assert 0 < said.loss < 30
    assert said.loss != other.loss
    assert tagger.tagged([{"text": text}])[0].n_tokens == 0


def test_a_version_of_other_tags_is_refused(version: Path) -> None:
    config = json.loads((version / "config.json").read_text())
    config["id2label"] = {str(n): name for n, name in enumerate(["O", "a", "b", "c", "d"])}
    config["label2id"] = {name: int(n) for n, name in config["id2label"].items()}
    (version / "config.json").write_text(json.dumps(config))
    with pytest.raises(RecipeError, match="spans are told by O, and B-x and I-x of each label"):
        KIND.load(version)


def test_a_plain_directory_is_read_by_its_tags_in_their_order(version: Path) -> None:
    (version / "upkeep.json").unlink()
    assert KIND.open(version).labels == ("cold", "warm")
    assert KIND.open(version).outputs == ("O", "B-cold", "I-cold", "B-warm", "I-warm")
