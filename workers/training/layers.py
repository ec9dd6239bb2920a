"""Which layers of an architecture learn?"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from workers.training.device import Device
from workers.training.errors import RecipeError
from workers.training.pooling import is_pooling


def find_head(model: Any, n_labels: int) -> Any:  # torch is untyped here
    """Return the last linear layer with one output a label.

    Raises:
        RecipeError: the architecture has none.
    """
    found = [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear) and module.out_features == n_labels
    ]
    if not found:
        raise RecipeError(f"{type(model).__name__} has no linear head of {n_labels} outputs")
    return found[-1]


def widen_head(model: Any, labels: Sequence[str], wider: Sequence[str]) -> None:
    """Give the head an output for each of the labels, its rows for the known ones as they are.

    A new class starts with no weight and the least bias of all, so that it is rarely the answer.

    Args:
        model: a transformers classification model.
        labels: those of its outputs.
        wider: all of them and more, in any order.
    """
    head = find_head(model, len(labels))
    place, _, name = next(path for path, part in model.named_modules() if part is head).rpartition(
        "."
    )
    fresh = nn.Linear(
        head.in_features, len(wider), bias=head.bias is not None, device=head.weight.device
    )
    known = {label: row for row, label in enumerate(labels)}
    rows = [known.get(label) for label in wider]
    with torch.no_grad():
        fresh.weight.zero_()
        for row, before in enumerate(rows):
            if before is not None:
                fresh.weight[row] = head.weight[before]
            if head.bias is not None:
                fresh.bias[row] = head.bias.min() if before is None else head.bias[before]
    setattr(model.get_submodule(place), name, fresh)


def stack_of(model: Any) -> tuple[str, list[Any]] | None:  # torch is untyped here
    """Return name and members of the longest list of like blocks: an encoder's layers or stages.

    A last layer that only means tokens is none of them: it has nothing to learn.
    """
    found = _longest_list(model)
    if found is None:
        return None
    name, blocks = found
    return name, list(blocks)[:-1] if is_pooling(blocks[-1]) else list(blocks)


def pooling_of(model: Any) -> Any | None:
    """Return the layer on top of a model's stack that only means tokens; None without."""
    found = _longest_list(model)
    return found[1][-1] if found is not None and is_pooling(found[1][-1]) else None


def _longest_list(model: Any) -> tuple[str, Any] | None:
    best: tuple[str, Any] | None = None
    for name, module in model.named_modules():
        if not isinstance(module, nn.ModuleList) or not len(module):
            continue
        is_uniform = len({type(member) for member in module}) == 1
        if is_uniform and (best is None or len(module) > len(best[1])):
            best = (name, module)
    return best


def choose_trainable(model: Any, n_labels: int, n_layers: int | None) -> None:
    """Let the head and the top layers learn, with what lies between them; freeze all below.

    Args:
        model: a transformers classification model.
        n_labels: outputs of its head.
        n_layers: how many layers of the stack; None is the whole model, 0 the head alone.
    """
    for parameter in model.parameters():
        parameter.requires_grad = n_layers is None
    for parameter in find_head(model, n_labels).parameters():
        parameter.requires_grad = True
    pooling = pooling_of(model)
    for parameter in pooling.parameters() if pooling is not None else ():
        parameter.requires_grad = False
    stack = stack_of(model)
    if not n_layers or stack is None:
        return
    prefix, blocks = stack
    for block in blocks[-n_layers:]:
        for parameter in block.parameters():
            parameter.requires_grad = True
    is_above = False
    for name, parameter in model.named_parameters():
        if name.startswith(f"{prefix}."):
            is_above = True
        elif is_above:
            parameter.requires_grad = True


def set_dropout(model: Any, share: float | None) -> None:
    """Drop this share of the units while training, wherever the architecture drops any.

    Args:
        model: a transformers model.
        share: in [0, 1); None leaves every layer its own.
    """
    if share is None:
        return
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = share


def prepare_attention(model: Any, device: Device) -> None:
    """Have attention computed in the way that is fastest to learn with.

    On a CPU in bf16 that is plain products: torch's fused kernel took 2.5 times as long for a whole
    step of MiniLM at 16 tokens and 1.8 times at 64, and was even at 256.
    """
    if (
        device.name == "cpu"
        and device.precision == "bf16"
        and hasattr(model, "set_attn_implementation")
    ):
        model.set_attn_implementation("eager")


def narrow_stream(model: Any, device: Device) -> None:
    """Have what flows from layer to layer be bf16 too, where autocast has a CPU compute in it.

    Autocast narrows what a product is given and leaves sums and norms as wide as the embeddings:
    each layer casts its input anew for each product. A step of MiniLM took 4 % longer so.
    """
    stack = stack_of(model)
    if device.name != "cpu" or device.precision != "bf16" or stack is None:
        return

    def narrowed(_: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        is_wide = bool(arguments) and getattr(arguments[0], "dtype", None) == torch.float32
        if not is_wide or not torch.is_autocast_enabled("cpu"):
            return None
        return (arguments[0].to(torch.bfloat16), *arguments[1:])

    for block in stack[1]:
        block.register_forward_pre_hook(narrowed)
