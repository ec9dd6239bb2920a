"""The rule that tells faults upstream from drift, fault by fault."""

import numpy as np
import pytest

from app.domain.fault_marks import Side
from app.domain.faults import (
    SCHEMA,
    FaultKind,
    Prior,
    Refusals,
    Standing,
    look_at_columns,
    look_at_refusals,
)
from app.domain.policies import FaultPolicy

RULES = FaultPolicy()
GENERATOR = np.random.default_rng(0)
REFERENCE = {
    "age": GENERATOR.normal(40, 10, 1000),
    "fare": GENERATOR.lognormal(size=1000),
    "colour": np.array(["red", "green", "blue", "green"] * 250, dtype=object),
    "n_words": GENERATOR.poisson(9, 1000).astype(float),
    "confidence": GENERATOR.uniform(size=1000),
}
FIELDS = {name: name for name in ("age", "fare", "colour")}


def window(n=200, seed=1):
    chosen = np.random.default_rng(seed).integers(0, 1000, n)
    return {name: values[chosen] for name, values in REFERENCE.items()}


def look(current, *, standing=None, seen_through=0, settled=(), rules=RULES):
    n = len(current["age"])
    return look_at_columns(
        {name: Side(values) for name, values in REFERENCE.items()},
        current,
        sequences=range(1, n + 1),
        prior=Prior(FIELDS, "title", (), standing or {}, settled, seen_through),
        rules=rules,
    )


def places(seen):
    return [fault.place for fault in seen.found]


def spiked(share, *, n=200, start=0):
    current = window(n)
    is_gone = np.random.default_rng(2).random(n) < share
    is_gone[:start] = False
    return {**current, "age": np.where(is_gone, np.nan, current["age"])}


BROKEN = {
    "a null spike": ("age", lambda v: np.full_like(v, np.nan), ("age", FaultKind.MISSING)),
    "a default": ("age", np.zeros_like, ("age", FaultKind.CONSTANT)),
    "a unit": ("fare", lambda v: v * 100, ("fare", FaultKind.SCALE)),
    "a smaller unit": ("fare", lambda v: v / 1000, ("fare", FaultKind.SCALE)),
    "kelvin": ("age", lambda v: v + 273.15, ("age", FaultKind.RANGE)),
    "one category": ("colour", lambda v: np.full_like(v, "red"), ("colour", FaultKind.CONSTANT)),
    "upper case": (
        "colour",
        lambda v: np.array([one.upper() for one in v], dtype=object),
        ("colour", FaultKind.CATEGORIES),
    ),
    "empty texts": ("n_words", np.zeros_like, ("title", FaultKind.BLANK)),
    "no texts": ("n_words", lambda v: np.full_like(v, np.nan), ("title", FaultKind.MISSING)),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_breaks_upstream_is_called_a_fault_of_its_kind(what):
    column, change, place = BROKEN[what]
    current = window()
    seen = look({**current, column: change(current[column])})
    assert places(seen) == [place]


HONEST = {
    "older": ("age", lambda v: v + 5),
    "wider": ("age", lambda v: 40 + 2 * (v - 40)),
    "dearer": ("fare", lambda v: v * 2),
    "a few missing": ("age", lambda v: np.where(np.arange(200) % 10 == 0, np.nan, v)),
    "a new colour": ("colour", lambda v: np.where(np.arange(200) % 4 == 0, "pink", v)),
    "mostly red": ("colour", lambda v: np.where(np.arange(200) % 10 > 0, "red", v)),
    "longer texts": ("n_words", lambda v: v * 40),
    "a surer model": ("confidence", np.ones_like),
}


@pytest.mark.parametrize("what", HONEST)
def test_what_the_world_does_is_no_fault(what):
    column, change = HONEST[what]
    current = window()
    assert look({**current, column: change(current[column])}).found == []


def test_a_reason_says_how_much_of_what_and_where_to_look():
    (fault,) = look(spiked(1.0)).found
    assert "age is missing in 100% of the newest 200 rows, in 0.0% of the reference" in fault.reason
    assert "a source that stopped" in fault.reason
    assert fault.numbers["interval"][0] > RULES.missing_share


def test_a_fault_is_seen_in_the_rows_since_the_last_look_alone():
    late = spiked(1.0, n=1000, start=940)
    assert look(late).found == []  # 6 % of all
    (fault,) = look(late, seen_through=920).found
    assert (fault.first_sequence, fault.last_sequence) == (941, 1000)


def test_a_few_rows_are_no_proof():
    assert look(spiked(1.0, n=49)).found == []


def test_without_fresh_rows_nothing_new_is_called():
    assert look(spiked(1.0), seen_through=200).found == []


STOOD = {("age", FaultKind.MISSING): Standing(100, {"column": "age"})}


def test_what_stood_is_judged_on_the_rows_after_it():
    mended = window(200)
    mended["age"] = np.where(np.arange(200) < 100, np.nan, mended["age"])
    seen = look(mended, standing=STOOD, seen_through=100)
    assert (seen.found, seen.mended) == ([], {("age", FaultKind.MISSING): None})


def test_the_last_broken_row_may_come_after_the_last_look():
    mended = window(300)
    mended["age"] = np.where(np.arange(300) < 110, np.nan, mended["age"])
    seen = look(mended, standing=STOOD, seen_through=100)
    assert seen.mended == {("age", FaultKind.MISSING): 110}


def test_what_stood_goes_on_until_half_the_limit():
    seen = look(spiked(0.15, n=1000), standing=STOOD, seen_through=100)
    assert places(seen) == [("age", FaultKind.MISSING)]
    seen = look(spiked(0.05, n=1000), standing=STOOD, seen_through=100)
    assert places(seen) == []


def test_what_stood_is_not_mended_by_a_few_rows():
    seen = look(window(140), standing=STOOD, seen_through=130)
    assert (seen.found, seen.mended) == ([], {})


def test_what_was_called_genuine_is_no_fault():
    assert look(spiked(1.0), settled={("age", FaultKind.MISSING)}).found == []


@pytest.mark.parametrize("kind", ["missing", "constant", "unseen", "beyond"])
def test_a_share_of_one_turns_a_kind_off(kind):
    rules = FaultPolicy(**{f"{kind}_share": 1.0})
    column, change, place = {
        "missing": BROKEN["a null spike"],
        "constant": BROKEN["a default"],
        "unseen": BROKEN["upper case"],
        "beyond": BROKEN["kelvin"],
    }[kind]
    current = window()
    seen = look({**current, column: change(current[column])}, rules=rules)
    assert place not in places(seen)


def test_so_many_refusals_are_a_broken_schema():
    came = Refusals(180, 20, reasons=[("/inputs/age", "is required", 180)])
    (fault,) = look_at_refusals(came, is_standing=False, rules=RULES).found
    assert fault.place == SCHEMA
    assert "180 of the last 200 observations were refused (90%): /inputs/age is required (180)" in (
        fault.reason
    )


@pytest.mark.parametrize(("refused", "accepted"), [(10, 190), (49, 0), (50, 150)])
def test_a_few_refusals_are_none(refused, accepted):
    came = Refusals(refused, accepted)
    assert look_at_refusals(came, is_standing=False, rules=RULES).found == ()


def test_a_broken_schema_is_mended_when_rows_come_in_again():
    stands = look_at_refusals(Refusals(30, 170), is_standing=True, rules=RULES)
    mended = look_at_refusals(Refusals(5, 195), is_standing=True, rules=RULES)
    unknown = look_at_refusals(Refusals(0, 20), is_standing=True, rules=RULES)
    assert (places(stands), mended.mended) == ([SCHEMA], {SCHEMA: None})
    assert (unknown.found, unknown.mended) == ((), {})
