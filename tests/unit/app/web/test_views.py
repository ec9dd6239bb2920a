"""What the pages conclude from what they are given."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import UUID

import pytest

from app.domain.versions import Transition, VersionEvent, VersionState
from app.web.views import as_ranked, choices, happenings, performance_of, ranked, state_of

START = datetime(2026, 1, 1, tzinfo=UTC)
MODEL = UUID(int=1)


@dataclass(frozen=True)
class Version:
    number: int
    state: VersionState = VersionState.CHAMPION
    accepted: dict = field(default_factory=dict)

    @property
    def id(self):
        return UUID(int=self.number)


def report(minute, version, last, *, finding="no_drift", first=1, performance=None):
    return {
        "id": UUID(int=1000 + minute),
        "version": version,
        "finding": finding,
        "window": {"first_sequence": first, "last_sequence": last},
        "scores": [{"feature": "brightness", "drifted": finding == "drift"}],
        "performance": performance,
        "created_at": START + timedelta(minutes=minute),
    }


def move(minute, number, event, after):
    at = START + timedelta(minutes=minute)
    before = VersionState.CHALLENGER
    return Transition(UUID(int=number), number, event, before, after, at, "upkeep", "because")


def told(reports, *, moves=(), starts=()):
    return happenings(None, MODEL, moves, reports, starts)


def test_drift_that_goes_on_is_marked_once_where_it_began():
    reports = [
        report(3, 1, 300, finding="drift"),
        report(2, 1, 200, finding="drift"),
        report(1, 1, 100),
    ]
    (mark,) = told(reports)
    assert (mark.kind, mark.sequence) == ("drift", 200)
    assert "brightness" in mark.text


def test_drift_that_the_next_version_sees_too_is_marked_again():
    reports = [report(2, 2, 200, finding="drift"), report(1, 1, 100, finding="drift")]
    assert [mark.sequence for mark in told(reports)] == [100, 200]


def test_a_promotion_stands_before_the_first_observation_its_version_answered():
    reports = [report(9, 2, 500, first=351), report(1, 1, 300)]
    moves = [move(5, 2, VersionEvent.PROMOTED, VersionState.CHAMPION)]
    (mark,) = told(reports, moves=moves)
    assert (mark.kind, mark.sequence, mark.version) == ("promoted", 350, 2)


def test_a_version_put_back_does_not_move_to_its_first_reign():
    reports = [report(9, 1, 500, first=1), report(3, 2, 400, first=201)]
    moves = [move(5, 1, VersionEvent.RESTORED, VersionState.CHAMPION)]
    (mark,) = told(reports, moves=moves)
    assert (mark.kind, mark.sequence) == ("rolled_back", 400)


def test_moves_that_change_nobody_in_charge_are_not_marked():
    moves = [
        move(1, 1, VersionEvent.EVALUATED, VersionState.CHALLENGER),
        move(2, 1, VersionEvent.SUPERSEDED, VersionState.SUPERSEDED),
    ]
    assert told([], moves=moves) == []


def test_a_report_about_an_earlier_champion_says_nothing_of_the_present_one():
    old = report(1, 1, 100, performance={"accuracy": 0.5, "n": 50, "floor": 0.9})
    champion = Version(2, accepted={"accuracy": 0.97, "n": 120, "role": "window"})
    assert performance_of(old, champion)["accuracy"] == 0.97
    assert performance_of(old, Version(1))["accuracy"] == 0.5
    assert performance_of(None, None)["accuracy"] is None


def test_signals_that_moved_come_first_then_the_larger_effects():
    scores = [
        {"feature": "a", "drifted": False, "effect": 0.9},
        {"feature": "b", "drifted": True, "effect": 0.2},
        {"feature": "c", "drifted": True, "effect": None},
        {"feature": "d", "drifted": True, "effect": 0.4},
    ]
    assert [score["feature"] for score in ranked(scores)] == ["d", "b", "c", "a"]


def test_only_moves_that_the_states_allow_are_offered():
    listed = [Version(number, state) for number, state in enumerate(VersionState, start=1)]
    champion = next(one for one in listed if one.state is VersionState.CHAMPION)
    offered = choices(listed, champion)
    assert {one.state for one in offered["promote"]} == {"challenger", "rejected", "superseded"}
    assert {one.state for one in offered["rollback"]} == {"superseded", "quarantined"}
    assert choices(listed, None)["rollback"] == []


@pytest.mark.parametrize(
    ("is_paused", "champion", "run", "is_checking", "state"),
    [
        (False, None, None, False, "waiting"),
        (False, Version(1), None, False, "watching"),
        (False, Version(1), None, True, "checking"),
        (True, Version(1), None, True, "paused"),
        (True, Version(1), "a run", True, "training"),
    ],
)
def test_the_state_is_the_one_that_matters_most(is_paused, champion, run, is_checking, state):
    model = SimpleNamespace(is_paused=is_paused)
    assert state_of(model, champion, run, {"is_checking": is_checking}) == state


def test_drawings_stand_in_the_order_of_their_scores_and_what_has_none_stands_last():
    scores = [
        {"feature": "age", "drifted": False, "effect": 0.9},
        {"feature": "scores", "drifted": True, "effect": 0.2},
        {"feature": "price of oil", "drifted": True, "effect": 0.4},
    ]
    names = ["gone", "age", "scores of cat", "scores of ant", "price of oil"]
    assert as_ranked(names, scores) == [
        "price of oil", "scores of ant", "scores of cat", "age", "gone"
    ]  # fmt: skip
