"""What a run has used is stated with its source, and what is unknown is not guessed."""

import pytest

from app.domain.usage import Rates, together, usage_of

PLAIN = Rates(watts_per_core=10.0)
PRICED = Rates(
    watts_per_core=10.0,
    watts_per_gpu=300.0,
    cost_per_core_hour=0.36,
    cost_per_gpu_hour=3.6,
    grams_per_kwh=360.0,
)


def used(cpu: float = 100.0, gpu: float = 0.0, joules: float | None = None, rates: Rates = PLAIN):
    return usage_of(cpu_seconds=cpu, gpu_seconds=gpu, measured_gpu_joules=joules, rates=rates)


def test_the_energy_of_cores_is_estimated_and_says_by_what():
    found = used(100.0)
    assert found["energy_joules"] == found["cpu_joules"] == 1000.0
    assert found["cpu_energy_source"] == "estimated at 10 W a busy core"
    assert (found["gpu_joules"], found["gpu_energy_source"]) == (0.0, "none used")


def test_without_prices_and_grid_there_is_no_cost_and_no_carbon():
    assert (used()["cost"], used()["co2_grams"]) == (None, None)


def test_cost_and_carbon_follow_from_what_is_configured():
    found = used(3600.0, 3600.0, rates=PRICED)
    assert found["cost"] == pytest.approx(0.36 + 3.6)
    assert found["energy_joules"] == pytest.approx(3600 * 310)
    assert found["co2_grams"] == pytest.approx(3600 * 310 / 3.6e6 * 360)


def test_a_gpus_own_meter_goes_before_an_estimate():
    found = used(0.0, 50.0, 12_345.0, rates=PRICED)
    assert (found["gpu_joules"], found["gpu_energy_source"]) == (12_345.0, "NVML")


def test_a_gpu_that_nothing_measures_leaves_the_energy_unknown():
    found = used(100.0, 50.0)
    assert (found["energy_joules"], found["gpu_joules"]) == (None, None)
    assert found["gpu_energy_source"] == "unknown"
    assert found["cpu_joules"] == 1000.0


def test_a_gpu_without_a_price_leaves_the_cost_unknown():
    only_cores = Rates(watts_per_core=10.0, cost_per_core_hour=1.0)
    assert used(3600.0, rates=only_cores)["cost"] == 1.0
    assert used(3600.0, 1.0, rates=only_cores)["cost"] is None


def test_attempts_add_up_and_what_one_does_not_know_stays_unknown():
    both = together(used(10.0, 5.0, 100.0), used(20.0, 5.0, 50.0))
    assert (both["cpu_seconds"], both["gpu_seconds"], both["gpu_joules"]) == (30.0, 10.0, 150.0)
    assert both["gpu_energy_source"] == "NVML"
    unknown = together(used(10.0, 5.0), used(20.0, 5.0, 50.0))
    assert unknown["energy_joules"] is None
    assert unknown["gpu_energy_source"] == "unknown and NVML"
    assert together(None, used(1.0)) == used(1.0)
    assert together(used(1.0), used(1.0, 5.0, 2.0))["gpu_energy_source"] == "NVML"
