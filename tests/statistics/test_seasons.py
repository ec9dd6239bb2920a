"""A daily cycle is no drift once windows are compared within their hour; a shift still is."""

import numpy as np
import pytest

import workers.detectors
from app.domain.drift import Watch, after_look, next_look
from app.domain.registry import scan
from app.domain.seasons import Pools, matched
from app.domain.windows import WindowCounts
from workers.detectors import DEFAULTS
from workers.detectors.measure import Counted, measure_window
from workers.statistics.profile import FittedReference, Seen
from workers.statistics.watching import Bettor, table_of

scan(workers.detectors)
pytestmark = pytest.mark.slow
DAY = 24 * 3_600_000_000
ROWS_A_DAY = 240
FALSE_ALARM_ROWS = 10_000.0


def days(n, seed, *, start=0, shift=0.0):
    """Rows of some days with a daily cycle in a number and in what is chosen, and their times."""
    rng = np.random.default_rng(seed)
    times = (start + (np.arange(n * ROWS_A_DAY) + 0.5) / ROWS_A_DAY) * DAY
    cycle = np.sin(2 * np.pi * times / DAY)
    is_night = cycle + rng.normal(size=len(cycle)) > 0.5
    columns = {
        "numeric": {
            "load": 2 * cycle + rng.normal(size=len(cycle)) + shift,
            "noise": rng.normal(size=len(cycle)),
        },
        "categorical": {"kind": np.where(is_night, "night", "day").astype(object)},
    }
    return columns, times.astype(np.int64)


def watched(reference, stream, season):
    """Alarms of a model that is checked every 60 rows, windows of 180: three quarters of a day."""
    (before, before_times), (rows, times) = reference, stream
    fitted = FittedReference.of(table_of(before), times=before_times)
    watch, counts, n_alarms = Watch(), WindowCounts(180), 0
    table = table_of(rows)
    for start in range(0, len(times), 60):
        new = slice(start, start + 60)
        numbers = np.arange(start + 1, start + 61)
        codes = fitted.layout.codes({name: v[new] for name, v in table.items()}, 60)
        bettor = Bettor.of(fitted, watch, false_alarm_rows=FALSE_ALARM_ROWS, season=season)
        seen = bettor.seen(codes, times[new], through=start + 60).watch()
        counts = counts.with_rows(fitted.layout, codes, sequences=numbers, observed_at=times[new])
        level, is_look = next_look(
            watch, n_fresh=60, minimum_rows=50, fdr=0.05, false_alarm_rows=FALSE_ALARM_ROWS
        )
        compared = fitted
        if season != "none":
            compared = fitted.matched(matched(Pools(season, before_times), counts.times()))
        counted = Counted(compared, Seen.of(counts, fitted.layout))
        scores = measure_window(before, rows, DEFAULTS, fdr=level, seed=0, counted=counted)
        drifted = any(score.drifted for score in scores)
        rang = seen.value >= seen.limit
        n_alarms += (drifted or rang) and not watch.stood
        looked = start + 60 if is_look else watch.looked_through
        watch = after_look(watch, seen, level=level, looked_through=looked, drifted=drifted)
    return n_alarms


def test_a_daily_cycle_is_quiet_within_the_hour_and_an_alarm_a_day_without():
    alarms = {"none": 0, "hour_of_day": 0}
    n_rows = 0
    for seed in range(4):
        reference, stream = days(16, [seed, 0]), days(20, [seed, 1], start=16)
        n_rows += 20 * ROWS_A_DAY
        for season in alarms:
            alarms[season] += watched(reference, stream, season)

    assert alarms["hour_of_day"] <= 1 + 2 * n_rows / FALSE_ALARM_ROWS
    assert alarms["none"] > 10 * max(1, alarms["hour_of_day"])


@pytest.mark.parametrize("shift", [0.7, -0.7])
def test_a_shift_within_the_hour_is_found(shift):
    found = 0
    for seed in range(6):
        stream = days(2, [seed, 2], start=16, shift=shift)
        found += watched(days(16, [seed, 0]), stream, "hour_of_day") > 0

    assert found >= 5
