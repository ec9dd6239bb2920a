"""What does this machine have for training: which device, how many cores, which precision?"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

PROBE_SHAPES = {"cpu": (512, 384, 1536), "cuda": (4096, 4096, 4096)}
"""A product of a small encoder's size, (n, k) by (k, m); on a GPU one that fills it."""
PROBE_SECONDS = 0.1
N_AT_ONCE = 4
"""Products between two looks at the clock, for which a GPU must have ended all."""
WORTHWHILE = 1.3
"""How many times faster bf16 must multiply before it is used: casting has its own cost."""


@dataclass(frozen=True, slots=True)
class Device:
    """Where and how a run computes; stored in its checkpoints so that a resumed run agrees.

    Attributes:
        name: "cpu" or "cuda".
        threads: CPU threads of one operator.
        precision: "fp32" or "bf16" (autocast of the training step).
    """

    name: str
    threads: int
    precision: str

    @property
    def is_deterministic(self) -> bool:
        """Return whether the same run gives the same bits again on this kind of machine."""
        return self.name == "cpu"

    def autocast(self) -> Any:  # torch is untyped here
        """Return the context of a training step's forward pass."""
        return torch.autocast(self.name, torch.bfloat16, enabled=self.precision == "bf16")


def cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many cores this process may really use, at least 1.

    The least of the affinity mask and the control group's limit (version 2, then 1): threads
    beyond it wait for each other at every barrier.
    """
    cores = len(os.sched_getaffinity(0))
    for quota_file, period_file in (
        ("cpu.max", None),
        ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"),
    ):
        try:
            words = (root / quota_file).read_text().split()
            if period_file:
                words.append((root / period_file).read_text().strip())
            quota, period = float(words[0]), float(words[1])
        except (OSError, ValueError, IndexError):
            continue
        if quota > 0 and period > 0:
            cores = min(cores, max(1, int(quota / period + 0.5)))
    return max(1, cores)


def multiplications_per_second(
    device: str,
    dtype: Any,
    *,
    shape: tuple[int, int, int] | None = None,
    seconds: float = PROBE_SECONDS,
) -> float:
    """Return floating point operations a second of a matrix product.

    Args:
        device: "cpu" or "cuda".
        dtype: of both factors.
        shape: n, k, m of (n, k) by (k, m); None is one that suits the device.
        seconds: to go on for; one round at least.
    """
    n, k, m = shape or PROBE_SHAPES[device]
    draw = torch.Generator(device).manual_seed(0)  # equal numbers would spare a GPU power
    left, right = (
        torch.randn(*sides, device=device, generator=draw).to(dtype) for sides in ((n, k), (k, m))
    )
    torch.mm(left, right)  # what is loaded or compiled at its first use
    started, rounds, spent = now(device), 0, 0.0
    while not rounds or spent < seconds:
        for _ in range(N_AT_ONCE):
            torch.mm(left, right)
        rounds += N_AT_ONCE
        spent = now(device) - started
    return 2.0 * n * k * m * rounds / spent


def now(device: str) -> float:
    """Return the clock's time once the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def bf16_pays(device: str) -> bool:
    """Return whether a device multiplies so much faster in bf16 that casting is worth it."""
    narrow, wide = torch.bfloat16, torch.float32
    gain = [multiplications_per_second(device, kind) for kind in (narrow, wide)]
    return gain[0] >= WORTHWHILE * gain[1]


def choose(*, threads: int | None, precision: str) -> Device:
    """Return the device of a new run and set the process up for it.

    Args:
        threads: None means what the quota allows.
        precision: "auto" measures whether bf16 pays; "fp32" and "bf16" are taken as they are.
    """
    name = "cuda" if torch.cuda.is_available() else "cpu"
    cores = threads or cpu_quota()
    torch.set_num_threads(cores)
    if precision == "auto":
        precision = "bf16" if bf16_pays(name) else "fp32"
    return restore(Device(name, cores, precision))


def restore(device: Device) -> Device:
    """Set the process up for a device chosen before, and return it."""
    torch.set_num_threads(device.threads)
    # As `use_deterministic_algorithms`, which would load the compiler: 2.5 s at each start.
    torch.set_deterministic_debug_mode("error" if device.is_deterministic else "default")
    # Nothing here reads memory that it did not write; filling it costs a tenth of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False
    return device


def memory_bytes() -> int:
    """Return the resident memory of this process."""
    return int(psutil.Process().memory_info().rss)
