"""A window is compared within its season, and what is too rare says what it fell back to."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from app.domain.observations import microseconds
from app.domain.seasons import MINIMUM_ROWS, UNKNOWN, Pools, matched, name_of, seasons_of

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)


def times(*hours):
    return np.array([microseconds(MONDAY + timedelta(hours=hour)) for hour in hours])


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("hour_of_day", ["00:00", "23:00", "01:00"]),
        ("day_of_week", ["Mon", "Mon", "Tue"]),
        ("hour_of_week", ["Mon 00:00", "Mon 23:00", "Tue 01:00"]),
    ],
)
def test_a_time_has_its_season(kind, names):
    found = seasons_of(times(0, 23.9, 25), kind)

    assert [name_of(season, kind) for season in found.tolist()] == names
    assert name_of(int(seasons_of(np.array([UNKNOWN]), kind)[0]), kind) == "no time"


def test_rows_are_drawn_by_season_in_the_proportions_of_the_window():
    reference = times(*[hour for day in range(60) for hour in (24 * day + 3, 24 * day + 15)])
    match = matched(Pools("hour_of_day", reference), times(3, 3, 3, 15))
    hours = seasons_of(reference[match.rows], "hour_of_day")

    assert match.fell_back == {}
    assert len(hours) == 96  # 1 / (0.75^2 / 60 + 0.25^2 / 60)
    assert [int((hours == hour).sum()) for hour in (3, 15)] == [72, 24]


def test_an_hour_of_the_week_that_is_too_rare_falls_back_to_the_hour_and_then_to_all():
    daily_at_three = times(*[24 * day + 3 for day in range(MINIMUM_ROWS)])
    match = matched(Pools("hour_of_week", daily_at_three), times(3, 15))

    assert match.fell_back == {"Mon 03:00": "03:00", "Mon 15:00": "whole reference"}


def test_a_reference_without_times_is_compared_whole_and_says_so():
    match = matched(Pools("hour_of_day", np.full(50, UNKNOWN)), times(1, 2))

    assert (match.rows == np.arange(50)).all()
    assert match.document("hour_of_day") == {
        "kind": "hour_of_day",
        "n_reference": 50,
        "fell_back": {"01:00": "whole reference", "02:00": "whole reference"},
    }


def test_many_seasons_in_few_rows_still_draw_as_many_as_there_are():
    reference = times(*range(24 * MINIMUM_ROWS))
    match = matched(Pools("hour_of_day", reference), times(*range(24)))

    assert len(match.rows) == len(reference)
    assert match.fell_back == {}
