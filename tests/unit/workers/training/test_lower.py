"""Skipping frozen layers changes neither what a model says nor what it learns."""

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification

from workers.training.layers import choose_trainable
from workers.training.lower import LowerLayers, RowStates

LENGTHS = np.asarray([3, 5, 2, 5])


def model() -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=20,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=3,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    made = BertForSequenceClassification(config)
    choose_trainable(made, 3, 1)
    return made


def batch() -> dict[str, torch.Tensor]:
    mask = (np.arange(5)[None] < LENGTHS[:, None]).astype(np.int64)
    ids = np.random.default_rng(0).integers(1, 20, (4, 5)) * mask
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


def gradients(network: BertForSequenceClassification) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def test_the_gradient_is_the_same_with_the_lower_layers_skipped() -> None:
    network, truth = model(), torch.tensor([0, 1, 2, 0])
    lower = LowerLayers(network, 1)
    states, rows = RowStates(LENGTHS), np.arange(4)
    whole = network(**batch()).logits
    states.keep(rows, lower.taken)
    torch.nn.functional.cross_entropy(whole, truth).backward()
    wanted = gradients(network)
    network.zero_grad()
    assert states.is_full
    with lower.skipped(states.batch(rows)):
        short = network(**batch()).logits
    torch.nn.functional.cross_entropy(short, truth).backward()
    found = gradients(network)
    assert torch.allclose(whole, short, atol=1e-6)
    assert found.keys() == wanted.keys()
    assert all(torch.allclose(found[name], wanted[name], atol=1e-6) for name in found)


def test_the_layers_are_back_after_being_skipped() -> None:
    network = model().eval()
    lower = LowerLayers(network, 1)
    before = network(**batch()).logits
    with lower.skipped(torch.zeros(4, 5, 16)):
        network(**batch())
    assert torch.equal(network(**batch()).logits, before)
