"""Drift by slice: quiet slices cry wolf no more often than promised, a shift in one is found."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from scipy.stats import binom

import workers.detectors
from app.domain.policies import CheckPolicy, Policy
from app.domain.registry import scan
from app.domain.slices import SliceDrift
from app.services.windows import Window
from workers.jobs.looking import Sight
from workers.jobs.slicing import drift_by_slice

scan(workers.detectors)
pytestmark = pytest.mark.slow

LEVEL = 0.05
SITES = np.array([f"s{i}" for i in range(8)], dtype=object)
SHARES = np.array([0.2, 0.2, 0.15, 0.12, 0.1, 0.08, 0.07, 0.08])


def side(n: int, rng: np.random.Generator, *, shift: float = 0.0) -> tuple[list[Any], Any]:
    """Rows of eight sites that differ; at the last, 8 % of the rows, two numbers are shifted."""
    place = rng.choice(8, n, p=SHARES)
    tenant = rng.choice(np.array(["x", "y"], dtype=object), n)
    moved = np.where(place == 7, shift, 0.0)
    columns = {
        "numeric": {
            "age": rng.normal(size=n) + place + moved,
            "amount": rng.lognormal(size=n) + moved,
            "count": rng.poisson(3.0, n).astype(float),
        },
        "categorical": {
            "site": SITES[place],
            "tenant": tenant,
            "colour": rng.choice(np.array(["r", "g", "b"], dtype=object), n),
        },
        "embedding": {"embedding": rng.normal(size=(n, 16)) + place[:, None] / 8},
    }
    inputs = zip(SITES[place], tenant, strict=True)
    return [SimpleNamespace(inputs={"site": a, "tenant": b}) for a, b in inputs], columns


def look(seed: int, *, shift: float = 0.0) -> dict[str, SliceDrift]:
    """Return what is said of the slices."""
    rng = np.random.default_rng([29, seed])
    (reference, before), (current, after) = side(2000, rng), side(1000, rng, shift=shift)
    window = SimpleNamespace(
        model=SimpleNamespace(objective=SimpleNamespace(slices=("site", "tenant"))),
        policy=Policy(check=CheckPolicy()),
        reference=reference,
        current=current,
        last=1000,
        through=(seed, 0),
    )
    looked = cast("Any", SimpleNamespace(look=lambda window: (LEVEL, 1000)))
    return drift_by_slice(cast("Window", window), Sight(before, after, None, looked), ())


def test_quiet_slices_alarm_in_no_more_looks_than_promised() -> None:
    n_looks = 40
    n_alarms = sum(any(one.drifted for one in look(i).values()) for i in range(n_looks))
    assert n_alarms <= binom.ppf(1 - 1e-3, n_looks, LEVEL)


def test_a_shift_within_a_slice_of_eight_percent_is_found_there_and_nearly_nowhere_else() -> None:
    n_looks, n_found, n_wrong, n_slices = 12, 0, 0, 0
    for i in range(n_looks):
        drifted = {name for name, one in look(100 + i, shift=1.5).items() if one.drifted}
        n_slices += len(drifted)
        n_found += "site=s7" in drifted
        n_wrong += len(drifted - {"site=s7", "tenant=x", "tenant=y"})
    assert n_found >= 0.9 * n_looks
    assert n_wrong <= binom.ppf(1 - 1e-3, n_slices, LEVEL)
