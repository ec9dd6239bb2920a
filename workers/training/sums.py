"""How do several ranks take one step? Each adds what its share of the batch gave, by torch.

Gloo adds up what is on the CPU, NCCL what is on GPUs; they meet through a file of the run's folder
and speak over the loopback interface alone.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import nn

Figures = NDArray[np.float64]

STEP_TIMEOUT: Final = timedelta(minutes=10)
"""How long one rank waits for the others within a step."""
BUCKET_BYTES: Final = 1 << 25
LOOPBACK: Final = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}


def meet(store: Path, *, rank: int, size: int, device: str) -> None:
    """Have this process join the others; returns once all are there.

    Args:
        store: a file that only they know; made by the first.
        rank: which of them this one is.
        size: how many they are.
        device: "cpu" or "cuda".
    """
    for name, value in LOOPBACK.items():
        os.environ.setdefault(name, value)
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    dist.init_process_group(
        backend,
        store=dist.FileStore(str(store), size),
        rank=rank,
        world_size=size,
        timeout=STEP_TIMEOUT,
    )


def sent(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return rank 0's values of tensors that all ranks have in the same order."""
    found = {name: value.contiguous() for name, value in tensors.items()}
    for value in found.values():
        dist.broadcast(value, 0)
    return found


class Sums:
    """Adds up the gradients of all ranks, and tells each what batch normalisation saw elsewhere.

    The order of the ranks is that of the parts of a batch. Running statistics are a fold over
    parts, m parts after one another: r becomes keep^m r plus what they add, so that of all ranks
    is the same fold (where momentum is a number; a plain mean stays that of rank 0's parts).
    """

    def __init__(self, model: Any, *, rank: int, size: int) -> None:
        self._rank, self._size = rank, size
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._norms = [
            module
            for module in model.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)
            and module.track_running_stats
            and module.momentum is not None
        ]
        self._before: list[tuple[Any, Any, int]] = []

    def begin(self) -> None:
        """Remember what a step starts from."""
        self._before = [
            (m.running_mean.clone(), m.running_var.clone(), int(m.num_batches_tracked))
            for m in self._norms
        ]

    def add_up(self, figures: Sequence[float]) -> Figures:
        """Give every rank the sum of all gradients; return all ranks' figures, (size, n).

        A parameter without gradient on every rank stays so.
        """
        counts = [
            int(module.num_batches_tracked) - n
            for module, (_, _, n) in zip(self._norms, self._before, strict=True)
        ]
        is_seen = [parameter.grad is not None for parameter in self._parameters]
        table = torch.zeros(self._size, len(figures) + len(counts) + len(is_seen)).double()
        table[self._rank] = torch.tensor([*figures, *counts, *is_seen], dtype=torch.float64)
        dist.all_reduce(table)
        ends = [len(figures), len(figures) + len(counts)]
        told, n_parts, seen = np.split(table.numpy(), ends, axis=1)
        self._add_gradients(np.asarray(seen.any(axis=0)))
        self._add_statistics(n_parts)
        return told

    def _add_gradients(self, is_seen: NDArray[np.bool_]) -> None:
        gradients = []
        for parameter, is_needed in zip(self._parameters, is_seen.tolist(), strict=True):
            if is_needed and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if is_needed:
                gradients.append(parameter.grad)
        _add(gradients)

    def _add_statistics(self, n_parts: Figures) -> None:
        """Fold running statistics over the parts of all ranks, (size, modules) of them."""
        own, later = n_parts[self._rank], n_parts[self._rank + 1 :].sum(axis=0)
        running = []
        for column, (module, before) in enumerate(zip(self._norms, self._before, strict=True)):
            keep = 1.0 - module.momentum
            for now, was in zip((module.running_mean, module.running_var), before, strict=False):
                now.sub_(was, alpha=keep ** own[column]).mul_(keep ** later[column])
                running.append(now)
        _add(running)
        for column, (module, before) in enumerate(zip(self._norms, self._before, strict=True)):
            n = int(n_parts[:, column].sum())
            kept = (1.0 - module.momentum) ** n
            module.running_mean.add_(before[0], alpha=kept)
            module.running_var.add_(before[1], alpha=kept)
            module.num_batches_tracked.fill_(before[2] + n)


def _add(tensors: Sequence[Any]) -> None:
    """Put the sum over all ranks in each tensor's place."""
    for bucket in _buckets(tensors):
        flat = torch.cat([value.reshape(-1) for value in bucket])
        dist.all_reduce(flat)
        for value, total in zip(bucket, flat.split([v.numel() for v in bucket]), strict=True):
            value.copy_(total.view_as(value))


def _buckets(tensors: Sequence[Any]) -> Iterator[list[Any]]:
    """Yield tensors of one kind together, so many as make one message."""
    bucket: list[Any] = []
    n_bytes = 0
    for value in tensors:
        if bucket and (n_bytes >= BUCKET_BYTES or value.dtype != bucket[0].dtype):
            yield bucket
            bucket, n_bytes = [], 0
        bucket.append(value)
        n_bytes += value.numel() * value.element_size()
    if bucket:
        yield bucket
