"""What an attempt uses is counted from its start, on top of what earlier ones did."""

from app.domain.usage import Rates, usage_of
from workers.jobs.metering import Meter, gpu_joules_so_far

RATES = Rates(watts_per_core=10.0)


def test_the_cpu_time_is_the_most_that_its_process_told():
    meter = Meter(None, None, RATES)
    for line in ({"cpu_seconds": 2.0}, {"cpu_seconds": 5.5}, {"phase": "save"}):
        meter.hear(line)
    found = meter.usage()
    assert (found["cpu_seconds"], found["gpu_seconds"]) == (5.5, 0.0)
    assert found["energy_joules"] == 55.0


def test_a_gpu_is_counted_for_as_long_as_it_is_held_by_the_growth_of_its_meter():
    now, joules = [100.0], [7000.0]
    meter = Meter("GPU-1", None, RATES, gpu_joules=lambda _: joules[0], clock=lambda: now[0])
    now[0], joules[0] = 130.0, 9500.0
    found = meter.usage()
    assert (found["gpu_seconds"], found["gpu_joules"]) == (30.0, 2500.0)
    assert found["gpu_energy_source"] == "NVML"


def test_all_gpus_of_a_group_are_counted():
    now, joules = [0.0], {"GPU-1": 10.0, "GPU-2": 20.0}
    meter = Meter("GPU-1,GPU-2", None, RATES, gpu_joules=joules.get, clock=lambda: now[0])
    now[0] = 5.0
    joules.update({"GPU-1": 40.0, "GPU-2": 60.0})
    found = meter.usage()
    assert (found["gpu_seconds"], found["gpu_joules"]) == (10.0, 70.0)


def test_what_earlier_attempts_used_is_kept():
    before = usage_of(cpu_seconds=8.0, gpu_seconds=0.0, measured_gpu_joules=None, rates=RATES)
    meter = Meter(None, before, RATES)
    meter.hear({"cpu_seconds": 2.0})
    assert meter.usage()["cpu_seconds"] == 10.0


def test_a_gpu_that_is_not_there_tells_nothing():
    assert gpu_joules_so_far("GPU-of-nobody") is None
