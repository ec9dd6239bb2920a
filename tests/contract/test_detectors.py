"""Every registered detector keeps these promises."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jsonschema
import numpy as np
import pytest
from scipy.stats import binom

import workers.detectors
from app.domain.drift import Measurement
from app.domain.errors import Invalid, UnknownName
from app.domain.registry import scan
from workers.detectors import configured, described, detectors

scan(workers.detectors)

WORDS = np.array([f"word{i}" for i in range(200)])


def binary_only(name: str) -> bool:
    return name in {"evidently:fisher_exact", "evidently:z"}


def sample(kind: str, n: int, rng: np.random.Generator, *, shift: float = 0.0, binary=False) -> Any:
    """n rows of a kind; a shift of one is plain to see."""
    if kind == "numeric":
        return rng.normal(shift, 1.0, n)
    if kind == "embedding":
        return rng.normal(0, 1, (n, 16)) + shift * np.eye(16)[0]
    if kind == "text":
        pool = WORDS[int(100 * shift) :]
        return np.array([" ".join(rng.choice(pool, 6)) for _ in range(n)], dtype=object)
    weights = np.ones(2) if binary else 1 / np.arange(1, 9)
    weights[-1] += 2 * shift * weights.sum()
    names = np.array([f"category {i}" for i in range(len(weights))], dtype=object)
    return rng.choice(names, n, p=weights / weights.sum())


def worse(name: str, kind: str, n: int, rng: np.random.Generator) -> Any:
    """n rows that this detector is there to see."""
    rows = sample(kind, n, rng, shift=1.0, binary=binary_only(name))
    if name == "spread":
        return 2.0 * rng.normal(0, 1, n)
    if name == "neighbours":
        rows = sample(kind, n, rng)
        rows[: n // 5] = 5.0 + 0.5 * rows[: n // 5]
    if name == "missing":
        rows = sample(kind, n, rng).astype(float if kind == "numeric" else object)
        rows[: n // 5] = np.nan if kind == "numeric" else None
    if name == "new-category":
        rows[: n // 5] = "never seen"
    return rows


def cases(*, slow_statistics: bool = False) -> list[Any]:
    """Every detector with every kind it reads; those that import Evidently (7 s) are slow."""
    return [
        pytest.param(
            name,
            kind,
            id=f"{name}-{kind}",
            marks=[pytest.mark.slow] if slow_statistics or name.startswith("evidently") else [],
        )
        for name, detector in detectors.items()
        for kind in detector.kinds
    ]


every_detector = pytest.mark.parametrize(("name", "kind"), cases())


def assert_is_typed(measurement: Measurement) -> None:
    assert isinstance(measurement, Measurement)
    assert math.isfinite(measurement.statistic)
    assert measurement.p_value is None or 0.0 <= measurement.p_value <= 1.0
    assert measurement.effect is not None
    assert measurement.effect >= 0.0
    json.dumps(dict(measurement.detail), allow_nan=False)


@pytest.mark.parametrize("name", detectors.names())
def test_a_detector_says_what_it_is_and_which_options_it_takes(name: str) -> None:
    detector = detectors.get(name)
    jsonschema.Draft202012Validator.check_schema(dict(detector.schema))
    assert detector.description.endswith(".")
    assert detector.kinds
    assert configured(name, {"tolerated_effect": 0.5}).tolerated_effect == 0.5
    with pytest.raises(Invalid, match="cannot take these options"):
        configured(name, {"no_such_option": 1})


@pytest.mark.parametrize("name", detectors.names())
def test_the_defaults_in_the_schema_are_the_defaults_in_force(name: str) -> None:
    detector = detectors.get(name)
    for option, schema in detector.schema["properties"].items():
        assert getattr(detector, option) == schema["default"]


def test_an_unknown_detector_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="chi-square"):
        configured("pis", {})


def test_the_description_of_all_detectors_is_json() -> None:
    names = [entry["name"] for entry in json.loads(json.dumps(described()))]
    assert names == detectors.names()


@every_detector
def test_neither_inputs_nor_the_global_generator_change(name: str, kind: str) -> None:
    rng = np.random.default_rng(1)
    before, after = sample(kind, 60, rng), worse(name, kind, 40, rng)
    copies = before.copy(), after.copy()
    before.flags.writeable = after.flags.writeable = False
    state = np.random.get_state()
    quick(name).measure(before, after, seed=1)
    now = np.random.get_state()
    assert all(np.array_equal(x, y) for x, y in zip(state, now, strict=True))
    for values, copy in zip((before, after), copies, strict=True):
        assert [str(v) for v in values.flat] == [str(v) for v in copy.flat]


@every_detector
def test_the_same_seed_gives_the_same_measurement(name: str, kind: str) -> None:
    rng = np.random.default_rng(2)
    binary = binary_only(name)
    before, after = sample(kind, 80, rng, binary=binary), sample(kind, 50, rng, binary=binary)
    detector = quick(name)
    assert detector.measure(before, after, seed=7) == detector.measure(before, after, seed=7)


def odd_pairs(kind: str) -> dict[str, tuple[Any, Any]]:
    rng = np.random.default_rng(3)
    whole = sample(kind, 60, rng)
    if kind == "embedding":
        null = np.full((60, 16), np.nan)
        holes = whole.copy()
        holes[::2, 3] = np.inf
        return {
            "empty": (whole, whole[:0]),
            "both empty": (whole[:0], whole[:0]),
            "one row": (whole, whole[:1]),
            "null": (whole, null),
            "both null": (null, null),
            "half null": (whole, holes),
            "constant": (np.ones((60, 16)), np.ones((60, 16))),
            "constant against another": (np.ones((60, 16)), np.zeros((60, 16))),
            "tied": (np.round(whole), np.round(whole[::-1])),
            "another dimension": (whole, whole[:, :3]),
            "enormous": (whole * 1e30, whole * 1e30),
        }
    none: Any = np.nan if kind == "numeric" else None
    null = np.full(60, none, dtype=float if kind == "numeric" else object)
    holes = whole.copy()
    holes[::2] = none
    constant, other = np.repeat(whole[:1], 60), np.repeat(worse("ks", kind, 1, rng), 60)
    pairs = {
        "empty": (whole, whole[:0]),
        "both empty": (whole[:0], whole[:0]),
        "one row": (whole, whole[:1]),
        "null": (whole, null),
        "null reference": (null, whole),
        "both null": (null, null),
        "half null": (whole, holes),
        "constant": (constant, constant),
        "constant against another": (constant, other),
        "constant window": (whole, constant),
    }
    if kind == "numeric":
        infinite = whole.copy()
        infinite[:3] = [np.inf, -np.inf, np.nan]
        pairs |= {
            "tied": (np.round(whole), np.round(whole[::-1])),
            "binary": ((whole > 0).astype(float), (whole > 0.5).astype(float)),
            "integers": (np.arange(60), np.arange(30)),
            "infinite": (whole, infinite),
            "enormous": (whole * 1e300, whole * 1e300),
        }
    else:
        mixed = np.array(["a", 1, 2.5, None, True, "<b>"] * 10, dtype=object)
        unique = np.array([f"row {i}" for i in range(60)], dtype=object)
        pairs |= {"mixed types": (mixed, mixed[::-1]), "all unique": (unique[:30], unique[30:])}
    return pairs


def quick(name: str) -> Any:
    """The detector with fewer resamples, where it has that option."""
    detector = detectors.get(name)
    if "n_permutations" in detector.schema["properties"]:
        return replace(detector, n_permutations=39 if name.startswith("evidently") else 99)
    return detector


@every_detector
def test_odd_input_gives_a_typed_measurement_never_an_exception(name: str, kind: str) -> None:
    detector = quick(name)
    pairs = odd_pairs(kind)
    if name == "evidently:TVD":  # a second and a half each
        pairs = {case: pairs[case] for case in ("empty", "null", "half null", "mixed types")}
    for before, after in pairs.values():
        assert_is_typed(detector.measure(before, after, seed=0))


@every_detector
def test_samples_that_cannot_differ_are_no_drift(name: str, kind: str) -> None:
    pairs = odd_pairs(kind)
    for case in ("both empty", "both null", "constant"):
        measurement = detectors.get(name).measure(*pairs[case], seed=0)
        assert measurement.p_value is None
        assert measurement.effect == 0.0


@every_detector
def test_a_hundred_thousand_rows_are_measured(name: str, kind: str) -> None:
    rng = np.random.default_rng(4)
    binary = binary_only(name)
    rows = sample(kind, 1000, rng, binary=binary)
    before = np.concatenate([rows] * 100)
    assert_is_typed(quick(name).measure(before, before[::-2], seed=0))


def rate_of_alarms(
    name: str, n_pairs: int, make: Callable[[np.random.Generator], tuple[Any, Any]]
) -> int:
    detector = quick(name)
    n_alarms = 0
    for i in range(n_pairs):
        before, after = make(np.random.default_rng([5, i]))
        p_value = detector.measure(before, after, seed=i).p_value
        n_alarms += p_value is not None and p_value <= 0.05
    return n_alarms


def n_null_pairs(name: str) -> int:
    """As many as the time allows: Evidently's tests cost up to a second a pair."""
    nature = getattr(detectors.get(name), "nature", None)
    if nature is None:
        return 100 if name in {"classifier", "mmd", "neighbours"} else 200
    if name in {"evidently:TVD", "evidently:empirical_mmd"}:  # permute a hundred times themselves
        return 1 if name == "evidently:TVD" else 10
    return 100 if nature.is_p_value and nature.holds else 10


@pytest.mark.parametrize(("name", "kind"), cases(slow_statistics=True))
def test_at_a_level_of_five_percent_one_quiet_window_in_twenty_alarms(name: str, kind: str) -> None:
    n_pairs = 20 if kind == "text" else n_null_pairs(name)
    binary = binary_only(name)

    def quiet(rng: np.random.Generator) -> tuple[Any, Any]:
        before, after = sample(kind, 300, rng, binary=binary), sample(kind, 120, rng, binary=binary)
        if name == "missing":
            before, after = (
                np.where(rng.random(len(side)) < 0.1, None, side) for side in (before, after)
            )
        return before, after

    n_alarms = rate_of_alarms(name, n_pairs, quiet)
    assert n_alarms <= binom.ppf(1 - 1e-4, n_pairs, 0.05)


@pytest.mark.parametrize(("name", "kind"), cases(slow_statistics=True))
def test_a_plain_shift_is_seen_in_nine_windows_of_ten(name: str, kind: str) -> None:
    n_pairs = 1 if name == "evidently:TVD" else 10
    binary = binary_only(name)
    n_alarms = rate_of_alarms(
        name,
        n_pairs,
        lambda rng: (sample(kind, 300, rng, binary=binary), worse(name, kind, 120, rng)),
    )
    assert n_alarms >= 0.9 * n_pairs
