"""What does an attempt use of its machine? Cores by the process's word, a GPU by its own meter."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from app.domain.usage import Rates, together, usage_of

try:
    import pynvml  # type: ignore[import-not-found,unused-ignore]  # of nvidia-ml-py, if installed
except ImportError:
    pynvml = None

log = structlog.get_logger()

JOULES_PER_MILLIJOULE = 1e-3


class Meter:
    """Counts from its making until it is read.

    Args:
        device: UUID of the GPU that the attempt has to itself, or UUIDs by commas; None = none.
        before: what earlier attempts of the run have used.
        rates: to state energy and cost with.
        gpu_joules: reads a GPU's meter, which only grows; None where it has none.
        clock: in seconds.
    """

    def __init__(
        self,
        device: str | None,
        before: Mapping[str, Any] | None,
        rates: Rates,
        *,
        gpu_joules: Callable[[str], float | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gpus = device.split(",") if device is not None else []
        self._before = before
        self._rates = rates
        self._gpu_joules = gpu_joules or gpu_joules_so_far
        self._clock = clock
        self._started_seconds = clock()
        self._joules_at_start = self._joules()
        self._cpu_seconds = self._ended_cpu_seconds = 0.0

    def process_ended(self) -> None:
        """Count what comes as the words of another process."""
        self._ended_cpu_seconds += self._cpu_seconds
        self._cpu_seconds = 0.0

    def hear(self, progress: Mapping[str, Any]) -> None:
        """Take from a line of progress how much time of cores its process has used."""
        told = progress.get("cpu_seconds")
        if isinstance(told, int | float):
            self._cpu_seconds = max(self._cpu_seconds, float(told))

    def usage(self) -> dict[str, Any]:
        """Return what the run has used, this attempt and those before together."""
        now = usage_of(
            cpu_seconds=self._ended_cpu_seconds + self._cpu_seconds,
            gpu_seconds=len(self._gpus) * (self._clock() - self._started_seconds),
            measured_gpu_joules=self._measured(),
            rates=self._rates,
        )
        return together(self._before, now)

    def _measured(self) -> float | None:
        so_far = self._joules()
        if so_far is None or self._joules_at_start is None:
            return None
        return max(0.0, so_far - self._joules_at_start)

    def _joules(self) -> float | None:
        told = [self._gpu_joules(gpu) for gpu in self._gpus]
        known = [joules for joules in told if joules is not None]
        return sum(known) if known and len(known) == len(told) else None


def gpu_joules_so_far(uuid: str) -> float | None:
    """Return the energy that a GPU has used since its driver was loaded; None if it cannot tell.

    NVML's counter (Volta and newer), read through nvidia-ml-py where that is installed.
    """
    if pynvml is None:
        return None
    try:
        pynvml.nvmlInit()
        try:
            handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            told = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        log.warning("gpu.energy_unknown", gpu=uuid, detail=str(error))
        return None
    return float(told) * JOULES_PER_MILLIJOULE
