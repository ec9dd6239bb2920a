"""False discovery control: q-values, and what they make of a report."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.drift import (
    DriftScore,
    Finding,
    Watch,
    benjamini_hochberg,
    finding_of,
    judge_scores,
)

P = st.floats(0, 1)


def score(feature: str, p_value: float | None, **more) -> DriftScore:
    return DriftScore(feature, "location", "ks", 1.0, p_value, 100, 100, **more)


@given(st.lists(P, max_size=30))
def test_a_q_value_is_never_under_its_p_value_nor_over_one(p_values):
    q_values = benjamini_hochberg(p_values)

    assert len(q_values) == len(p_values)
    assert all(p <= q + 1e-12 and q <= 1 for p, q in zip(p_values, q_values, strict=True))


@given(st.lists(P, min_size=1, max_size=30), st.floats(0.001, 0.5))
def test_q_values_reject_what_the_step_up_procedure_rejects(p_values, fdr):
    n = len(p_values)
    ordered = sorted(p_values)
    k = max((i for i in range(1, n + 1) if ordered[i - 1] * n / i <= fdr), default=0)

    rejected = sum(q <= fdr for q in benjamini_hochberg(p_values))

    assert rejected == sum(p <= ordered[k - 1] for p in p_values) if k else rejected == 0


@given(st.lists(P, min_size=2, max_size=30), st.randoms())
def test_the_order_of_the_features_does_not_matter(p_values, random):
    shuffled = list(enumerate(p_values))
    random.shuffle(shuffled)

    q_values = benjamini_hochberg([p for _, p in shuffled])

    straight = benjamini_hochberg(p_values)
    assert all(
        q == pytest.approx(straight[i]) for (i, _), q in zip(shuffled, q_values, strict=True)
    )


def test_a_sure_but_tolerated_shift_is_no_drift():
    judged = judge_scores(
        [
            score("a", 1e-9, effect=0.01, threshold=0.1),
            score("b", 1e-9, effect=0.3, threshold=0.1),
        ],
        fdr=0.05,
    )

    assert [each.drifted for each in judged] == [False, True]


def test_a_score_without_p_value_is_judged_by_its_threshold_alone():
    judged = judge_scores(
        [score("a", None, effect=0.2, threshold=0.1), score("b", None, effect=0.0, threshold=0.1)],
        fdr=0.05,
    )

    assert [each.drifted for each in judged] == [True, False]
    assert judged[0].q_value is None


def test_a_finding_needs_rows_and_scores():
    drifted = score("a", 0.0, drifted=True)

    assert finding_of([drifted], n_current=49, minimum_rows=50) is Finding.INSUFFICIENT_DATA
    assert finding_of([], n_current=50, minimum_rows=50) is Finding.INSUFFICIENT_DATA
    assert finding_of([drifted], n_current=50, minimum_rows=50) is Finding.DRIFT
    assert finding_of([score("a", 1.0)], n_current=50, minimum_rows=50) is Finding.NO_DRIFT


def test_the_leader_of_a_watch_has_the_most_evidence_in_whatever_order_it_was_kept() -> None:
    assert Watch(leading={"width": 1.0, "contrast": 9.0}).leader == "contrast"
    assert Watch().leader is None
