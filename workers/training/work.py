"""How much of the machine does a run use? Operations it does a second, against its measured peak.

Operations are those of matrix products and convolutions, two for each multiplication with its
addition, as torch counts them over one batch; the peak is a matrix product of an encoder's size (on
a GPU one that fills it) at the run's precision, timed in the same process. Softmax, norms and the
optimiser count as none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from workers.training.device import Device, multiplications_per_second


def operations_of(work: Callable[[], Any]) -> float:
    """Return how many operations some work takes."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def peak_of(device: Device) -> float:
    """Return the operations a second that this machine reaches at best, measured now."""
    kind = torch.bfloat16 if device.precision == "bf16" else torch.float32
    return multiplications_per_second(device.name, kind)


@dataclass(slots=True)
class Utilisation:
    """What the steps of a run did of what the machine could.

    Attributes:
        peak: operations a second at best.
        operations_per_cost: of a step, for each unit of a batch's padded cost.
        operations: done so far.
        seconds: spent on them.
    """

    peak: float
    operations_per_cost: float
    operations: float = 0.0
    seconds: float = 0.0

    def add(self, cost: int, seconds: float) -> None:
        """Note a step on a batch of this padded cost."""
        self.operations += cost * self.operations_per_cost
        self.seconds += seconds

    @property
    def share(self) -> float | None:
        """The share of the peak, in [0, 1] up to noise of the peak; None before any step."""
        if not self.seconds or not self.peak:
            return None
        return self.operations / self.seconds / self.peak
