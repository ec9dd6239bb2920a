"""Checks: one at a time, by one worker, about the champion that still is."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from app.adapters.postgres.unit_of_work import PostgresUnitOfWork
from app.domain.errors import Conflict, StaleVerdict
from app.domain.versions import VersionEvent
from app.services import drift, promotion
from app.services.windows import Looked
from tests.integration.support import actor, add_version, expire_lease, feed, now, rows_of


@pytest.fixture
def champion(work, model):
    version = add_version(work, model)
    with work:
        work.versions.advance(version, VersionEvent.FORCED, actor="tester", reason="a test")
    return version


@pytest.fixture
def check(work, model, champion):
    feed(work, model, rows_of(60))
    return drift.request_check(work, actor(work), model.name)


def begin(work, artifacts, check, owner="worker-1"):
    return drift.begin(work, artifacts, check, owner=owner, seconds=15.0)


def finish(work, lease, window):
    looked = Looked(window.watch, window.counts)
    return drift.finish(work, lease, window, [], looked, html=None, evidently=None, now=now())


def get(work, model, check):
    with work:
        return work.checks.get(check, model.id)


def test_of_many_who_ask_at_once_all_get_the_same_check(engine, model, champion):
    def ask(_):
        mine = PostgresUnitOfWork(engine)
        return drift.request_check(mine, actor(mine), model.name)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1


def test_a_model_without_champion_is_not_looked_at(work, model):
    with pytest.raises(Conflict, match="import a version or start a retrain first"):
        drift.request_check(work, actor(work), model.name)


def test_an_empty_report_is_insufficient_data_and_the_rows_count_as_looked_at(
    work, model, artifacts, check
):
    report_id, _ = finish(work, *begin(work, artifacts, check))

    with work:
        assert work.checks.report(report_id, model.id)["finding"] == "insufficient_data"
        watch = work.models.watch(model.id)
    assert (watch["n_unchecked_observations"], watch["n_unchecked_labels"]) == (0, 0)
    assert get(work, model, check)["state"] == "completed"


def test_a_worker_that_lost_its_check_leaves_no_report(engine, work, model, artifacts, check):
    old, window = begin(work, artifacts, check, "old")
    assert begin(work, artifacts, check, "other") is None
    expire_lease(engine, "checks", check)
    new, _ = begin(work, artifacts, check, "new")

    with pytest.raises(Conflict):
        finish(work, old, window)
    report_id, _ = finish(work, new, window)

    assert get(work, model, check)["report"] == report_id


def test_nothing_is_concluded_about_a_champion_that_was_replaced_meanwhile(
    work, model, artifacts, check
):
    lease, window = begin(work, artifacts, check)
    successor = add_version(work, model)
    promotion.promote(
        work,
        actor(work),
        model.name,
        successor.number,
        reason="a test",
        force=True,
        judged_against=None,
    )

    with pytest.raises(StaleVerdict, match="look again"):
        finish(work, lease, window)

    drift.fail(work, lease, None, {"detail": "stale"})
    with work:
        assert work.models.watch(model.id)["n_unchecked_observations"] == 60


def test_rows_that_settled_make_a_check_due_once(work, model, champion):
    feed(work, model, rows_of(60))
    later = now() + timedelta(minutes=5)

    due = [model_id for _ in range(2) for model_id in due_models(work, later)]

    assert due.count(model.id) == 1


def due_models(work, later):
    with work:
        found = list(work.models.due(now=later))
        for model_id in found:
            work.checks.request(model_id, requested_by="scheduler")
        return found
