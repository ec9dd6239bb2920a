"""The triggers that count, the one that knows the time, and what those say that read labels."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from jsonschema import Draft202012Validator

import app.triggers
from app.domain.decisions import Situation
from app.domain.drift import Finding
from app.domain.label_lag import LabelLag
from app.domain.performance import watch_accuracy
from app.domain.policies import Policy
from app.domain.registry import scan
from app.triggers import triggers

scan(app.triggers)

NOW = datetime(2026, 1, 31, 12, 0, 30, tzinfo=UTC)
SITUATION = Situation(now=NOW, is_paused=False, n_new_labels=100)


def fires(name, situation, **options):
    return triggers.get(name).read(situation, Policy(), options).fired


def test_the_triggers_are_there_with_options_that_are_a_schema():
    assert triggers.names() == ["drift", "growth", "manual", "performance", "schedule", "volume"]
    for name in triggers.names():
        trigger = triggers.get(name)
        Draft202012Validator.check_schema(dict(trigger.options))
        assert trigger.description


@pytest.mark.parametrize(("needed", "expected"), [(99, True), (100, True), (101, False)])
def test_volume_fires_from_so_many_new_labels_on(needed, expected):
    assert fires("volume", SITUATION, n_labels=needed) is expected


@pytest.mark.parametrize(("rows", "expected"), [(49, True), (50, True), (51, False), (0, False)])
def test_growth_fires_at_a_multiple_of_the_rows_learned_from(rows, expected):
    assert fires("growth", replace(SITUATION, n_training_rows=rows)) is expected
    assert fires("growth", replace(SITUATION, n_training_rows=2 * rows), share=1.0) is expected


@pytest.mark.parametrize(
    ("minutes_ago", "expected"), [(0, False), (0.4, False), (0.6, True), (600, True)]
)
def test_a_schedule_fires_once_for_each_time_that_passed(minutes_ago, expected):
    since = NOW - timedelta(minutes=minutes_ago)

    assert fires("schedule", replace(SITUATION, last_triggered_at=since), cron="* * * * *") is (
        expected
    )


def test_a_schedule_that_was_never_acted_on_waits_for_its_next_time():
    assert not fires("schedule", SITUATION, cron="* * * * *")


def test_manual_fires_on_a_request_only():
    assert not fires("manual", SITUATION)
    assert fires("manual", replace(SITUATION, request="please"))


LAG = LabelLag(400, 300, 1800.0, 3600.0, is_settled=True, n_due=200, n_due_labelled=150)
DRIFTED = replace(
    SITUATION,
    finding=Finding.DRIFT,
    drifted=("brightness",),
    drift_began_at=NOW - timedelta(minutes=20),
    label_lag=LAG,
)


def drift_says(situation):
    return triggers.get("drift").read(situation, Policy(), {})


def test_drift_waits_until_the_labels_of_its_first_rows_should_be_there():
    signal = drift_says(DRIFTED)

    assert signal.waits
    assert signal.waits_until == NOW + timedelta(minutes=40)
    assert "until 2026-01-31T12:40:30+00:00" in signal.reason
    assert "half of the labels come within 30 min, 95 % within 1 h" in signal.reason


def test_labels_that_should_be_there_by_now_are_called_overdue():
    signal = drift_says(replace(DRIFTED, drift_began_at=NOW - timedelta(hours=2)))

    assert (signal.waits, signal.waits_until) == (True, None)
    assert "overdue since 2026-01-31T11:00:30+00:00" in signal.reason


@pytest.mark.parametrize("lag", [None, replace(LAG, is_settled=False)])
def test_nobody_says_until_when_where_it_is_not_known_how_long_labels_take(lag):
    signal = drift_says(replace(DRIFTED, label_lag=lag))

    assert (signal.waits, signal.waits_until) == (True, None)
    assert "until" not in signal.reason


@pytest.mark.parametrize(
    ("n_right", "claim"), [(58, "no fall of accuracy is proved"), (590, "holds")]
)
def test_accuracy_is_said_to_hold_only_where_its_interval_does(n_right, claim):
    n = round(n_right / 0.983)
    correct = np.random.default_rng(1).permutation(np.arange(n) < n_right)
    seen = replace(SITUATION, performance=watch_accuracy(correct, 0.95, 0.02), label_lag=LAG)

    signal = triggers.get("performance").read(seen, Policy(), {})

    assert not signal.fired
    assert claim in signal.reason
    assert "150 of 200 answers old enough have a label" in signal.reason


def test_a_burst_of_errors_that_later_answers_made_good_starts_no_retrain():
    burst = np.r_[np.ones(300, bool), np.zeros(25, bool)]
    labelled = watch_accuracy(burst, 0.98, 0.0)
    made_good = watch_accuracy(np.r_[burst, np.ones(2500, bool)], 0.98, 0.0)

    assert fires("performance", replace(SITUATION, performance=labelled))
    assert made_good.is_decayed(Policy().performance.average_run_length)
    assert not fires("performance", replace(SITUATION, performance=made_good))
