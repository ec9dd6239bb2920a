"""Checks: one at a time, by one worker, about the champion that still is."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import numpy as np
import pytest

from app.adapters.postgres.unit_of_work import PostgresUnitOfWork
from app.domain.errors import Conflict, StaleVerdict
from app.domain.estimation import after_labels, calibrated_on, over_window
from app.domain.slices import labels_by_slice, slices_of
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


def finish(work, lease, window, estimate=None, slices=()):
    return drift.finish(
        work,
        lease,
        window,
        [],
        Looked(window.watch, window.counts),
        estimate=estimate,
        slices=slices,
        html=None,
        evidently=None,
        now=now(),
    )


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


def estimate_after(window):
    confidence = np.linspace(0.5, 1, 100)
    estimate = window.estimate or calibrated_on(
        confidence, confidence > 0.6, reference=str(window.champion.reference), tolerance=0.02
    )
    shown, right = np.full(len(window.labelled), 0.9), np.ones(len(window.labelled), dtype=bool)
    through = window.labelled_through
    estimate = after_labels(estimate, shown, right, through=through, run_length=1e4, now=now())
    return over_window(estimate, confidence, np.full(100, np.nan), floor=0.7)


def test_each_label_tests_the_estimate_once_and_the_next_check_goes_on_from_there(
    work, model, artifacts, check
):
    lease, window = begin(work, artifacts, check)
    finish(work, lease, window, estimate_after(window))
    feed(work, model, rows_of(5, prefix="more"))
    lease, later = begin(work, artifacts, drift.request_check(work, actor(work), model.name))

    assert [len(window.labelled), len(later.labelled)] == [60, 5]
    assert later.estimate == estimate_after(window)
    assert estimate_after(later).n_labels == 65


def test_a_new_champion_has_an_estimate_of_its_own(work, model, artifacts, check):
    lease, window = begin(work, artifacts, check)
    finish(work, lease, window, estimate_after(window))
    successor = add_version(work, model)
    with work:
        work.versions.advance(
            work.versions.champion(model.id), VersionEvent.SUPERSEDED, actor="t", reason="a test"
        )
        work.versions.advance(successor, VersionEvent.FORCED, actor="t", reason="a test")

    _, later = begin(work, artifacts, drift.request_check(work, actor(work), model.name))

    assert (later.estimate, later.labelled) == (None, [])


def test_performance_tells_what_the_newest_report_says_of_the_champion(
    work, model, artifacts, check, api
):
    url = f"/v1/models/{model.name}/performance"
    before = api.get(url).json()["champion"]
    lease, window = begin(work, artifacts, check)
    report_id, _ = finish(work, lease, window, estimate_after(window))

    found = api.get(url).json()["champion"]

    assert (before["version"], before["estimate"], before["report"]) == (1, None, None)
    assert found["report"] == str(report_id)
    assert found["estimate"]["state"] == "stands"
    assert found["estimate"]["accuracy"]["n_labels"] == 60
    assert (
        f'upkeep_accuracy_estimate_stands{{model="{model.name}"}} 1.0' in api.get("/metrics").text
    )


def test_a_slice_that_fell_asks_for_a_retrain_and_is_where_the_next_check_goes_on(
    work, model, artifacts, champion, check, api
):
    with work:
        work.versions.set_accepted(champion.id, {"accuracy": 0.9, "n": 200}, {})
    lease, window = begin(work, artifacts, check)
    rows = [{"site": "b"}] * 60
    known = slices_of(("site",), rows, [True] * 60, tolerance=0.02, allowance_errors=1.0)
    slices = labels_by_slice(known, ("site",), rows, [False] * 60)

    _, decision_id = finish(work, lease, window, estimate_after(window), slices)

    with work:
        decision = work.decisions.get(decision_id, model.id)
        assert list(work.checks.slices(champion.id)) == slices
    shown = api.get(f"/v1/models/{model.name}/performance").json()["champion"]["slices"]
    assert decision["trigger"] == "performance"
    assert decision["reason"].startswith("accuracy of site=b is 0.000 over 60 labelled answers")
    assert [(one["name"], one["accuracy"], one["state"]) for one in shown] == [
        ("site=b", 0.0, "watched")
    ]


@pytest.mark.parametrize("right", [True, False])
def test_the_page_of_a_model_tells_the_estimate_whether_it_stands_or_not(
    work, model, artifacts, check, api, right
):
    lease, window = begin(work, artifacts, check)
    estimate = estimate_after(window)
    if not right:
        shown, wrong = np.full(200, 0.9), np.zeros(200, dtype=bool)
        estimate = after_labels(estimate, shown, wrong, through=1, run_length=1e4, now=now())
        estimate = over_window(estimate, shown, np.full(200, np.nan), floor=0.7)
    slices = slices_of(("site",), [{"site": "b"}], [True], tolerance=0.02, allowance_errors=1.0)
    finish(work, lease, window, estimate, slices)

    page = api.get(f"/models/{model.name}")

    assert page.status_code == 200
    assert "Estimated accuracy of these rows" in page.text
    assert ("no label contradicts it" if right else "labels contradict it") in page.text
    assert "site=b" in page.text


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
