"""The chart's layout: places, scales, gaps, reigns."""

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from app.web.chart import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Happening,
    bucket_size,
    draw,
    sequence_at,
    wilson,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


def bucket(i, accuracy, *, n=100, first=None, n_labelled=None):
    labelled = n if n_labelled is None else n_labelled
    return {
        "first_sequence": 1000 + i * n,
        "last_sequence": 1000 + i * n + n - 1,
        "first_at": START + timedelta(hours=i),
        "last_at": START + timedelta(hours=i, minutes=59),
        "n": n,
        "n_labelled": labelled,
        "accuracy": accuracy,
        "by_version": {"1": {"n": labelled, "accuracy": first}} if first is not None else {},
    }


def promoted(version, sequence, kind="promoted"):
    return Happening(kind, START, sequence, f"version {version} {kind}", version)


def test_a_chart_without_observations_is_none():
    assert draw([], [], bucket=100) is None


@pytest.mark.parametrize("n", [0, 1, 479, 480, 481, 1190, 48_000, 1_000_000, 123_456_789])
def test_the_chart_never_has_more_than_48_buckets(n):
    assert bucket_size(n) >= 10
    assert n / bucket_size(n) <= 48


def test_a_higher_accuracy_is_drawn_higher_and_all_of_it_is_in_the_frame():
    drawn = draw([bucket(0, 0.9), bucket(1, 0.5), bucket(2, 1.0)], [], bucket=100)
    heights = [dot.y for dot in drawn.served.dots]
    assert heights[2] < heights[0] < heights[1]
    assert all(TOP <= y <= BOTTOM for y in heights)
    assert all(LEFT <= dot.x <= RIGHT for dot in drawn.served.dots)


@pytest.mark.parametrize("lowest", [0.0, 0.03, 0.2, 0.46, 0.5, 0.76, 0.8, 0.91, 0.99, 1.0])
def test_the_scale_ends_at_all_right_and_begins_below_the_lowest_value(lowest):
    drawn = draw([bucket(0, lowest), bucket(1, 1.0)], [], bucket=100)
    labels = [label for _, label in drawn.y_ticks]
    assert labels[-1] == "100%"
    assert float(labels[0].rstrip("%")) / 100 <= lowest
    assert len(labels) == len(set(labels)) <= 12


def test_a_bucket_without_labels_leaves_a_gap():
    items = [bucket(0, 0.9), bucket(1, 0.9), bucket(2, None, n_labelled=0), bucket(3, 0.8)]
    drawn = draw(items, [], bucket=100)
    assert drawn.served.path.count("M") == 2
    assert len(drawn.served.dots) == 3


def test_the_first_version_has_its_own_line_where_it_answered():
    drawn = draw([bucket(0, 0.9), bucket(1, 0.95, first=0.6)], [], bucket=100)
    assert len(drawn.first.dots) == 1
    assert drawn.first.newest == pytest.approx(0.6)
    assert drawn.rows[0]["first_version"] is None


def test_a_mark_stands_after_the_observation_it_names():
    items = [bucket(0, 0.9), bucket(1, 0.9)]
    drawn = draw(items, [promoted(2, 1099)], bucket=100)
    assert drawn.marks[0].x == pytest.approx((LEFT + RIGHT) / 2, abs=0.2)


@pytest.mark.parametrize(("sequence", "x"), [(0, LEFT), (999, LEFT), (1199, RIGHT), (5000, RIGHT)])
def test_a_mark_outside_the_observations_stands_at_the_edge(sequence, x):
    items = [bucket(0, 0.9), bucket(1, 0.9)]
    drawn = draw(items, [promoted(2, sequence)], bucket=100)
    assert drawn.marks[0].x == pytest.approx(x)


def test_marks_of_one_row_and_time_stand_side_by_side_the_newest_in_place():
    happened = [promoted(2, 1099), promoted(1, 1099, "rolled_back")]
    earlier, newest = draw([bucket(0, 0.9), bucket(1, 0.9)], happened, bucket=100).marks
    assert newest.x == newest.at_x == earlier.at_x
    assert earlier.x < newest.x


def test_reigns_follow_each_other_and_reach_the_end():
    items = [bucket(0, 0.9), bucket(1, 0.9)]
    happened = [promoted(1, 0), promoted(2, 1049), promoted(1, 1149, "rolled_back")]
    eras = draw(items, happened, bucket=100).eras
    assert [era.version for era in eras] == [1, 2, 1]
    assert all(
        one.x + one.width == pytest.approx(next_.x, abs=0.2) for one, next_ in pairwise(eras)
    )
    assert eras[-1].x + eras[-1].width == pytest.approx(RIGHT, abs=0.2)


def test_a_rejection_is_no_reign():
    drawn = draw([bucket(0, 0.9)], [promoted(1, 0), promoted(2, 1050, "rejected")], bucket=100)
    assert [era.version for era in drawn.eras] == [1]


def test_the_band_stays_in_the_frame_when_a_bucket_has_one_label():
    drawn = draw([bucket(0, 1.0, n_labelled=1), bucket(1, 0.0, n_labelled=1)], [], bucket=100)
    heights = [float(y) for _, y in re.findall(r"([\d.]+) ([\d.]+)", drawn.band)]
    assert all(TOP <= y <= BOTTOM for y in heights)


def test_the_interval_of_a_share_is_the_published_one():
    # 81 of 263, Newcombe (1998), table I: Wilson without continuity correction
    lower, upper = wilson(81 / 263, 263)
    assert (round(lower, 4), round(upper, 4)) == (0.2553, 0.3662)


def test_the_newest_observation_of_a_time_is_that_of_the_last_look_before_it():
    anchors = [(START, 10), (START + timedelta(hours=1), 20)]
    assert sequence_at(anchors, START - timedelta(seconds=1)) == 0
    assert sequence_at(anchors, START) == 10
    assert sequence_at(anchors, START + timedelta(minutes=30)) == 10
    assert sequence_at(anchors, START + timedelta(hours=2)) == 20
    assert sequence_at([], START) == 0
