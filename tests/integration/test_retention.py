"""Retention: what a policy wants forgotten is, whatever other models want, and nothing waits."""

import gzip
import time
from datetime import timedelta

import pytest
from pydantic import TypeAdapter
from sqlalchemy import text

from app.adapters.postgres.writing import INLINE_ROWS
from app.domain.decisions import Situation, decide
from app.domain.errors import Forgotten, Invalid
from app.domain.versions import VersionEvent
from app.services import decisions, drift, models, observations, retention, snapshots
from app.services.policies import read_policy
from app.services.ports import Page
from tests.integration.support import (
    LABELS,
    actor,
    add_version,
    age,
    feed,
    fresh,
    now,
    partitions,
    retrain,
    rows_of,
    text_model,
)

N = 3 * INLINE_ROWS
MOVED = {"histograms": {}, "exemplars": [{"text": "odd"}], "classes": {}}
WEEK = {"retention": {"inputs_days": 7}}


@pytest.fixture(scope="module")
def alone(servers):
    """A database of its own: retention acts on all models."""
    with fresh(servers) as both:
        yield both


@pytest.fixture
def work(alone):
    return alone[0]


@pytest.fixture
def engine(alone):
    """The database, emptied of models that others made."""
    with alone[1].begin() as connection:
        connection.execute(text("UPDATE policies SET document = document - 'retention'"))
    return alone[1]


@pytest.fixture
def week(engine, work):
    return text_model(work, policy=WEEK)


def enforce(work, *, days=0):
    """Let the scheduler turn until nothing is left, so many days from now."""
    later = now() + timedelta(days=days)
    n = 0
    while True:
        n += retention.enforce(work, now=later)
        with work:
            if not work.retention.due(later.date()):
                return n


def newest(work, model):
    with work:
        return [row.id for row in work.observations.newest(model.id, version=1, limit=10_000)]


def batch(n, prefix="o"):
    return [{**row, "version": 1} for row in rows_of(n, prefix=prefix)]


def shown(work, model):
    with work:
        return retention.shown(work, work.models.by_id(model.id))


@pytest.mark.parametrize("n", [INLINE_ROWS - 1, N])
def test_what_is_forgotten_loses_its_inputs_and_stays_known(work, engine, week, n):
    feed(work, week, batch(n))
    age(engine, days=8)
    feed(work, week, batch(2, "new"))

    assert enforce(work) == n

    assert newest(work, week) == ["new-0", "new-1"]
    done = observations.ingest(work, actor(work), week.name, batch(n), now=now())
    assert done.n_duplicates == n
    with work:
        row = work.observations.get(week.id, "o-0")
    assert (row["is_forgotten"], row["inputs"], row["label"]) == (True, None, LABELS[0])
    found = shown(work, week)["inputs"]
    assert (found["days"], found["n_forgotten"]) == (7, n)
    assert found["before"] == now().date() - timedelta(days=7)


def test_rows_of_the_days_that_are_kept_stay(work, engine, week):
    feed(work, week, batch(N))
    age(engine, days=7)

    assert enforce(work) == 0
    assert len(newest(work, week)) == N
    assert enforce(work, days=1) == N


def test_a_model_without_retention_keeps_everything(work, engine):
    model = text_model(work)
    feed(work, model, batch(N))
    age(engine, days=4000)

    assert enforce(work) == 0
    assert len(newest(work, model)) == N


def test_a_day_goes_when_the_last_model_no_longer_needs_it(work, engine, week):
    month = text_model(work, policy={"retention": {"inputs_days": 30}})
    today = now().date()
    with work:
        work.observations.prepare_days(today - timedelta(days=21), ahead=1)
    day = f"observation_segments_{today - timedelta(days=20):%Y%m%d}"
    assert day in partitions(engine)
    with engine.begin() as connection:
        # Who is at work on a day, or on the rows of no day, keeps it from being dropped.
        for name in partitions(engine):
            for kind in ("", "toast."):
                off = f"{kind}autovacuum_enabled = false"
                connection.execute(text(f"ALTER TABLE {name} SET ({off})"))
    for model in (week, month):
        feed(work, model, batch(N), labelled=False)
    age(engine, days=20)

    assert enforce(work) == N
    assert (newest(work, week), len(newest(work, month))) == ([], N)
    assert day in partitions(engine)
    assert enforce(work, days=11) == N
    assert newest(work, month) == []
    for days in range(12, 32):  # where something was at work on it, the next days try again
        if day in partitions(engine):
            assert enforce(work, days=days) == 0
    assert day not in partitions(engine)
    with work:
        events = [
            entry
            for model in (week, month)
            for entry in work.events.listed(model.project_id, Page(100), model_id=model.id).items
        ]
        assert work.events.verify()["is_whole"]
    assert [e["detail"]["n"] for e in events if e["action"] == "inputs.forgotten"] == [N, N]


def test_neither_a_reader_of_the_day_nor_a_writer_is_waited_for(work, engine, week):
    today = now().date()
    with work:
        work.observations.prepare_days(today - timedelta(days=11), ahead=1)
    feed(work, week, batch(N))
    age(engine, days=10)
    with engine.connect() as reader:
        reader.execute(text("SELECT count(*) FROM observation_segments"))  # holds the day's lock

        started = time.monotonic()
        enforce(work)
        observations.ingest(work, actor(work), week.name, batch(N, "new"), now=now())
        took = time.monotonic() - started

    assert took < 10
    assert len(newest(work, week)) == N


def test_quarantined_rows_and_evidently_pages_go_too(work, engine):
    model = text_model(work, policy={"retention": {"quarantine_days": 3, "reports_days": 5}})
    good, bad = batch(1), [{"id": "bad", "inputs": {}}]
    observations.ingest(work, actor(work), model.name, [*good, *bad], now=now())
    report_id, _ = checked(work, model, html=gzip.compress(b"<html>"))
    age(engine, days=4)
    assert enforce(work) == 1
    with work:
        assert not work.observations.quarantined(model.id, Page(10)).items
        assert work.checks.report_html(report_id, model.id)
        assert work.checks.report_moved(report_id, model.id) == MOVED

    assert enforce(work, days=2) == 1

    with work:
        assert work.checks.report(report_id, model.id)["finding"] == "insufficient_data"
        for read in (work.checks.report_html, work.checks.report_json):
            with pytest.raises(Forgotten, match="its scores and finding"):
                read(report_id, model.id)
        assert work.checks.report_moved(report_id, model.id)["exemplars"] == []
        assert newest(work, model) == ["o-0"]


def checked(work, model, artifacts=None, html=None):
    """Let a champion be looked at, as a worker would; return report and decision."""
    with work:
        has_champion = work.versions.champion(model.id) is not None
    if not has_champion:
        version = add_version(work, model)
        with work:
            work.versions.advance(version, VersionEvent.FORCED, actor="tester", reason="a test")
    check = drift.request_check(work, actor(work), model.name)
    lease, window = drift.begin(work, artifacts, check, owner="worker", seconds=15.0)
    body = {"moved": MOVED} if html else None
    return drift.finish(
        work,
        lease,
        window,
        [],
        drift.Looked(drift.Watch(), window.counts),
        html=html,
        evidently=body,
        now=now(),
    )


def test_a_check_says_how_many_rows_of_its_window_are_forgotten(work, engine, week):
    feed(work, week, batch(N))
    age(engine, days=8)
    enforce(work)
    feed(work, week, batch(5, "new"))

    report_id, _ = checked(work, week)

    with work:
        window = work.checks.report(report_id, week.id)["window"]
    assert (window["n_observations"], window["n_forgotten"]) == (5, N)


def test_decisions_count_only_labels_that_can_be_learned_from(work, engine, week):
    feed(work, week, batch(N))
    age(engine, days=8)
    enforce(work)
    feed(work, week, batch(5, "new"))

    with work:
        situation = decisions.gather(work, week, now=now())

    assert (situation.n_new_labels, situation.n_classes_labelled) == (5, 2)


def test_training_says_how_many_labelled_rows_it_could_not_read(work, engine, week, artifacts):
    feed(work, week, batch(N))
    age(engine, days=8)
    enforce(work)
    feed(work, week, batch(60, "new"))
    run = retrain(work, week)

    with work:
        snapshot = snapshots.take_snapshot(work, artifacts, run)

    assert snapshot.n_forgotten == N
    assert len(snapshot.train) + len(snapshot.window) == 60


def test_where_everything_is_forgotten_training_says_why_there_is_nothing(
    work, engine, week, artifacts
):
    feed(work, week, batch(N))
    run = retrain(work, week)
    age(engine, days=8)
    enforce(work)

    with work, pytest.raises(Invalid, match=f"{N} labelled rows were left out: their inputs are"):
        snapshots.take_snapshot(work, artifacts, run)


def test_a_decision_is_reached_again_from_what_it_kept(work, engine, week):
    feed(work, week, batch(N))
    _, decision_id = checked(work, week)
    age(engine, days=8)
    enforce(work)

    with work:
        kept = work.decisions.get(decision_id, week.id)
        model = work.models.by_id(week.id)
    situation = TypeAdapter(Situation).validate_python(kept["situation"])
    policy = read_policy(model.policy)
    again = decide(situation, decisions.signals(situation, policy), policy)

    assert newest(work, week) == []
    assert (again.outcome, again.reason) == (kept["outcome"], kept["reason"])


def test_a_label_for_a_forgotten_row_is_still_taken(work, engine, week):
    feed(work, week, batch(10), labelled=False)
    age(engine, days=8)
    enforce(work)

    feed(work, week, batch(10))

    with work:
        assert sum(work.observations.correctness(week.id, version=1)) == 10


def test_retention_that_is_taken_back_forgets_no_more(work, engine, week):
    feed(work, week, batch(10))
    models.change_policy(work, actor(work), week.name, {"retention": {"inputs_days": None}})
    age(engine, days=8)

    assert enforce(work) == 0
    assert shown(work, week)["inputs"]["days"] is None
