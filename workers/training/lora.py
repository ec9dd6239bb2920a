"""How can a large layer learn by few numbers? By a product of two narrow matrices beside it.

LoRA (Hu et al., 2021): W x + s B A x, where W stays as it is and A (r, d_in), B (d_out, r) learn; B
begins at zero, so that the first answers are the start's, and s = alpha / r with alpha = 2 r here.
A version is written with s B A added to W: a plain transformers directory, no slower than its base.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from workers.training.errors import RecipeError

SCALE: Final = 2.0
DOWN: Final = "lora_a"
UP: Final = "lora_b"
HOOK: Final = "lora_hook"


KNOB: Final[Mapping[str, Any]] = {
    "type": "integer",
    "minimum": 0,
    "maximum": 1024,
    "default": 0,
    "description": (
        "Layers that learn do so by LoRA: by two matrices of this rank beside each, added to it in "
        "the version; 0 lets the layers themselves learn."
    ),
}
SEED: Final = 0
"""Of where the matrices begin: the run's own seed changes what is drawn, not this."""


def heed(model: Any, recipe: Mapping[str, Any]) -> None:  # torch is untyped here
    """Have a model learn by narrow matrices where a recipe asks for it (`lora_rank`).

    Raises:
        RecipeError: there is nothing to stand beside.
    """
    rank = int(recipe["lora_rank"])
    if rank and not adapt(model, rank):
        raise RecipeError(
            f"no linear layer that learns is wider than lora_rank {rank}; take a smaller rank, "
            "more trainable_layers, or 0, which lets layers learn as they are"
        )


def adapt(model: Any, rank: int) -> int:
    """Have the linear layers that would learn learn by narrow matrices instead; return how many.

    Layers of no more outputs or inputs than the rank, and what is no such layer (norms, biases,
    embeddings), are frozen; so is a head that shares its weights. One that does not learns whole.

    Args:
        model: a transformers model; `requires_grad` says which layers would learn.
        rank: r, at least 1.
    """
    shared = _shared(model)
    chosen = [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear | Conv1D)
        and module.weight.requires_grad
        and id(module.weight) not in shared
    ]
    head: Any = next((m for m in reversed(chosen) if _is_head(model, m)), None)
    for parameter in model.parameters():
        parameter.requires_grad = False
    source = torch.Generator().manual_seed(SEED)
    n_adapted = 0
    for module in chosen:
        if module is head:
            for parameter in module.parameters():
                parameter.requires_grad = True
            continue
        n_in, n_out = _shape(module)
        if min(n_in, n_out) <= rank:
            continue
        down = torch.empty(rank, n_in).uniform_(generator=source) * 2 - 1
        device = module.weight.device
        module.register_parameter(DOWN, nn.Parameter((down / math.sqrt(n_in)).to(device)))
        module.register_parameter(UP, nn.Parameter(torch.zeros(n_out, rank, device=device)))
        setattr(module, HOOK, module.register_forward_hook(_beside))
        n_adapted += 1
    return n_adapted


def merge(model: Any) -> None:
    """Add what the narrow matrices learned to the layers they stand beside, and take them away."""
    for module in _adapted(model):
        down, up = getattr(module, DOWN), getattr(module, UP)
        with torch.no_grad():
            more = SCALE * (up @ down)  # (d_out, d_in)
            module.weight += more.T if isinstance(module, Conv1D) else more
        getattr(module, HOOK).remove()
        for name in (DOWN, UP, HOOK):
            delattr(module, name)


def _adapted(model: Any) -> Iterator[Any]:
    return (module for module in model.modules() if hasattr(module, HOOK))


def _beside(module: Any, given: tuple[Any, ...], found: Any) -> Any:
    narrow = nn.functional.linear(given[0], getattr(module, DOWN))
    return found + SCALE * nn.functional.linear(narrow, getattr(module, UP))


def _shape(module: Any) -> tuple[int, int]:
    """Return inputs and outputs of a layer; Conv1D, of GPT-2, keeps its weights the other way."""
    first, second = module.weight.shape
    return (first, second) if isinstance(module, Conv1D) else (second, first)


def _shared(model: Any) -> set[int]:
    """Return the weights that several modules have, such as a head the embedding of tokens."""
    held = Counter(id(p) for m in model.modules() for p in m.parameters(recurse=False))
    return {weight for weight, n_holders in held.items() if n_holders > 1}


def _is_head(model: Any, module: Any) -> bool:
    """Return whether a layer lies outside of the model's body: what an answer is read from."""
    body = getattr(model, model.base_model_prefix, None)
    return body is not None and all(module is not other for other in body.modules())
