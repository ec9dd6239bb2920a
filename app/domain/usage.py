"""What has a training run used: time of cores and GPUs, energy, money, carbon dioxide?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

JOULES_PER_KWH: Final = 3.6e6
SECONDS_PER_HOUR: Final = 3600.0
NOT_USED: Final = "none used"
_ADDED: Final = (
    "cpu_seconds",
    "gpu_seconds",
    "energy_joules",
    "cpu_joules",
    "gpu_joules",
    "cost",
    "co2_grams",
)
_SOURCES: Final = ("cpu_energy_source", "gpu_energy_source")


@dataclass(frozen=True, slots=True)
class Rates:
    """What an installation says of its power and its prices; what it does not say is not guessed.

    Attributes:
        watts_per_core: of a busy core, by which the energy of the CPU is estimated.
        watts_per_gpu: of a GPU at work, for where nothing measures it; None = unknown.
        cost_per_core_hour, cost_per_gpu_hour: in whatever currency; None = no price.
        grams_per_kwh: carbon dioxide of the grid's electricity; None = unknown.
    """

    watts_per_core: float
    watts_per_gpu: float | None = None
    cost_per_core_hour: float | None = None
    cost_per_gpu_hour: float | None = None
    grams_per_kwh: float | None = None


def usage_of(
    *, cpu_seconds: float, gpu_seconds: float, measured_gpu_joules: float | None, rates: Rates
) -> dict[str, Any]:
    """Return what one attempt has used, each figure with where it comes from.

    `energy_joules` and `co2_grams` are None where a part of them is unknown, `cost` where a price
    of what was used is. The machine's idle power, memory and cooling are in none of them.

    Args:
        cpu_seconds: of all cores together.
        gpu_seconds: time for which a GPU was held.
        measured_gpu_joules: by the GPU's own meter; None = it has none.
        rates: to estimate with.
    """
    cpu_joules = cpu_seconds * rates.watts_per_core
    gpu_joules, gpu_source = measured_gpu_joules, "NVML"
    if gpu_seconds == 0.0:
        gpu_joules, gpu_source = 0.0, NOT_USED
    elif gpu_joules is None and rates.watts_per_gpu is not None:
        gpu_joules = gpu_seconds * rates.watts_per_gpu
        gpu_source = f"estimated at {rates.watts_per_gpu:g} W a GPU"
    elif gpu_joules is None:
        gpu_source = "unknown"
    joules = None if gpu_joules is None else cpu_joules + gpu_joules
    grams = None
    if joules is not None and rates.grams_per_kwh is not None:
        grams = joules / JOULES_PER_KWH * rates.grams_per_kwh
    return {
        "cpu_seconds": cpu_seconds,
        "gpu_seconds": gpu_seconds,
        "energy_joules": joules,
        "cpu_joules": cpu_joules,
        "cpu_energy_source": f"estimated at {rates.watts_per_core:g} W a busy core",
        "gpu_joules": gpu_joules,
        "gpu_energy_source": gpu_source,
        "cost": _cost(cpu_seconds, gpu_seconds, rates),
        "co2_grams": grams,
        "grams_per_kwh": rates.grams_per_kwh,
    }


def _cost(cpu_seconds: float, gpu_seconds: float, rates: Rates) -> float | None:
    """Return the price of what was used; None where something of it has no price."""
    parts = [(cpu_seconds, rates.cost_per_core_hour), (gpu_seconds, rates.cost_per_gpu_hour)]
    priced = [(used, price) for used, price in parts if price is not None]
    if not priced or any(price is None and used > 0.0 for used, price in parts):
        return None
    return sum(used / SECONDS_PER_HOUR * price for used, price in priced)


def together(first: Mapping[str, Any] | None, second: Mapping[str, Any]) -> dict[str, Any]:
    """Return what two attempts have used together; what one of them does not know is unknown."""
    if first is None:
        return dict(second)
    sums = {
        name: None if first[name] is None or second[name] is None else first[name] + second[name]
        for name in _ADDED
    }
    sources = {name: _source(first[name], second[name]) for name in _SOURCES}
    return {**second, **sums, **sources}


def _source(first: str, second: str) -> str:
    told = [one for one in dict.fromkeys((first, second)) if one != NOT_USED]
    return " and ".join(told) or NOT_USED
