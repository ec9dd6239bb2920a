"""The triggers that count and the one that knows the time."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from jsonschema import Draft202012Validator

import app.triggers
from app.domain.decisions import Situation
from app.domain.policies import Policy
from app.domain.registry import scan
from app.triggers import triggers

scan(app.triggers)

NOW = datetime(2026, 1, 31, 12, 0, 30, tzinfo=UTC)
SITUATION = Situation(now=NOW, is_paused=False, n_new_labels=100)


def fires(name, situation, **options):
    return triggers.get(name).read(situation, Policy(), options).fired


def test_the_five_triggers_are_there_with_options_that_are_a_schema():
    assert triggers.names() == ["drift", "manual", "performance", "schedule", "volume"]
    for name in triggers.names():
        trigger = triggers.get(name)
        Draft202012Validator.check_schema(dict(trigger.options))
        assert trigger.description


@pytest.mark.parametrize(("needed", "expected"), [(99, True), (100, True), (101, False)])
def test_volume_fires_from_so_many_new_labels_on(needed, expected):
    assert fires("volume", SITUATION, n_labels=needed) is expected


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
