"""Self-tests: one at a time, by one worker, and a detector that goes blind is told."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import text

import workers.detectors
from app.adapters.postgres.unit_of_work import PostgresUnitOfWork
from app.domain.errors import Conflict
from app.domain.registry import scan
from app.domain.self_tests import SelfTest, Trial, judged
from app.domain.shifts import SHIFTS
from app.domain.versions import VersionEvent
from app.services import self_tests
from tests.integration.support import (
    LABELS,
    actor,
    add_version,
    expire_lease,
    feed,
    fresh,
    now,
    text_model,
    upload,
)
from workers.jobs import columns
from workers.jobs.self_test import examined

scan(workers.detectors)
NO_EMBEDDING = {"detectors": {"numeric": {"calibrated": {}}, "categorical": {"calibrated": {}}}}


class Guessing:
    """A version that answers by the length of a text."""

    labels = LABELS

    def scores(self, inputs):
        sure = np.array([len(row["text"]) % 7 for row in inputs], dtype=np.float32) / 20 + 0.55
        is_first = np.array([answer_to(row["text"]) == LABELS[0] for row in inputs])
        return np.where(is_first[:, None], np.c_[sure, 1 - sure], np.c_[1 - sure, sure])

    def features(self, inputs):
        lengths = np.array([len(row["text"]) for row in inputs], dtype=np.float32)
        return np.stack([lengths, lengths % 3], axis=1)


def answer_to(said):
    return LABELS[int(len(said) % 5 < 2)]


def texts(start, end, *, more=0):
    lengths = np.random.default_rng(start).integers(1, 15, end - start) + more
    bodies = [" ".join(["word", "other", "three"][k % 3] for k in range(n)) for n in lengths]
    return [
        {"id": f"o-{n}", "inputs": {"text": body}, "prediction": answer_to(body)}
        for n, body in enumerate(bodies, start)
    ]


def crowned(work, artifacts, model, *, n_reference=500, window_rows=200):
    rows = [{"inputs": row["inputs"], "label": row["prediction"]} for row in texts(0, n_reference)]
    version = add_version(work, model, reference=upload(work, artifacts, model, rows, "reference"))
    with work:
        work.versions.advance(version, VersionEvent.FORCED, actor="tester", reason="a test")
        work.models.set_policy(
            model.id, {"check": {**NO_EMBEDDING, "window_rows": window_rows}}, actor="tester"
        )
    return version


@pytest.fixture(autouse=True)
def guessing(monkeypatch):
    version = Guessing()
    monkeypatch.setattr(columns, "loaded", lambda model, champion: version)


@pytest.fixture
def champion(work, model, artifacts):
    return crowned(work, artifacts, model)


@pytest.fixture
def asked(work, model, champion):
    return self_tests.request(work, actor(work), model.name)


def begin(work, artifacts, test, owner="worker-1"):
    return self_tests.begin(work, artifacts, test, owner=owner, seconds=15.0)


def get(work, model, test):
    with work:
        return work.self_tests.get(test, model.id)


def found(**n_seen_of_40):
    shifts = [
        judged(
            shift,
            [Trial("x", i < n, is_watched=True, delay_rows=i) for i in range(40)],
            minimum_power=0.8,
        )
        for shift in SHIFTS
        if shift.kind == "numeric" and (n := n_seen_of_40.get(shift.name)) is not None
    ]
    return SelfTest("measured", source="live", shifts=shifts)


def finished(work, artifacts, model, result):
    test = self_tests.request(work, actor(work), model.name)
    lease, window = begin(work, artifacts, test)
    self_tests.finish(work, lease, window, result)
    return test


def told(api, model):
    events = api.get("/v1/audit", params={"model": model.name, "limit": 500}).json()["items"]
    return [
        (one["action"], one["detail"]["shifts"])
        for one in reversed(events)
        if one["action"].startswith("detector.") and one["subject"] == model.name
    ]


def never(window, **more):
    return examined(window, is_stopped=lambda: False, **more)


def test_of_many_who_ask_at_once_all_get_the_same_test_and_one_job_is_sent(engine, model, champion):
    def ask(_):
        mine = PostgresUnitOfWork(engine)
        return self_tests.request(mine, actor(mine), model.name)

    with ThreadPoolExecutor(8) as pool:
        (only,) = set(pool.map(ask, range(8)))
    with engine.connect() as connection:
        query = "SELECT count(*) FROM outbox WHERE job = 'self_test' AND subject_id = :id"
        assert connection.execute(text(query), {"id": only}).scalar() == 1


def test_a_model_without_a_reference_is_not_tested(work, model):
    version = add_version(work, model)
    with work:
        work.versions.advance(version, VersionEvent.FORCED, actor="tester", reason="a test")

    with pytest.raises(Conflict, match="champion with a reference"):
        self_tests.request(work, actor(work), model.name)


def test_a_job_that_arrives_twice_is_done_once(work, model, artifacts, asked):
    lease, window = begin(work, artifacts, asked)

    assert begin(work, artifacts, asked, "other") is None
    self_tests.finish(work, lease, window, found(mean=40))
    assert begin(work, artifacts, asked, "later") is None
    assert get(work, model, asked)["state"] == "completed"


def test_a_test_whose_worker_died_is_sent_again_and_has_one_result(
    engine, work, model, artifacts, asked
):
    old, window = begin(work, artifacts, asked, "old")
    with work:
        assert asked not in work.self_tests.stalled(resend_seconds=0.0)
    expire_lease(engine, "self_tests", asked)
    with work:
        assert asked in work.self_tests.stalled(resend_seconds=0.0)
    new, _ = begin(work, artifacts, asked, "new")

    with pytest.raises(Conflict, match="another worker"):
        self_tests.finish(work, old, window, found(mean=0))
    self_tests.finish(work, new, window, found(mean=40))

    shown = get(work, model, asked)
    assert (shown["state"], shown["result"]["shifts"][0]["power"]) == ("completed", 1.0)


def test_a_test_that_is_given_back_is_taken_again(work, model, artifacts, asked):
    feed(work, model, texts(1000, 1500), labelled=False)
    lease, window = begin(work, artifacts, asked)
    assert examined(window, is_stopped=lambda: True) is None
    self_tests.give_back(work, lease)
    with work:
        assert asked in work.self_tests.stalled(resend_seconds=0.0)

    assert begin(work, artifacts, asked, "other") is not None


def test_a_test_that_takes_its_worker_with_it_is_given_up(engine, work, model, artifacts, asked):
    for _ in range(5):
        begin(work, artifacts, asked)
        expire_lease(engine, "self_tests", asked)
    with work:
        assert asked not in work.self_tests.stalled(resend_seconds=0.0)

    shown = get(work, model, asked)
    assert (shown["state"], shown["error"]["detail"]) == ("failed", "its worker was lost 5 times")


def test_it_is_due_when_the_days_of_its_policy_are_over(servers, artifacts):
    with fresh(servers) as (work, _):
        model = text_model(work)
        with work:
            assert list(work.self_tests.due(now=now() + timedelta(days=8), every_days=7)) == []
        crowned(work, artifacts, model)

        def due(days):
            with work:
                return list(work.self_tests.due(now=now() + timedelta(days=days), every_days=7))

        assert (due(6.9), due(7.1)) == ([], [model.id])
        assert self_tests.schedule(work, now=now() + timedelta(days=7.1)) == 1
        assert due(7.1) == []  # in flight

        test = self_tests.request(work, actor(work), model.name)
        lease, window = begin(work, artifacts, test)
        self_tests.finish(work, lease, window, SelfTest("deferred", "too few rows"))
        assert (due(0.9), due(1.1)) == ([], [model.id])
        finished(work, artifacts, model, found(mean=40))
        assert (due(1.1), due(7.1)) == ([], [model.id])

        policy = {"check": {"self_test": {"every_days": 0}}}
        with work:
            work.models.set_policy(model.id, policy, actor="tester")
        assert due(10_000) == []


def test_two_schedulers_at_once_ask_for_one_test(servers, artifacts):
    with fresh(servers) as (work, engine):
        crowned(work, artifacts, text_model(work))
        later = now() + timedelta(days=8)
        with ThreadPoolExecutor(4) as pool:
            list(
                pool.map(
                    lambda _: self_tests.schedule(PostgresUnitOfWork(engine), now=later), range(4)
                )
            )
        with work:
            jobs = [job for job, _, _ in work.outbox.take()]
        assert jobs.count("self_test") == 1


def test_going_blind_is_told_once_and_seeing_again_too(api, work, model, artifacts, champion):
    finished(work, artifacts, model, found(mean=40, spread=40))
    assert told(api, model) == []
    for _ in range(2):
        finished(work, artifacts, model, found(mean=10, spread=40))
    finished(work, artifacts, model, SelfTest("deferred", "an incident stands"))
    finished(work, artifacts, model, found(mean=10, spread=0))
    finished(work, artifacts, model, found(mean=40, spread=0))

    assert told(api, model) == [
        ("detector.blind", ["numeric/mean"]),
        ("detector.blind", ["numeric/spread"]),
        ("detector.sighted", ["numeric/mean"]),
    ]


def test_prometheus_is_told_power_delay_and_how_many_shifts_are_missed(
    api, work, model, artifacts, champion
):
    finished(work, artifacts, model, found(mean=40, spread=4))
    lines = api.get("/metrics").text

    place = f'{{kind="numeric",model="{model.name}",shift='
    assert f'upkeep_self_test_power_ratio{place}"spread"}} 0.1' in lines
    assert f'upkeep_self_test_delay_rows{place}"mean"}} 20.0' in lines
    assert f'upkeep_blind_shifts{{model="{model.name}"}} 1.0' in lines
    assert f'upkeep_self_test_age_seconds{{model="{model.name}"}}' in lines


def test_live_rows_like_the_reference_are_copied_and_every_shift_is_seen(work, model, artifacts):
    crowned(work, artifacts, model, n_reference=1000, window_rows=400)
    feed(work, model, texts(1000, 2000), labelled=False)
    asked = self_tests.request(work, actor(work), model.name)
    lease, window = begin(work, artifacts, asked)
    result = never(window)
    self_tests.finish(work, lease, window, result)

    assert (result.outcome, result.source, result.reason) == ("measured", "live", None)
    assert (result.n_rows, result.window_rows, result.n_reference) == (800, 400, 1000)
    assert {one.kind for one in result.shifts} == {"numeric", "prediction"}
    assert [one.label for one in result.shifts if one.is_blind] == []
    shown = get(work, model, asked)["result"]
    assert shown["shifts"][0].keys() >= {"kind", "size", "n_trials", "power", "lower", "upper"}
    with work:
        seen = work.observations.newest(model.id, version=1, limit=1000)
    assert [row.inputs for row in seen] == [row["inputs"] for row in texts(1000, 2000)]


def test_drifted_live_rows_are_not_copied_but_half_of_the_reference_is(
    work, model, artifacts, champion
):
    upgraded = crowned_again(work, artifacts, model)
    feed(work, model, texts(1000, 1500, more=4), labelled=False)
    _, window = begin(work, artifacts, self_tests.request(work, actor(work), model.name))
    result = never(window)

    assert upgraded.number == window.champion.number
    assert (result.source, result.n_rows, result.n_reference) == ("reference", 450, 450)
    assert result.reason.startswith("the live rows have drifted already: ")
    assert "n_words" in result.reason


def crowned_again(work, artifacts, model):
    with work:
        champion = work.versions.champion(model.id)
        work.versions.advance(champion, VersionEvent.SUPERSEDED, actor="t", reason="a test")
    return crowned(work, artifacts, model, n_reference=900)


def test_with_few_rows_of_both_it_is_deferred_and_says_what_it_needs(work, model, artifacts, asked):
    _, window = begin(work, artifacts, asked)
    result = never(window)

    assert (result.outcome, list(result.shifts)) == ("deferred", [])
    assert result.reason == (
        "there are 0 live rows, and a test needs 400; the reference, which could stand in, has 500 "
        "rows and would need 800"
    )


def test_a_detector_that_tolerates_everything_is_blind(work, model, artifacts, champion):
    knobs = ("effect", "missing", "unseen", "dependence")
    blunt = {"calibrated": {f"tolerated_{name}": 1.0 for name in knobs}}
    policy = {"check": {"window_rows": 200, "detectors": {"numeric": blunt}}}
    with work:
        work.models.set_policy(model.id, policy, actor="tester")
    feed(work, model, texts(1000, 1500), labelled=False)
    _, window = begin(work, artifacts, self_tests.request(work, actor(work), model.name))
    result = never(window)

    assert result.shifts
    assert all(one.is_blind for one in result.shifts)


def test_time_that_is_over_ends_it_and_the_result_says_how_much_was_done(
    work, model, artifacts, asked
):
    feed(work, model, texts(1000, 1500), labelled=False)
    _, window = begin(work, artifacts, asked)
    ticks = iter(range(0, 10_000, 12))  # 30 s are over at the third look
    result = never(window, clock=lambda: float(next(ticks)))

    assert result.n_windows == 3
    assert max(one.n_trials for one in result.shifts) == 3
    assert result.seconds == 48.0


def test_over_rest_it_is_asked_for_joined_read_and_paged(api, work, model, artifacts, champion):
    url = f"/v1/models/{model.name}/self-tests"
    first = api.post(url)
    joined = api.post(url)
    assert (first.status_code, joined.status_code) == (202, 202)
    assert first.headers["location"] == joined.headers["location"] == first.json()["url"]
    assert first.json()["state"] == "queued"

    lease, window = begin(work, artifacts, UUID(first.json()["id"]))
    self_tests.finish(work, lease, window, found(mean=40))
    finished(work, artifacts, model, found(mean=0))

    assert api.get(first.headers["location"]).json()["result"]["shifts"][0]["power"] == 1.0
    newest = api.get(url, params={"limit": 1}).json()
    older = api.get(url, params={"limit": 1, "cursor": newest["next_cursor"]}).json()
    powers = [page["items"][0]["result"]["shifts"][0]["power"] for page in (newest, older)]
    assert (powers, older["next_cursor"]) == ([0.0, 1.0], None)


def test_what_cannot_be_is_a_problem_document(api, model):
    url = f"/v1/models/{model.name}/self-tests"
    unknown = "00000000-0000-7000-8000-000000000000"
    answers = [
        (api.post(url), 409, "/problems/conflict"),
        (api.post("/v1/models/nobody/self-tests"), 404, "/problems/not-found"),
        (api.get(f"{url}/{unknown}"), 404, "/problems/not-found"),
        (api.get(f"{url}/not-a-uuid"), 422, "/problems/invalid"),
        (api.get(url, params={"cursor": "x"}), 422, "/problems/invalid"),
    ]
    for answer, status, kind in answers:
        body = answer.json()
        assert (answer.status_code, body["type"], body["status"]) == (status, kind, status)
        assert answer.headers["content-type"].startswith("application/problem+json")
        assert body["instance"] == answer.request.url.path


def test_a_policy_out_of_bounds_is_refused(api, model):
    for knob, value in (("every_days", -1), ("minimum_power", 1.0), ("budget_seconds", 0)):
        answer = api.patch(
            f"/v1/models/{model.name}/policy",
            json={"check": {"self_test": {knob: value}}},
            headers={"content-type": "application/merge-patch+json"},
        )
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == f"/policy/check/self_test/{knob}"
