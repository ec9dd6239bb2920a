"""Runs: what they learn from, who may work on them, and that none is lost or done twice."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import text

from app.adapters import queue
from app.adapters.postgres.unit_of_work import PostgresUnitOfWork
from app.domain.errors import Conflict, Invalid, Unavailable
from app.domain.evaluation import Evidence
from app.domain.training import MAXIMUM_ATTEMPTS, RunEvent, RunState
from app.domain.versions import ModelFile, VersionEvent, VersionState
from app.services import decisions, evaluation, observations, snapshots, training
from app.services.examples import input_hash
from app.services.ports import Page
from tests.conftest import free_port, redis_database
from tests.integration.support import (
    LABELS,
    actor,
    add_version,
    examples,
    expire_lease,
    feed,
    now,
    retrain,
    rows_of,
    table_model,
    text_model,
    upload,
)


def begin(work, run, owner="worker-1", seconds=15.0):
    return training.begin(work, only=run.id, owner=owner, seconds=seconds)


def state_of(work, run):
    with work:
        return work.runs.get(run.id).state


@pytest.fixture
def run(work, model, artifacts):
    upload(work, artifacts, model, examples(40))
    return retrain(work, model)


@pytest.fixture
def champion(work, model):
    return add_champion(work, model)


class TestSnapshots:
    def test_a_snapshot_is_the_same_when_it_is_taken_again(self, work, model, artifacts, run):
        feed(work, model, rows_of(60))
        lease = begin(work, run)

        kept = snapshots.snapshot_of(work, artifacts, lease)
        feed(work, model, rows_of(60, start=60))
        again = snapshots.snapshot_of(work, artifacts, lease)
        with work:
            retaken = snapshots.take_snapshot(work, artifacts, work.runs.get(run.id))

        assert kept.sha256 == again.sha256 == retaken.sha256
        assert list(kept.train) == list(again.train)

    def test_nothing_judged_on_was_learned_even_where_the_same_text_came_twice(
        self, work, model, artifacts, champion
    ):
        rows = rows_of(200)
        twins = [{**row, "id": f"twin-{row['id']}"} for row in rows]
        upload(work, artifacts, model, examples(40))
        known = [{"inputs": row["inputs"], "label": row["prediction"]} for row in rows[::5]]
        upload(work, artifacts, model, known)
        feed(work, model, rows + twins)
        golden = [{"inputs": row["inputs"], "label": row["prediction"]} for row in rows[:10]]
        upload(work, artifacts, model, golden, role="golden")

        lease = begin(work, retrain(work, model))
        found = snapshots.snapshot_of(work, artifacts, lease)

        learned = {input_hash(row.inputs) for row in found.train}
        assert len(found.window) >= 80
        assert len(found.holdout) > 0
        for judged in (found.window, found.holdout, found.golden):
            assert not learned & {input_hash(row.inputs) for row in judged}

    def test_different_rows_of_columns_may_look_alike_and_none_is_judged_that_was_learned(
        self, work, announced, artifacts
    ):
        model = table_model(work)
        add_champion(work, model)
        few = [{"colour": colour, "is_new": new} for colour in "rgb" for new in (True, False)]
        upload(
            work,
            artifacts,
            model,
            [{"inputs": few[n % 6], "label": LABELS[n % 2]} for n in range(120)],
        )
        rows = [
            {"id": f"o-{n}", "inputs": few[n % 6], "prediction": LABELS[n % 2]} for n in range(80)
        ]
        feed(work, model, rows)

        lease = begin(work, retrain(work, model))
        found = snapshots.snapshot_of(work, artifacts, lease)

        judged = {(row.id, input_hash(row.inputs)) for row in [*found.holdout, *found.window]}
        learned = {(row.id, input_hash(row.inputs)) for row in found.train}
        n_newest = len(rows) - len(found.window)
        assert min(len(found.holdout), len(found.window)) > 10
        assert len(found.train) == len(learned) == 120 - len(found.holdout) + n_newest
        assert not judged & learned
        assert found.n_newest == n_newest
        assert [row.id for row in found.train[-n_newest:]] == [
            row["id"] for row in rows if row["id"] not in {one.id for one in found.window}
        ]
        assert snapshots.snapshot_of(work, artifacts, lease).n_newest == n_newest

    def test_a_corrected_label_is_learned_as_corrected(self, work, model, artifacts):
        rows = rows_of(40)
        feed(work, model, rows)
        corrected = {"id": "o-3", "label": LABELS[0]}
        feed(work, model, rows, labelled=False)
        relabel(work, model, [corrected])

        lease = begin(work, retrain(work, model))
        found = snapshots.snapshot_of(work, artifacts, lease)

        labels = {row.id: row.label for row in [*found.train, *found.window]}
        assert labels["o-3"] == LABELS[0]
        assert len(labels) == 40

    def test_the_holdout_is_set_aside_once_and_stays_frozen(self, work, model, artifacts, run):
        first = snapshots.snapshot_of(work, artifacts, begin(work, run))
        end(work, run)
        upload(work, artifacts, model, examples(40, prefix="later"))

        second = snapshots.snapshot_of(work, artifacts, begin(work, retrain(work, model)))

        assert [row.id for row in second.holdout] == [row.id for row in first.holdout]
        assert len(second.train) == len(first.train) + 40

    def test_a_repeated_run_has_the_same_snapshot_and_seed(self, work, model, artifacts, run):
        first = snapshots.snapshot_of(work, artifacts, begin(work, run))
        end(work, run)
        feed(work, model, rows_of(60))

        repeated = retrain(work, model, repeat_of=run.id)
        second = snapshots.snapshot_of(work, artifacts, begin(work, repeated))

        assert second.sha256 == first.sha256
        assert repeated.spec == run.spec

    def test_one_class_is_too_little_to_learn_from_and_the_reason_says_what_helps(
        self, work, model, artifacts
    ):
        rows = [{**row, "prediction": LABELS[0]} for row in rows_of(30)]
        feed(work, model, rows)

        with pytest.raises(Invalid, match="upload a training dataset of at least two classes"):
            retrain(work, model)


def relabel(work, model, labels):
    observations.add_labels(work, actor(work), model.name, labels, now=now())


def end(work, run, event=RunEvent.FAILED):
    with work:
        work.runs.advance(run.id, event)


class TestRequests:
    def test_the_same_key_gives_the_same_run(self, work, model, artifacts):
        upload(work, artifacts, model, examples(40))

        assert retrain(work, model, key="k").id == retrain(work, model, key="k").id

    def test_a_key_used_for_another_request_is_refused_with_409(self, api, work, model, artifacts):
        upload(work, artifacts, model, examples(40))
        url, headers = f"/v1/models/{model.name}/retrain", {"Idempotency-Key": "k"}
        first = api.post(url, json={"reason": "one"}, headers=headers)

        other = api.post(url, json={"reason": "two"}, headers=headers)

        assert (first.status_code, other.status_code) == (202, 409)
        assert "send a new key" in other.json()["detail"]

    def test_of_ten_requests_at_once_one_makes_a_run(self, engine, work, model, artifacts):
        upload(work, artifacts, model, examples(40))

        def ask(_):
            try:
                return retrain(PostgresUnitOfWork(engine), model).id
            except Conflict:
                return None

        with ThreadPoolExecutor(10) as pool:
            made = [run_id for run_id in pool.map(ask, range(10)) if run_id]

        assert len(made) == 1

    def test_ten_requests_at_once_with_one_key_make_one_run(self, engine, work, model, artifacts):
        upload(work, artifacts, model, examples(40))
        with ThreadPoolExecutor(10) as pool:
            made = pool.map(
                lambda _: retrain(PostgresUnitOfWork(engine), model, key="k").id, range(10)
            )

            assert len(set(made)) == 1

    def test_a_second_run_is_refused_while_one_is_in_flight(self, work, model, run):
        with pytest.raises(Conflict, match=str(run.id)):
            retrain(work, model)

    def test_without_anything_to_learn_from_a_run_is_refused(self, work, model):
        with pytest.raises(Invalid, match="upload a training dataset"):
            retrain(work, model)

    def test_a_run_that_waits_is_cancelled_at_once(self, work, model, run):
        cancelled = training.cancel(work, actor(work), model.name, run.id, reason="no")

        assert cancelled.state is RunState.CANCELLED
        assert begin(work, run) is None
        with pytest.raises(Conflict, match="nothing to cancel"):
            training.cancel(work, actor(work), model.name, run.id, reason="no")

    def test_a_run_that_is_cancelled_while_it_waits_to_be_judged_promotes_nothing(
        self, work, model, artifacts, run
    ):
        version = trained(work, artifacts, run)
        training.cancel(work, actor(work), model.name, run.id, reason="no")

        assert evaluation.begin(work, artifacts, run.id, owner="w", seconds=15) is None

        with work:
            assert work.runs.get(run.id).state is RunState.CANCELLED
            assert work.versions.by_id(version.id).state is VersionState.REJECTED

    def test_a_run_that_is_cancelled_while_it_is_judged_promotes_nothing(
        self, work, model, artifacts, run
    ):
        version = trained(work, artifacts, run)
        lease, found = evaluation.begin(work, artifacts, run.id, owner="w", seconds=15)
        training.cancel(work, actor(work), model.name, run.id, reason="no")
        evidence = Evidence(found.challenger.id, None, [], "accuracy", 0.01)

        assert evaluation.finish(work, lease, evidence, baseline=None) == "cancelled"

        with work:
            assert work.runs.get(run.id).state is RunState.CANCELLED
            assert work.versions.by_id(version.id).state is VersionState.REJECTED
            assert work.versions.champion(model.id) is None


def trained(work, artifacts, run, owner="worker-1"):
    lease = begin(work, run, owner)
    snapshot = snapshots.snapshot_of(work, artifacts, lease)
    return succeed(work, artifacts, lease, snapshot)


def succeed(work, artifacts, lease, snapshot):
    files = [ModelFile("config.json", *artifacts.put(b"{}"))]
    return training.succeed(work, artifacts, lease, files, {"metrics": {}}, snapshot, now=now())


class TestLeases:
    def test_of_eight_workers_one_gets_the_run(self, engine, run):
        def take(n):
            return begin(PostgresUnitOfWork(engine), run, f"worker-{n}")

        with ThreadPoolExecutor(8) as pool:
            leases = [lease for lease in pool.map(take, range(8)) if lease]

        assert len(leases) == 1

    def test_a_worker_that_lost_its_lease_can_write_nothing(self, engine, work, artifacts, run):
        old = begin(work, run, "old")
        snapshot = snapshots.snapshot_of(work, artifacts, old)
        expire_lease(engine, "training_runs", run.id)
        new = begin(work, run, "new")

        assert new.token > old.token
        with work:
            assert not work.runs.renew(old, seconds=15)
            assert not work.runs.set_progress(old, {"step": 1})
        with pytest.raises(Conflict):
            succeed(work, artifacts, old, snapshot)
        with pytest.raises(Conflict):
            training.end_early(work, old, RunEvent.FAILED)
        assert state_of(work, run) is RunState.RUNNING
        assert succeed(work, artifacts, new, snapshot).number == 1

    def test_a_worker_whose_run_went_back_to_the_queue_cannot_hold_on_to_it(
        self, engine, work, run
    ):
        old = begin(work, run, "old")
        expire_lease(engine, "training_runs", run.id)
        training.requeue_lost(work)

        with work:
            assert not work.runs.renew(old, seconds=15)
        assert begin(work, run, "new") is not None

    def test_a_lost_run_goes_back_to_the_queue_with_a_job(self, engine, work, run):
        begin(work, run)
        expire_lease(engine, "training_runs", run.id)
        before = jobs_of(engine, run)

        training.requeue_lost(work)

        assert state_of(work, run) is RunState.QUEUED
        assert jobs_of(engine, run) == before + 1
        training.requeue_lost(work)
        assert jobs_of(engine, run) == before + 1

    def test_a_run_that_is_held_is_not_lost(self, work, run):
        begin(work, run)
        training.requeue_lost(work)

        assert state_of(work, run) is RunState.RUNNING

    def test_a_run_that_is_lost_again_and_again_fails_with_the_reason(self, engine, work, run):
        for attempt in range(1, MAXIMUM_ATTEMPTS + 1):
            lease = begin(work, run)
            assert lease is not None, attempt
            expire_lease(engine, "training_runs", run.id)
            training.requeue_lost(work)

        with work:
            ended = work.runs.get(run.id)
        assert (ended.state, ended.attempt) == (RunState.FAILED, MAXIMUM_ATTEMPTS)
        assert "lost or killed 5 times" in ended.error["detail"]
        assert begin(work, run) is None

    def test_a_run_nobody_picked_up_is_sent_again(self, engine, work, run):
        with engine.begin() as connection:
            connection.execute(
                text("UPDATE training_runs SET queued_at = now() - interval '1 h' WHERE id = :id"),
                {"id": run.id},
            )
        with work:
            work.plugins.beat("w", "worker", {"queues": ["training"], "concurrency": 10_000})
        before = jobs_of(engine, run)

        training.resend_stalled(work, resend_seconds=10)

        assert jobs_of(engine, run) == before + 1

    def test_a_judge_that_died_is_replaced_by_another(self, engine, work, artifacts, run):
        trained(work, artifacts, run)
        old, _ = evaluation.begin(work, artifacts, run.id, owner="old", seconds=15)
        assert evaluation.begin(work, artifacts, run.id, owner="new", seconds=15) is None
        expire_lease(engine, "training_runs", run.id)

        new, found = evaluation.begin(work, artifacts, run.id, owner="new", seconds=15)

        evidence = Evidence(found.challenger.id, None, [], "accuracy", 0.01)
        with pytest.raises(Conflict):
            evaluation.finish(work, old, evidence, baseline=None)
        evaluation.finish(work, new, evidence, baseline=None)
        assert state_of(work, run) is RunState.SUCCEEDED


def jobs_of(engine, run):
    with engine.connect() as connection:
        return connection.execute(
            text("SELECT count(*) FROM outbox WHERE subject_id = :id"), {"id": run.id}
        ).scalar_one()


class TestOutbox:
    def test_jobs_stay_while_redis_is_away_and_go_once_when_it_is_back(
        self, engine, servers, work, run
    ):
        before = jobs_of(engine, run)

        with pytest.raises(Unavailable, match="Redis"):
            queue.relay(work, queue.sender(f"redis://127.0.0.1:{free_port()}/0"))
        assert jobs_of(engine, run) == before == 1

        broker = queue.sender(redis_database(servers[1]))
        while queue.relay(work, broker):
            pass
        assert jobs_of(engine, run) == 0

    def test_a_job_is_rolled_back_with_what_asked_for_it(self, engine, work, model, run):
        def fail() -> None:
            with work:
                work.outbox.send("train", run.id)
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail()

        assert jobs_of(engine, run) == 1

    def test_two_relays_at_once_send_each_job_once(self, engine, servers, work, run):
        redis_url = redis_database(servers[1])
        with work:
            for _ in range(50):
                work.outbox.send("train", run.id)

        def drain(_):
            mine, n = PostgresUnitOfWork(engine), 0
            broker = queue.sender(redis_url)
            while sent := queue.relay(mine, broker):
                n += sent
            return n

        with ThreadPoolExecutor(2) as pool:
            assert sum(pool.map(drain, range(2))) >= 51


class TestDecisions:
    def test_a_schedule_fires_once_and_a_cool_down_holds_back_the_next(
        self, engine, work, announced, artifacts
    ):
        model = text_model(
            work,
            policy={
                "triggers": {"schedule": {"cron": "* * * * *"}},
                "retrain": {"minimum_new_labels": 1, "cool_down_seconds": 3600},
            },
        )
        add_champion(work, model)
        feed(work, model, rows_of(60))
        later = now() + timedelta(minutes=2)

        decisions.on_schedule(work, now=later)
        decisions.on_schedule(work, now=later)

        with work:
            run = work.runs.in_flight(model.id)
            assert outcomes(work, model) == ["retrain"]
        end(work, run)
        feed(work, model, rows_of(60, start=60))
        decisions.on_schedule(work, now=later + timedelta(minutes=2))
        with work:
            assert outcomes(work, model) == ["defer", "retrain"]


def outcomes(work, model):
    listed = work.decisions.listed(model.id, Page())
    return [item["outcome"] for item in listed.items]


def add_champion(work, model):
    version = add_version(work, model)
    with work:
        moved = work.versions.by_id(version.id)
        work.versions.advance(moved, VersionEvent.FORCED, actor="tester", reason="a test says so")
    return version
