"""Retrain, skip or defer: a table of situations and what is concluded from each."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import numpy as np
import pytest

import app.triggers
from app.domain.decisions import Decision, Outcome, Situation, decide, in_words
from app.domain.drift import Finding
from app.domain.estimation import Bounded
from app.domain.performance import PerformanceEvidence, watch_accuracy
from app.domain.policies import Policy, RetrainPolicy
from app.domain.registry import scan
from app.triggers import triggers

scan(app.triggers)

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
POLICY = Policy(retrain=RetrainPolicy(cool_down_seconds=60, minimum_new_labels=50))
CALM = Situation(
    now=NOW,
    is_paused=False,
    finding=Finding.NO_DRIFT,
    n_new_labels=500,
    n_training_rows=500,
    n_classes_labelled=2,
)


def performance(log_e: float, *, n: int = 500) -> PerformanceEvidence:
    return PerformanceEvidence(n, 0.7, 0.9, log_e, log_e, 100, 400, 0.6, 0.5, 0.7, 0.91, 0.95)


HOLDS, SUSPECT, FALLEN = performance(0.0), performance(8.0), performance(20.0)
UNDER = Bounded(0.8, 0.75, 0.85, 1000, 60)
DRIFTED = replace(CALM, finding=Finding.DRIFT, drifted=("brightness",))


def conclude(situation: Situation, policy: Policy = POLICY) -> Decision:
    signals = [
        triggers.get(name).read(situation, policy, options)
        for name, options in sorted(policy.triggers.items())
    ]
    return decide(situation, signals, policy)


TABLE = {
    "nothing happened": (CALM, Outcome.SKIP, None, "no_drift"),
    "no report yet": (replace(CALM, finding=None), Outcome.SKIP, None, "no report yet"),
    "drift that does no harm": (
        replace(DRIFTED, performance=HOLDS),
        Outcome.SKIP,
        None,
        "accuracy holds",
    ),
    "drift whose own rows have no labels yet waits": (
        replace(DRIFTED, performance=HOLDS, n_labels_since_drift=12),
        Outcome.DEFER,
        None,
        "12 of 50",
    ),
    "drift whose own rows are labelled, and does no harm": (
        replace(DRIFTED, performance=HOLDS, n_labels_since_drift=50),
        Outcome.SKIP,
        None,
        "accuracy holds",
    ),
    "a fall that is proved needs no more labels": (
        replace(DRIFTED, performance=SUSPECT, n_labels_since_drift=12),
        Outcome.RETRAIN,
        "drift",
        "drift in brightness",
    ),
    "drift without labels waits": (DRIFTED, Outcome.DEFER, None, "waiting for labels"),
    "drift with too few labels waits": (
        replace(DRIFTED, performance=performance(20.0, n=49)),
        Outcome.DEFER,
        None,
        "49 of 50",
    ),
    "drift, and a weaker proof that it hurts": (
        replace(DRIFTED, performance=SUSPECT),
        Outcome.RETRAIN,
        "drift",
        "drift in brightness",
    ),
    "drift, and a burst of errors that was made good": (
        replace(DRIFTED, performance=replace(SUSPECT, log_e_value=2.0)),
        Outcome.SKIP,
        None,
        "accuracy holds",
    ),
    "drift, and an estimate that labels of these rows have tested": (
        replace(DRIFTED, performance=HOLDS, n_labels_since_drift=50, estimated=UNDER),
        Outcome.RETRAIN,
        "drift",
        "estimated at 0.800 [0.750, 0.850] over 1000 rows, tested by 60 labels",
    ),
    "the same before its labels came": (
        replace(DRIFTED, performance=HOLDS, n_labels_since_drift=49, estimated=UNDER),
        Outcome.DEFER,
        None,
        "49 of 50",
    ),
    "an estimate that may still be above the floor": (
        replace(
            DRIFTED,
            performance=HOLDS,
            n_labels_since_drift=50,
            estimated=replace(UNDER, upper=0.91),
        ),
        Outcome.SKIP,
        None,
        "accuracy holds",
    ),
    "an estimate under the floor without drift": (
        replace(CALM, performance=HOLDS, estimated=UNDER),
        Outcome.SKIP,
        None,
        "accuracy holds",
    ),
    "the weaker proof without drift": (
        replace(CALM, performance=SUSPECT),
        Outcome.SKIP,
        None,
        "accuracy holds",
    ),
    "accuracy alone has fallen": (
        replace(CALM, performance=FALLEN),
        Outcome.RETRAIN,
        "performance",
        "evidence of a fall",
    ),
    "a slice has fallen, hidden by the others": (
        replace(CALM, performance=HOLDS, fallen_slices=("accuracy of site=b is 0.6",)),
        Outcome.RETRAIN,
        "performance",
        "accuracy of site=b is 0.6; of all, ",
    ),
    "paused": (
        replace(CALM, performance=FALLEN, is_paused=True),
        Outcome.DEFER,
        "performance",
        "paused",
    ),
    "broken upstream": (
        replace(CALM, performance=FALLEN, incidents=("incident 7 (missing, age) stands",)),
        Outcome.DEFER,
        "performance",
        "incident 7 (missing, age) stands",
    ),
    "a run is in flight": (
        replace(CALM, performance=FALLEN, runs_in_flight=[uuid4()]),
        Outcome.DEFER,
        "performance",
        "in flight",
    ),
    "cooling down": (
        replace(CALM, performance=FALLEN, last_run_ended_at=NOW - timedelta(seconds=59)),
        Outcome.DEFER,
        "performance",
        "cooling down",
    ),
    "cooled down": (
        replace(CALM, performance=FALLEN, last_run_ended_at=NOW - timedelta(seconds=60)),
        Outcome.RETRAIN,
        "performance",
        "evidence of a fall",
    ),
    "too few new labels": (
        replace(CALM, performance=FALLEN, n_new_labels=49),
        Outcome.DEFER,
        "performance",
        "49 new labels of the 50 needed",
    ),
    "too little growth": (
        replace(CALM, performance=FALLEN, n_training_rows=10_000),
        Outcome.DEFER,
        "performance",
        "grow the training set",
    ),
    "too little growth, but unbearable errors": (
        replace(CALM, performance=FALLEN, n_training_rows=10_000, regret=301.0),
        Outcome.RETRAIN,
        "performance",
        "evidence of a fall",
    ),
    "one class": (
        replace(CALM, performance=FALLEN, n_classes_labelled=1),
        Outcome.DEFER,
        "performance",
        "one class only",
    ),
}


@pytest.mark.parametrize(("situation", "outcome", "trigger", "said"), TABLE.values(), ids=TABLE)
def test_what_is_concluded(situation, outcome, trigger, said):
    decision = conclude(situation)

    assert (decision.outcome, decision.trigger) == (outcome, trigger)
    assert said in decision.reason
    assert decision == conclude(situation)


def test_evidence_beyond_all_floats_is_told_as_it_is():
    labelled = watch_accuracy(np.zeros(3000, dtype=bool), 0.95, 0.02)

    said = in_words(labelled)

    assert labelled.log_e_value_max > 3000
    exponent = int(said.rpartition("e+")[2].rstrip(")"))
    assert exponent == math.floor(labelled.log_e_value_max / math.log(10))


def test_a_cool_down_says_until_when():
    ended = NOW - timedelta(seconds=10)

    decision = conclude(replace(CALM, performance=FALLEN, last_run_ended_at=ended))

    assert decision.defer_until == ended + timedelta(seconds=60)


def test_a_persons_request_passes_pause_and_cool_down_but_not_a_run_in_flight():
    asked = replace(CALM, request="I say so", is_paused=True, last_run_ended_at=NOW, n_new_labels=0)
    signal = triggers.get("manual").read(asked, POLICY, {})

    assert decide(asked, [signal], POLICY).outcome is Outcome.RETRAIN
    busy = replace(asked, runs_in_flight=[uuid4()])
    assert decide(busy, [signal], POLICY).outcome is Outcome.DEFER


def test_only_requests_may_have_several_runs_in_flight_and_no_more_than_the_policy_says():
    roomy = replace(POLICY, retrain=replace(POLICY.retrain, maximum_in_flight=2))
    asked = replace(CALM, request="I say so", runs_in_flight=[uuid4()])
    signal = triggers.get("manual").read(asked, roomy, {})
    fallen = replace(CALM, performance=FALLEN, runs_in_flight=[uuid4()])
    fired = triggers.get("performance").read(fallen, roomy, {})

    assert fired.fired
    assert decide(asked, [signal], roomy).outcome is Outcome.RETRAIN
    full = replace(asked, runs_in_flight=[uuid4(), uuid4()])
    assert decide(full, [signal], roomy).outcome is Outcome.DEFER
    assert decide(fallen, [fired], roomy).outcome is Outcome.DEFER


def test_a_persons_request_meets_what_is_broken_upstream_unless_it_is_forced():
    asked = replace(CALM, request="I say so", incidents=("incident 7 stands",))
    signal = triggers.get("manual").read(asked, POLICY, {})

    assert decide(asked, [signal], POLICY).outcome is Outcome.DEFER
    assert decide(replace(asked, is_forced=True), [signal], POLICY).outcome is Outcome.RETRAIN


def test_without_triggers_nothing_is_done_and_the_reason_says_so():
    decision = conclude(replace(DRIFTED, performance=FALLEN), replace(POLICY, triggers={}))

    assert (decision.outcome, decision.reason) == (Outcome.SKIP, "no trigger is configured")
