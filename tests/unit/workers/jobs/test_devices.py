"""Which GPUs a worker offers its runs."""

import pytest

from workers.jobs.devices import chosen, grouped
from workers.jobs.train import only_on

INSTALLED = ("GPU-aa11", "GPU-bb22", "GPU-cc33")


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        (None, INSTALLED),
        ("1", ("GPU-bb22",)),
        ("2, 0", ("GPU-cc33", "GPU-aa11")),
        ("GPU-bb", ("GPU-bb22",)),
        ("MIG-77", ("MIG-77",)),
        ("0,0", ("GPU-aa11",)),
        ("-1", ()),
        ("0,-1,1", ("GPU-aa11",)),
        ("0,9,1", ("GPU-aa11",)),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(visible, found):
    assert chosen(INSTALLED, visible) == found


@pytest.mark.parametrize(
    ("n", "found"),
    [
        (1, INSTALLED),
        (2, ("GPU-aa11,GPU-bb22",)),
        (3, ("GPU-aa11,GPU-bb22,GPU-cc33",)),
        (8, ("GPU-aa11,GPU-bb22,GPU-cc33",)),
    ],
)
def test_gpus_are_grouped_for_runs_that_have_several(n, found):
    assert grouped(INSTALLED, n) == found
    assert grouped((), n) == ()


def test_a_run_sees_its_own_gpu_alone():
    assert only_on("GPU-bb22") == {"CUDA_VISIBLE_DEVICES": "GPU-bb22"}
    assert only_on(None) == {}
