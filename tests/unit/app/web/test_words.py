"""Numbers and times in words."""

from datetime import UTC, datetime, timedelta

import pytest

from app.web import words

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "just now"),
        (-3, "just now"),
        (30, "30 s ago"),
        (60, "1 min ago"),
        (3599, "59 min ago"),
        (7200, "2 h ago"),
        (86_400 * 3, "3 d ago"),
    ],
)
def test_a_past_time_is_said_in_the_unit_that_fits(seconds, said):
    assert words.ago(NOW - timedelta(seconds=seconds), NOW) == said


def test_what_never_happened_is_never():
    assert words.ago(None, NOW) == "never"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (59.6, "1 min 00 s"),
        (76, "1 min 16 s"),
        (3725, "1 h 02 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_a_duration_is_said_in_two_units(seconds, said):
    assert words.lasting(seconds) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.0, "< 0.0001"), (0.00012, "0.00012"), (0.0263, "0.026"), (0.6, "0.60"), (1.0, "1.00")],
)
def test_a_q_value_keeps_the_digits_that_count(value, said):
    assert words.small(value) == said


def test_a_loss_in_points_has_a_real_minus():
    assert words.points(-0.0234) == "\u22122.3"
    assert words.points(0.068) == "+6.8"


def test_what_is_not_known_is_a_dash_in_every_form():
    forms = (words.percent, words.points, words.count, words.small, words.number, words.size)
    assert {form(None) for form in (*forms, words.lasting, words.exact)} == {"–"}


def test_every_state_has_a_tone_and_an_unknown_one_is_calm():
    assert words.tone("quarantined") == "bad"
    assert words.tone("no such state") == "idle"


def test_a_size_is_said_in_the_unit_that_fits():
    assert [words.size(n) for n in (12, 1_260_000, 3_400_000_000)] == ["12 B", "1.26 MB", "3.4 GB"]
