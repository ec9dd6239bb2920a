"""How far does each step go, and how is the optimiser put into a checkpoint and taken out?"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from workers.training.layers import find_head
from workers.training.lora import DOWN

MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def rate(step: int, total_steps: int, *, warmup_share: float) -> float:
    """Return the factor on the peak step size: a linear rise, then a linear fall to 0.

    Args:
        step: counted from 0.
        total_steps: of the whole run.
        warmup_share: share of the steps that rise.
    """
    n_rising = int(total_steps * warmup_share)
    if step < n_rising:
        return (step + 1) / (n_rising + 1)
    return max(0.0, (total_steps - step) / max(1, total_steps - n_rising))


def seed_step(seed: int, step: int, part: int = 0) -> np.random.Generator:
    """Seed torch for one part of a step's batch and return the source of its augmentation.

    What it draws depends on these numbers alone, so a resumed run needs no generator's state, and
    it is the same whichever process computes it.
    """
    words = np.random.SeedSequence((seed, step, part)).generate_state(2, np.uint64)
    torch.manual_seed(int(words[0] >> np.uint64(1)))
    return np.random.default_rng(int(words[1]))


def adamw(model: Any, labels: tuple[str, ...], recipe: Mapping[str, Any]) -> Any:
    """Return AdamW over what learns: the head at its own rate; no decay on biases and norms."""
    head = {id(p) for p in find_head(model, len(labels)).parameters()}
    groups: dict[tuple[bool, bool], list[Any]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            key = (id(parameter) in head, parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "peak": recipe["head_learning_rate" if is_head else "learning_rate"],
                "weight_decay": recipe["weight_decay"] if decays else 0.0,
            }
            for (is_head, decays), parameters in groups.items()
        ],
        lr=recipe["learning_rate"],
        fused=True,
    )


def moments(optimiser: Any, model: Any) -> dict[str, Any]:
    """Return the optimiser's state as named tensors."""
    return {
        f"{moment}:{name}": optimiser.state[parameter][moment]
        for name, parameter in model.named_parameters()
        if parameter in optimiser.state
        for moment in MOMENTS
    }


def put_moments(optimiser: Any, model: Any, tensors: Mapping[str, Any]) -> None:
    """Give the optimiser back the state that `moments` took."""
    for name, parameter in model.named_parameters():
        if f"step:{name}" in tensors:
            optimiser.state[parameter] = {
                moment: tensors[f"{moment}:{name}"].to(parameter.device) for moment in MOMENTS
            }


def learned(model: Any) -> dict[str, Any]:
    """Return copies of all that training changes: trainable parameters and running statistics.

    Weights that layers share come once, by the first name.
    """
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    again = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    again -= {name for name, _ in model.named_parameters()}
    return {
        name: value.detach().clone()
        for name, value in model.state_dict().items()
        if name not in frozen | again
    }


def averaged(start: Mapping[str, Any], end: Mapping[str, Any], share: float) -> dict[str, Any]:
    """Return weights between two versions, the start's share of each that both have.

    Between a start that is good already and what fine-tuning made of it lies one that is better
    where the world moves on (WiSE-FT; Wortsman et al., 2022). Of LoRA's two matrices one alone
    moves, so that their product lies between too.
    """
    return {
        name: torch.lerp(value, start[name].to(value.device), share)
        for name, value in end.items()
        if name in start and not name.endswith(f".{DOWN}")
    }


def add_to_mean(mean: Mapping[str, Any], model: Any, n: int) -> dict[str, Any]:
    """Return the mean of what was learned after n steps and, now, after one more.

    The average of the last steps is wider a minimum than any of them (Izmailov et al., 2018).
    Counts of batches are the newest.
    """
    now = learned(model)
    if not n:
        return now
    return {
        name: torch.lerp(mean[name], value, 1 / (n + 1)) if value.is_floating_point() else value
        for name, value in now.items()
    }


def put_learned(model: Any, tensors: Mapping[str, Any]) -> None:
    """Put back what `learned` copied."""
    own = model.state_dict()
    with torch.no_grad():
        for name, value in tensors.items():
            own[name].copy_(value)
