"""How can a classifier that reads its first token alone read the mean of all tokens?

An encoder trained to give sentence embeddings means the average of its tokens; its first token has
learned little. A classifier of transformers reads that first token all the same. One more layer
mends this, and plain transformers computes it like any other: its queries and keys are zero, so
that every token attends to all tokens alike, its value is what it reads, many times over, so that
the token's own state is lost beside it, and its feed-forward part adds nothing. What is left in
each position is the mean, scaled to unit variance.
"""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.utils import cached_file

GAIN = 1024.0
"""How much the mean outweighs the token's own state; a power of two is exact in every precision."""
POOLING = "1_Pooling/config.json"


def wants_mean(base_model: str, *, is_local: bool) -> bool:
    """Return whether a base says, as sentence-transformers writes it, that it means its tokens.

    Args:
        base_model: a local directory or a hub id.
        is_local: look at no hub.
    """
    found = cached_file(
        base_model,
        POOLING,
        local_files_only=is_local,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if found is None:
        return False
    try:
        said = json.loads(Path(found).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(said, dict) and said.get("pooling_mode_mean_tokens") is True


def can_pool(block: Any) -> bool:  # torch is untyped here
    """Return whether a layer is built as BERT's: attention, then norm, then feed-forward, norm."""
    names = (
        ("attention.self.query", nn.Linear),
        ("attention.self.key", nn.Linear),
        ("attention.self.value", nn.Linear),
        ("attention.output.dense", nn.Linear),
        ("attention.output.LayerNorm", nn.LayerNorm),
        ("output.dense", nn.Linear),
        ("output.LayerNorm", nn.LayerNorm),
    )
    parts = dict(block.named_modules())
    return all(isinstance(parts.get(name), kind) for name, kind in names)


def add_pooling(model: Any, blocks: Any) -> bool:
    """Put a layer that means the tokens on top of an encoder's; return whether it could be done.

    Args:
        model: a transformers model; its config counts the new layer.
        blocks: the encoder's layers, a ModuleList.
    """
    if not can_pool(blocks[-1]):
        return False
    block = deepcopy(blocks[-1])
    attention, width = block.attention, model.config.hidden_size
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
        attention.self.value.weight.copy_(torch.eye(width))
        attention.output.dense.weight.copy_(GAIN * torch.eye(width))
        attention.output.LayerNorm.weight.fill_(1.0)
        block.output.LayerNorm.weight.fill_(1.0)
    if hasattr(attention.self, "layer_idx"):
        attention.self.layer_idx = len(blocks)
    blocks.append(block)
    model.config.num_hidden_layers = len(blocks)
    return True


def is_pooling(block: Any) -> bool:
    """Return whether a layer does nothing but mean its tokens."""
    if not can_pool(block):
        return False
    parts = (block.attention.self.query, block.attention.self.key, block.output.dense)
    return not any(bool(p.count_nonzero()) for part in parts for p in part.parameters())


def shorten(block: Any) -> None:
    """Have a pooling layer compute its first position alone, (batch, 1, d), and the mean directly.

    The model's head reads nothing else of it. What is saved of the model stays the same.
    """

    def forward(hidden: Any, attention_mask: Any = None, *_: Any, **__: Any) -> Any:
        attention = block.attention
        with torch.autocast(hidden.device.type, enabled=False):
            tokens = hidden.float()
            weights = tokens.new_ones(tokens.shape[:2])
            if attention_mask is not None:
                seen = attention_mask[:, 0, 0, :]
                weights = (seen if seen.dtype == torch.bool else seen == 0).float()
            total = (tokens * weights.unsqueeze(2)).sum(dim=1)
            mean = total / weights.sum(dim=1, keepdim=True)
            value = attention.output.dense(attention.self.value(mean))
            norm = attention.output.LayerNorm(value + tokens[:, 0])
            return block.output.LayerNorm(norm).unsqueeze(1)

    block.forward = forward
