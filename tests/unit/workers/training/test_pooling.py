"""A layer on top of an encoder that means its tokens."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
)

from workers.training import pooling
from workers.training.layers import choose_trainable, pooling_of, stack_of

SIZES = {
    "vocab_size": 20,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 12,
}


@pytest.fixture
def model() -> BertForSequenceClassification:
    torch.manual_seed(0)
    made = BertForSequenceClassification(BertConfig(**SIZES, num_labels=3)).eval()
    assert pooling.add_pooling(made, made.bert.encoder.layer)
    return made


def batch() -> dict[str, torch.Tensor]:
    ids = torch.tensor([[2, 7, 9, 3, 0, 0], [2, 5, 3, 0, 0, 0], [2, 8, 11, 4, 6, 3]])
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


def standard(values: torch.Tensor) -> torch.Tensor:
    return (values - values.mean(1, keepdim=True)) / values.std(1, correction=0, keepdim=True)


def test_the_first_position_of_the_new_layer_is_the_mean_of_the_tokens_that_count(model) -> None:
    given = batch()
    with torch.no_grad():
        hidden = model.bert(**given, output_hidden_states=True).hidden_states
    weights = given["attention_mask"].unsqueeze(2)
    mean = (hidden[-2] * weights).sum(1) / weights.sum(1)
    assert torch.allclose(hidden[-1][:, 0], standard(mean), atol=2e-2)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_short_way_says_what_plain_transformers_says(model, tmp_path, attention) -> None:
    model.save_pretrained(tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert plain.config.num_hidden_layers == 3
    model.set_attn_implementation(attention)
    pooling.shorten(pooling_of(model))
    whole = batch()
    for given in (whole, {name: value[:, :3] for name, value in whole.items()}):
        with torch.no_grad():
            said, expected = model(**given).logits, plain(**given).logits
        assert torch.allclose(said, expected, atol=1e-5)


def test_the_short_way_is_exact_in_bf16_too(model) -> None:
    given = batch()
    with torch.no_grad():
        expected = model(**given).logits
        pooling.shorten(pooling_of(model))
        with torch.autocast("cpu", torch.bfloat16):
            said = model(**given).logits
    assert torch.allclose(said.float(), expected, atol=2e-2)


def test_a_pooling_layer_is_no_layer_that_learns(model) -> None:
    stack = stack_of(model)
    assert stack is not None
    assert len(stack[1]) == 2
    for n_layers in (None, 1):
        choose_trainable(model, 3, n_layers)
        assert not any(p.requires_grad for p in pooling_of(model).parameters())
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {"encoder.layer.1" in name for name in learning if "encoder" in name} == {True}
    assert any("pooler" in name for name in learning)


def test_an_encoder_of_another_build_is_left_as_it_is() -> None:
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8
    )
    model = ViTForImageClassification(config)
    stack = stack_of(model)
    assert stack is not None
    assert not pooling.add_pooling(model, model.get_submodule(stack[0]))
    assert model.config.num_hidden_layers == 2
    assert pooling_of(model) is None


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"pooling_mode_mean_tokens": True}, True),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}, False),
        (["pooling_mode_mean_tokens"], False),
        (None, False),
    ],
)
def test_a_base_says_itself_whether_it_means_its_tokens(
    tmp_path: Path, written: object, expected: bool
) -> None:
    (tmp_path / "1_Pooling").mkdir()
    if written is not None:
        (tmp_path / pooling.POOLING).write_text(json.dumps(written))
    assert pooling.wants_mean(str(tmp_path), is_local=True) is expected


def test_half_a_file_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / pooling.POOLING).write_text('{"pooling_mode')
    assert pooling.wants_mean(str(tmp_path), is_local=True) is False


def test_weights_that_learned_are_no_pooling(model) -> None:
    with torch.no_grad():
        pooling_of(model).attention.self.query.weight[0, 0] = 1e-6
    assert pooling_of(model) is None
    assert np.isfinite(model(**batch()).logits.detach().numpy()).all()
