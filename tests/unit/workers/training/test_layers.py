"""Layers are set up for a run without changing what is saved."""

import copy

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from workers.training.device import Device
from workers.training.layers import narrow_stream, prepare_attention, set_dropout

CONFIG = BertConfig(
    vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
)


class Attending(nn.Module):
    """Keeps its share as a number, as decoders do."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_dropout = 0.1


def test_dropout_is_set_wherever_an_architecture_drops_units_and_left_alone_without_a_wish() -> (
    None
):
    model = nn.Sequential(BertForSequenceClassification(CONFIG), Attending())
    set_dropout(model, None)
    assert {module.p for module in model.modules() if isinstance(module, nn.Dropout)} == {0.1}
    set_dropout(model, 0.0)
    assert {module.p for module in model.modules() if isinstance(module, nn.Dropout)} == {0.0}
    assert model[1].attention_dropout == 0.0


@pytest.mark.parametrize(("precision", "way"), [("bf16", "eager"), ("fp32", "sdpa")])
def test_attention_is_computed_as_it_is_fastest_learned_and_says_the_same(
    precision: str, way: str
) -> None:
    model = BertForSequenceClassification(copy.deepcopy(CONFIG)).eval()
    before = model.config.to_dict()
    ids = torch.arange(12).reshape(2, 6)
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    with torch.inference_mode():
        said = model(input_ids=ids, attention_mask=mask).logits
        prepare_attention(model, Device("cpu", 1, precision))
        again = model(input_ids=ids, attention_mask=mask).logits
    assert model.config._attn_implementation == way
    assert model.config.to_dict() == before
    torch.testing.assert_close(said, again)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_what_flows_between_layers_is_narrow_where_products_are_and_only_there(
    precision: str,
) -> None:
    model = BertForSequenceClassification(copy.deepcopy(CONFIG)).eval()
    narrow_stream(model, Device("cpu", 1, precision))
    kinds: list[torch.dtype] = []
    for layer in model.bert.encoder.layer:
        layer.register_forward_hook(lambda _, given, found: kinds.append(found.dtype))
    ids = torch.arange(12).reshape(2, 6)
    with torch.inference_mode():
        wide = model(input_ids=ids).logits
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            said = model(input_ids=ids).logits
    narrow = torch.bfloat16 if precision == "bf16" else torch.float32
    assert kinds == [torch.float32, torch.float32, narrow, narrow]
    torch.testing.assert_close(said.float(), wide, atol=0.02, rtol=0.02)
