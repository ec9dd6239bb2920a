"""Gates on versions that answer with numbers."""

from uuid import uuid4

import numpy as np
import pytest

from app.domain.evaluation import Comparison, Evidence, pair_losses
from app.gates import gates


def judge(gate, *, ours, theirs, n=200, metric="rmse", direction="minimize", **more):
    """Judge versions whose answers err by so much, as standard deviations, on n rows."""
    draw = np.random.default_rng(0)
    truth = draw.normal(100, 10, n)
    answers = [truth + draw.normal(0, size, n) for size in (ours, theirs)]
    found = pair_losses(*answers, truth, is_squared=True, scale=10.0)
    errors = [float(np.sqrt(np.mean((one - truth) ** 2))) for one in answers]
    summaries = [{"rmse": error, "right_share": 0.9} for error in errors]
    comparisons = [Comparison(role, n, *summaries, found) for role in ("window", "holdout")]
    golden = Comparison("golden", 10, summaries[0])
    shown = Evidence(
        uuid4(), uuid4(), [*comparisons, golden], metric, 0.01, direction=direction, **more
    )
    return gates.get(gate).judge(shown, {})


def test_a_challenger_that_errs_less_is_not_inferior():
    verdict = judge("not-inferior", ours=3, theirs=6)
    assert verdict.passed
    assert "mean squared error" in verdict.reason
    assert verdict.values["lower"] > 0


def test_a_challenger_that_errs_more_is_inferior():
    assert not judge("not-inferior", ours=6, theirs=3).passed


def test_few_rows_do_not_prove_that_one_that_errs_a_little_more_is_as_good():
    assert not judge("not-inferior", ours=5.2, theirs=5, n=12).passed


def test_a_challenger_that_tells_nothing_is_refused_whatever_the_champion_does():
    verdict = judge("not-inferior", ours=10.5, theirs=30)
    assert verdict.values["gain"] > 1
    assert not verdict.passed
    assert "no more than one constant" in verdict.reason


@pytest.mark.parametrize(("ours", "expected"), [(3, True), (3.05, True), (9, False)])
def test_the_old_rows_may_be_answered_worse_only_so_far(ours, expected):
    assert judge("keeps-the-old", ours=ours, theirs=3).passed is expected


@pytest.mark.parametrize(("baseline", "expected"), [(3.2, True), (2.0, False), (None, True)])
def test_an_error_must_be_at_most_the_baselines(baseline, expected):
    verdict = judge("beats-baseline", ours=3, theirs=3, baseline=baseline)
    assert verdict.passed is expected, verdict.reason


def test_the_golden_set_counts_numbers_within_the_scale():
    verdict = judge("golden-set", ours=3, theirs=3)
    assert not verdict.passed
    assert "0.900 of 10 golden rows right" in verdict.reason
