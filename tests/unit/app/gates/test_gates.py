"""Each gate on evidence made up for it."""

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import app.gates
from app.domain.evaluation import Comparison, Evidence, PairedCount
from app.domain.registry import scan
from app.gates import gates

scan(app.gates)

CHAMPION = uuid4()


def comparison(role, both, ours, theirs, neither):
    pairs = PairedCount(both, ours, theirs, neither)
    return Comparison(
        role,
        pairs.n,
        {"accuracy": pairs.challenger_accuracy},
        {"accuracy": pairs.champion_accuracy},
        pairs,
    )


def evidence(*comparisons, champion=CHAMPION, **more):
    return Evidence(
        challenger_id=uuid4(),
        champion_id=champion,
        comparisons=comparisons,
        metric="accuracy",
        margin=0.01,
        **more,
    )


def judge(name, shown, **options):
    return gates.get(name).judge(shown, options)


def passes(name, shown, **options):
    return judge(name, shown, **options).passed


def test_the_gates_are_there_with_options_that_are_a_schema():
    assert set(gates.names()) >= {
        "beats-baseline",
        "golden-set",
        "keeps-the-old",
        "no-leakage",
        "not-inferior",
    }
    for name in gates.names():
        gate = gates.get(name)
        Draft202012Validator.check_schema(dict(gate.options))
        assert gate.description


@pytest.mark.parametrize(
    ("baseline", "expected"), [(None, True), (0.80, True), (0.85, True), (0.86, False)]
)
def test_the_baseline_must_be_reached_within_the_margin_and_one_standard_error(baseline, expected):
    shown = evidence(comparison("holdout", 70, 10, 10, 10), baseline=baseline)

    assert passes("beats-baseline", shown) is expected


def test_a_better_challenger_is_not_inferior():
    assert passes("not-inferior", evidence(comparison("window", 700, 200, 50, 50)))


def test_a_worse_challenger_is_inferior():
    assert not passes("not-inferior", evidence(comparison("window", 700, 50, 200, 50)))


def test_few_rows_do_not_prove_that_a_slightly_worse_challenger_is_as_good():
    assert not passes("not-inferior", evidence(comparison("window", 10, 1, 2, 1)))


def test_the_first_version_has_nobody_to_be_inferior_to():
    assert passes("not-inferior", evidence(champion=None))


def test_a_champion_without_rows_to_compare_on_is_not_replaced():
    verdict = judge("not-inferior", evidence())

    assert not verdict.passed
    assert "no labelled rows" in verdict.reason


@pytest.mark.parametrize(("theirs", "expected"), [(0, True), (3, True), (60, False)])
def test_the_old_rows_may_be_forgotten_only_so_far(theirs, expected):
    shown = evidence(comparison("holdout", 900, 0, theirs, 40))

    assert passes("keeps-the-old", shown, tolerated_loss=0.02) is expected


def test_a_leaked_row_forbids_promotion():
    assert passes("no-leakage", evidence())
    assert not passes("no-leakage", evidence(leaked_rows=1))


def test_the_golden_set_must_be_there_and_answered():
    assert not passes("golden-set", evidence())
    assert passes("golden-set", evidence(comparison("golden", 10, 0, 0, 0)))
    missed = evidence(comparison("golden", 9, 0, 1, 0))
    assert not passes("golden-set", missed)
    assert passes("golden-set", missed, minimum_share=0.9)


COUNTS = st.integers(0, 500)


@given(
    st.sampled_from(
        ["beats-baseline", "golden-set", "keeps-the-old", "no-leakage", "not-inferior"]
    ),
    st.tuples(COUNTS, COUNTS, COUNTS, COUNTS),
)
def test_a_gate_answers_whatever_the_counts_and_the_same_each_time(name, counts):
    if sum(counts) == 0:
        return
    shown = evidence(*(comparison(role, *counts) for role in ("holdout", "window", "golden")))

    verdict = judge(name, shown)

    assert verdict == judge(name, shown)
    assert verdict.gate == name
    assert verdict.reason


@given(st.tuples(COUNTS, COUNTS, COUNTS, COUNTS))
def test_one_more_row_for_the_challenger_never_turns_a_pass_into_a_fail(counts):
    both, ours, theirs, neither = counts
    before = evidence(comparison("window", both, ours, theirs + 1, neither))
    after = evidence(comparison("window", both, ours + 1, theirs, neither))

    assert not (passes("not-inferior", before) and not passes("not-inferior", after))
