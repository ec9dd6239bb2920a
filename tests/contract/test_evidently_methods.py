"""Every stat test of Evidently can be chosen in a policy, with a threshold of the user's."""

from typing import Any

import numpy as np
import pytest

import workers.detectors
from app.domain.registry import scan
from app.services.policies import read_policy
from workers.detectors.evidently import NATURES
from workers.detectors.measure import measure_window
from workers.jobs.measuring import selected

scan(workers.detectors)
pytestmark = pytest.mark.slow

CASES = [
    pytest.param(name, kind, id=f"{name}-{kind}")
    for name, nature in NATURES.items()
    for kind in nature.kinds
]


def column(kind: str, n: int, rng: np.random.Generator, *, moved: bool) -> Any:
    if kind == "numeric":
        return rng.normal(2.0 if moved else 0.0, 1, n)
    if kind == "text":
        words = [f"word{i}" for i in range(50)] if moved else [f"word{i}" for i in range(20, 70)]
        return np.array([" ".join(rng.choice(words, 6)) for _ in range(n)], dtype=object)
    return rng.choice(np.array(["a", "b"], dtype=object), n, p=[0.2, 0.8] if moved else [0.8, 0.2])


def drifted(name: str, kind: str, options: dict[str, Any], *, moved: bool) -> bool:
    policy = read_policy({"check": {"detectors": {kind: {f"evidently:{name}": options}}}})
    rng = np.random.default_rng(3)
    reference = {kind: {"signal": column(kind, 200, rng, moved=False)}}
    current = {kind: {"signal": column(kind, 150, rng, moved=moved)}}
    chosen = selected(policy.check.detectors)
    (score,) = measure_window(reference, current, chosen, fdr=0.05, seed=0)
    assert score.detector == f"evidently:{name}"
    return score.drifted


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_method_chosen_by_name_finds_what_its_users_threshold_does_not_tolerate(
    name: str, kind: str
) -> None:
    options = {"n_permutations": 39} if name != "TVD" else {}
    most = 1.0 if NATURES[name].is_p_value or kind == "text" else 100.0
    assert drifted(name, kind, options, moved=True)
    assert not drifted(name, kind, {**options, "tolerated_effect": most}, moved=True)


@pytest.mark.parametrize(
    ("name", "kind"),
    [case for case in CASES if not NATURES[case.values[0]].is_p_value and case.values[1] != "text"],
)
def test_a_distance_without_permutations_is_judged_by_the_users_threshold_alone(
    name: str, kind: str
) -> None:
    for moved in (True, False):
        assert drifted(name, kind, {"n_permutations": 0, "tolerated_effect": 0.0}, moved=moved)
        assert not drifted(
            name, kind, {"n_permutations": 0, "tolerated_effect": 100.0}, moved=moved
        )
