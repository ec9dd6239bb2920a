import numpy as np

from app.domain.drift import Watch, next_look
from workers.statistics.watching import watch_window

RATE = 10_000.0
REFERENCE = {"numeric": {"a": np.random.default_rng(0).normal(size=2000)}, "categorical": {}}


def window(values):
    return {"numeric": {"a": np.asarray(values)}}


def watched(values, last=Watch(), *, first=1, reference=REFERENCE):  # noqa: B008  frozen
    sequences = range(first, first + len(values))
    return watch_window(reference, window(values), last, sequences=sequences, false_alarm_rows=RATE)


def test_rows_that_were_seen_are_not_seen_again():
    rows = np.random.default_rng(1).normal(size=300)
    once = watched(rows)

    assert watched(rows, once).values == once.values
    assert watched(rows, once).value == 0.0
    assert watched(rows, once).n_rows == 300


def test_only_the_rows_after_the_last_report_are_added():
    rows = np.random.default_rng(2).normal(size=300)
    first = watched(rows[:200])
    both = watched(rows[100:], first, first=101)

    assert both.n_rows == 300
    assert both.through == 300


def test_a_shift_raises_the_alarm_and_names_the_column():
    moved = watched(np.random.default_rng(3).normal(1.0, 1.0, 200))

    assert moved.value >= moved.limit == 2 * RATE
    assert moved.alarmed_at == 200
    assert next(iter(moved.leading)) == "a"


def test_the_bets_start_anew_after_an_alarm():
    moved = watched(np.random.default_rng(3).normal(1.0, 1.0, 200))
    quiet = watched(np.random.default_rng(4).normal(size=100), moved, first=201)

    assert quiet.n_rows == 100
    assert quiet.value < quiet.limit
    assert quiet.alarmed_at == 200


def test_the_bets_start_anew_after_an_alarm_that_was_looked_at_again_without_new_rows():
    rows = np.random.default_rng(3).normal(1.0, 1.0, 200)
    again = watched(rows, watched(rows))
    quiet = watched(np.random.default_rng(4).normal(size=100), again, first=201)

    assert again.value == 0.0
    assert quiet.n_rows == 100
    assert quiet.value < quiet.limit


def test_the_bets_start_anew_when_the_columns_change():
    first = watched(np.random.default_rng(5).normal(size=200))
    other = {"numeric": {"b": REFERENCE["numeric"]["a"]}, "categorical": {}}
    after = watch_window(
        other,
        {"numeric": {"b": np.zeros(50)}},
        first,
        sequences=range(201, 251),
        false_alarm_rows=RATE,
    )

    assert after.n_rows == 50
    assert list(after.columns) == ["b"]


def test_a_reference_that_wandered_makes_the_watch_tolerant():
    rng = np.random.default_rng(6)
    wandering = np.concatenate([rng.normal(level, 1.0, 500) for level in (0.0, 0.4, -0.3, 0.5)])
    steady = watched(rng.normal(0.3, 1.0, 200))
    tolerant = watched(
        rng.normal(0.3, 1.0, 200), reference={"numeric": {"a": wandering}, "categorical": {}}
    )

    assert tolerant.tolerance > 2 * steady.tolerance


def test_a_look_costs_its_fresh_rows_and_never_more_than_the_rate_allows():
    rule = {"minimum_rows": 50, "fdr": 0.05, "false_alarm_rows": RATE}

    assert next_look(Watch(), n_fresh=200, **rule) == (0.01, True)
    assert next_look(Watch(), n_fresh=5000, **rule) == (0.05, True)
    assert next_look(Watch(), n_fresh=49, **rule) == (0.0, False)


def test_between_looks_the_same_evidence_gives_the_same_answer():
    rule = {"minimum_rows": 50, "fdr": 0.05, "false_alarm_rows": RATE}
    looked = Watch(level=0.02, looked_through=900)

    assert next_look(looked, n_fresh=0, **rule) == (0.02, False)
    assert next_look(looked, n_fresh=10, **rule) == (0.0, False)


def test_a_finding_that_stands_is_judged_at_the_level_that_found_it():
    rule = {"minimum_rows": 50, "fdr": 0.05, "false_alarm_rows": RATE}
    standing = Watch(level=0.04, looked_through=900, stood=True)

    assert next_look(standing, n_fresh=10, **rule) == (0.04, False)
    assert next_look(standing, n_fresh=100, **rule) == (0.04, True)
