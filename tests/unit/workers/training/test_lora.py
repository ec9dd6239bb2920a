"""Narrow matrices beside large layers: nothing at first, then added to what they stand beside."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    BertConfig,
    GPT2Config,
    ResNetConfig,
    ViTConfig,
)

from workers.training import lora
from workers.training.layers import choose_trainable

BERT = BertConfig(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    vocab_size=20,
    num_labels=3,
)
VIT = ViTConfig(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    image_size=8,
    patch_size=4,
    num_labels=3,
)
RESNET = ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], num_labels=3)
GPT2 = GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=16, vocab_size=20)


def bert():
    return AutoModelForSequenceClassification.from_config(BERT).eval()


def gpt2():
    return AutoModelForCausalLM.from_config(GPT2).eval()


@pytest.mark.parametrize("made", [bert, gpt2])
def test_what_is_added_to_the_layers_says_what_the_matrices_said(made) -> None:
    torch.manual_seed(0)
    model, ids = made(), torch.arange(8).reshape(1, 8)
    with torch.no_grad():
        before = model(ids).logits
        assert lora.adapt(model, 4) > 4
        assert torch.equal(model(ids).logits, before)
        for name, parameter in model.named_parameters():
            if name.endswith(lora.UP):
                parameter.normal_(std=0.1)
        beside = model(ids).logits
        lora.merge(model)
        merged = model(ids).logits
    assert not torch.allclose(beside, before, atol=1e-3)
    assert torch.allclose(merged, beside, atol=1e-5)
    assert set(model.state_dict()) == set(made().state_dict())


def test_matrices_and_a_head_of_its_own_learn_and_nothing_else() -> None:
    model = bert()
    choose_trainable(model, 3, 1)
    lora.adapt(model, 4)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {"classifier.weight", "classifier.bias"} < learning
    others = {name for name in learning if not name.startswith("classifier.")}
    assert all(name.endswith((lora.DOWN, lora.UP)) for name in others)
    assert not [name for name in others if ".layer.0." in name]  # frozen as before


def test_a_head_that_is_the_embedding_of_tokens_does_not_learn() -> None:
    model = gpt2()
    lora.adapt(model, 4)
    assert not model.get_output_embeddings().weight.requires_grad
    assert len([p for p in model.parameters() if p.requires_grad]) == 2 * 2 * 4


def test_models_that_embed_no_tokens_have_layers_to_stand_beside_or_none() -> None:
    vit, resnet = map(AutoModelForImageClassification.from_config, (VIT, RESNET))
    assert lora.adapt(vit, 4) == 2 * 6
    assert lora.adapt(resnet, 4) == 0  # its layers but the head are no linear ones
