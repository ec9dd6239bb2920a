"""Fields are watched by what stays as it was while time goes on."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

import workers.detectors
from app.domain.observations import ContractField, FieldType
from app.domain.registry import scan
from workers.detectors import DEFAULTS
from workers.detectors.measure import measure_window
from workers.jobs.fields import bound_to_the_clock, field_columns

scan(workers.detectors)

START = datetime(2026, 1, 1, tzinfo=UTC)
SINCE = ContractField("since", FieldType.DATETIME)
MAYBE = ContractField("since", FieldType.DATETIME, is_required=False)
VECTOR = ContractField("vector", FieldType.EMBEDDING, is_required=False, dimension=3)


def moments(n, *, days_later=0.0, over_days, age_days, seed):
    """Return n inputs and times spread over some days, each input so many days old and more."""
    draw = np.random.default_rng(seed)
    times = [START + timedelta(days=days_later + d) for d in draw.uniform(0, over_days, n)]
    ages = draw.exponential(200, n) + age_days
    inputs = [
        {"since": (at - timedelta(days=age)).isoformat()}
        for at, age in zip(times, ages, strict=True)
    ]
    return inputs, times


def drifted(reference, current):
    before, after = (field_columns([SINCE], *side) for side in (reference, current))
    scores = measure_window(before, after, DEFAULTS, fdr=0.01, seed=0)
    return {score.feature for score in scores if score.drifted}


def test_moments_long_ago_do_not_drift_merely_because_a_year_went_by():
    reference = moments(2000, over_days=90, age_days=10, seed=1)
    hour_of_a_later_year = moments(500, days_later=400, over_days=0.04, age_days=10, seed=2)

    assert drifted(reference, hour_of_a_later_year) == set()


def test_moments_that_became_older_drift_in_their_age():
    reference = moments(2000, over_days=90, age_days=10, seed=1)
    older = moments(500, days_later=90, over_days=5, age_days=110, seed=2)

    assert "since.age_seconds" in drifted(reference, older)


def test_moments_all_at_midnight_drift_in_their_time_of_day():
    reference = moments(2000, over_days=90, age_days=10, seed=1)
    inputs, times = moments(500, days_later=90, over_days=5, age_days=10, seed=2)
    cut = [{"since": row["since"][:10] + "T00:00:00+00:00"} for row in inputs]

    assert drifted(reference, (cut, times)) == {"since.part_of_day"}


@pytest.mark.parametrize(
    ("age", "bound"),
    [
        (timedelta(minutes=5), {"since.part_of_day", "since.weekday"}),
        (timedelta(days=3), {"since.weekday"}),
        (timedelta(days=30), set()),
    ],
)
def test_a_moment_just_gone_by_tells_only_when_it_was_observed(age, bound):
    times = [START + timedelta(hours=n) for n in range(50)]
    inputs = [{"since": (at - age).isoformat()} for at in times]

    assert bound_to_the_clock([SINCE], inputs, times) == bound


def test_ages_are_left_out_where_not_all_rows_tell_when_they_were_observed():
    inputs, times = moments(10, over_days=1, age_days=1, seed=0)

    assert set(field_columns([SINCE], inputs, times)["numeric"]) == {"since.age_seconds"}
    assert not field_columns([SINCE], inputs, [*times[1:], None])["numeric"]


def test_what_is_missing_is_missing_in_every_signal():
    day = "2026-01-01T13:30:00+00:00"
    rows = [{"since": day, "vector": [3.0, 0.0, 4.0]}, {}]

    found = field_columns([MAYBE, VECTOR], rows, [START, START])

    assert found["categorical"]["since.part_of_day"].tolist() == ["12-16", None]
    assert found["categorical"]["since.weekday"].tolist() == ["Thu", None]
    assert found["categorical"]["since.is_missing"].tolist() == ["False", "True"]
    np.testing.assert_array_equal(found["numeric"]["since.age_seconds"], [-13.5 * 3600, np.nan])
    np.testing.assert_array_equal(found["embedding"]["vector"], [[3, 0, 4], [np.nan] * 3])
    np.testing.assert_array_equal(found["numeric"]["vector.length"], [5, np.nan])


def test_a_text_that_nothing_reads_is_watched_for_being_there():
    note = ContractField("note", FieldType.TEXT, is_required=False)
    before = field_columns([note], [{"note": f"words {n}"} for n in range(300)], [START] * 300)
    after = field_columns([note], [{}, {"note": "words"}] * 100, [START] * 200)

    (score,) = measure_window(before, after, DEFAULTS, fdr=0.01, seed=0)

    assert (score.feature, score.kind, score.drifted) == ("note", "missing", True)
