"""The queue of runs: who goes next, and that nobody is forgotten, doubled or starved."""

import itertools
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from app.adapters.postgres.unit_of_work import PostgresUnitOfWork
from app.domain.errors import Conflict
from app.domain.training import RunEvent, RunState
from app.services import queueing, training
from app.services.ports import Page
from tests.integration.support import (
    examples,
    expire_lease,
    fresh,
    retrain,
    text_model,
    upload,
)


@pytest.fixture
def own(servers):
    """A unit of work and an engine over a database whose queue is empty."""
    with fresh(servers) as opened:
        yield opened


@pytest.fixture
def work(own):
    return own[0]


@pytest.fixture
def engine(own):
    return own[1]


def many(work, artifacts, n, *, in_flight=10, **rules):
    """Models that may have several runs in flight, with something to learn from."""
    policy = {"retrain": {"maximum_in_flight": in_flight, **rules}}
    found = [text_model(work, policy=policy) for _ in range(n)]
    for model in found:
        upload(work, artifacts, model, examples(40))
    return found


def take(work, **more):
    return training.begin(work, owner="w", seconds=60.0, **more)


def finish(work, lease):
    training.end_early(work, lease, RunEvent.FAILED, {"detail": "the test ends it"})


def served(work, n=1000):
    """Let one worker take and end runs, until none is left; return whose they were."""
    models = []
    while len(models) < n and (lease := take(work)):
        with work:
            models.append(work.runs.get(lease.job_id).model_id)
        finish(work, lease)
    return models


def state_of(work, run):
    with work:
        return work.runs.get(run.id).state


class TestOrder:
    def test_a_model_with_ten_waiting_runs_does_not_starve_another_with_one(self, work, artifacts):
        greedy, modest = many(work, artifacts, 2)
        for _ in range(10):
            retrain(work, greedy)
        retrain(work, modest)

        order = served(work)

        assert order[:2] == [greedy.id, modest.id]
        assert Counter(order) == {greedy.id: 10, modest.id: 1}

    def test_three_models_take_turns(self, work, artifacts):
        models = many(work, artifacts, 3)
        for model, n in zip(models, (4, 3, 2), strict=True):
            for _ in range(n):
                retrain(work, model)

        order = served(work)

        a, b, c = (model.id for model in models)
        assert order == [a, b, c, a, b, c, a, b, a]

    def test_a_model_that_comes_back_at_once_waits_for_the_others_turn(self, work, artifacts):
        eager, patient = many(work, artifacts, 2)
        first = retrain(work, eager)
        lease = take(work)
        retrain(work, patient)
        retrain(work, eager)
        finish(work, lease)

        assert lease.job_id == first.id
        assert served(work) == [patient.id, eager.id]

    def test_priority_goes_before_fairness_and_the_policys_is_the_default(self, work, artifacts):
        low, plain = many(work, artifacts, 1, priority=-3)[0], many(work, artifacts, 1)[0]
        retrain(work, low)
        retrain(work, plain)
        retrain(work, plain)
        urgent = retrain(work, low, priority=9)

        assert served(work) == [low.id, plain.id, plain.id, low.id]
        with work:
            ranked = {run.id: run.priority for run in work.runs.listed(low.id, Page()).items}
        assert sorted(ranked.values()) == [-3, 9]
        assert ranked[urgent.id] == 9

    def test_a_run_given_back_keeps_its_place_among_its_models_runs(self, work, artifacts):
        (model,) = many(work, artifacts, 1)
        first = retrain(work, model)
        retrain(work, model)
        lease = take(work)
        training.end_early(work, lease, RunEvent.PREEMPTED)

        assert take(work).job_id == first.id


class TestConcurrency:
    def test_a_model_is_trained_one_run_at_a_time_unless_its_policy_says_more(
        self, work, artifacts
    ):
        one, two = many(work, artifacts, 1)[0], many(work, artifacts, 1, concurrency=2)[0]
        for model in (one, two):
            for _ in range(3):
                retrain(work, model)

        leases = list(iter(lambda: take(work), None))

        with work:
            owners = Counter(work.runs.get(lease.job_id).model_id for lease in leases)
        assert owners == {one.id: 1, two.id: 2}
        finish(work, leases[0])
        assert take(work) is not None
        assert take(work) is None

    def test_a_gpu_has_one_run_and_a_worker_without_a_free_one_takes_none(self, work, artifacts):
        for model in many(work, artifacts, 4):
            retrain(work, model)
        gpus = ("GPU-1", "GPU-2")

        first, second = take(work, devices=gpus), take(work, devices=gpus)

        assert {first.device, second.device} == set(gpus)
        assert take(work, devices=gpus) is None
        elsewhere = take(work, devices=("GPU-of-another",))
        assert elsewhere.device == "GPU-of-another"
        finish(work, second)
        assert take(work, devices=gpus).device == second.device
        with work:
            assert work.runs.get(second.job_id).device is None

    def test_a_group_of_gpus_waits_until_all_of_them_are_free(self, work, artifacts):
        for model in many(work, artifacts, 2):
            retrain(work, model)
        one = take(work, devices=("GPU-2",))

        assert take(work, devices=("GPU-1,GPU-2",)) is None
        finish(work, one)
        assert take(work, devices=("GPU-1,GPU-2",)).device == "GPU-1,GPU-2"

    def test_a_lost_run_frees_its_gpu(self, engine, work, artifacts):
        run = retrain(work, many(work, artifacts, 1)[0])
        take(work, devices=("GPU-1",))
        expire_lease(engine, "training_runs", run.id)

        again = take(work, devices=("GPU-1",))

        assert (again.job_id, again.attempt) == (run.id, 1)
        assert again.device == "GPU-1"

    def test_no_more_runs_are_in_flight_than_the_policy_allows(self, engine, work, artifacts):
        (model,) = many(work, artifacts, 1, in_flight=3)

        def ask(_):
            try:
                return retrain(PostgresUnitOfWork(engine), model).id
            except Conflict:
                return None

        with ThreadPoolExecutor(8) as pool:
            made = [run_id for run_id in pool.map(ask, range(12)) if run_id]

        assert len(set(made)) == 3
        with pytest.raises(Conflict, match="maximum_in_flight is 3"):
            retrain(work, model)
        finish(work, take(work))
        assert retrain(work, model).state is RunState.QUEUED


def test_of_many_workers_at_once_each_run_has_one_and_no_limit_is_broken(engine, work, artifacts):
    models = many(work, artifacts, 4, in_flight=6, concurrency=2)
    runs = [retrain(work, model) for model in models for _ in range(6)]
    gpus = tuple(f"GPU-{n}" for n in range(5))
    names = {model.id: model.name for model in models}

    def work_off(n):
        mine, taken = PostgresUnitOfWork(engine), []
        devices = gpus if n % 2 else ()
        for _ in range(200):
            lease = training.begin(mine, owner=f"w-{n}", seconds=60.0, devices=devices)
            if lease is None:
                with mine:
                    if not mine.runs.waiting():
                        return taken
                continue
            taken.append(lease.job_id)
            with mine:
                under_way = [mine.runs.get(run.run_id) for run in mine.runs.under_way()]
            busy = Counter(names[run.model_id] for run in under_way)
            assert max(busy.values(), default=0) <= 2
            held = [run.device for run in under_way if run.device]
            assert len(held) == len(set(held))
            training.end_early(mine, lease, RunEvent.FAILED, {"detail": "done"})
        raise AssertionError("the queue did not empty")

    with ThreadPoolExecutor(12) as pool:
        taken = list(itertools.chain.from_iterable(pool.map(work_off, range(12))))

    assert sorted(taken) == sorted(run.id for run in runs)
    assert {state_of(work, run) for run in runs} == {RunState.FAILED}


class TestNobodyIsForgotten:
    def test_an_end_calls_for_the_run_that_waits(self, engine, work, artifacts):
        first, second = many(work, artifacts, 2)
        retrain(work, first)
        waits = retrain(work, second)
        lease = take(work)
        sent_away(engine)

        finish(work, lease)

        assert jobs(engine) == [waits.id]

    def test_what_redis_lost_is_called_for_again_while_a_place_is_free(
        self, engine, work, artifacts
    ):
        runs = [retrain(work, model) for model in many(work, artifacts, 5)]
        long_ago(engine)
        sent_away(engine)
        assert training.resend_stalled(work, resend_seconds=10) == 0

        alive(work, "w", concurrency=2)
        training.resend_stalled(work, resend_seconds=10)
        assert jobs(engine) == [runs[0].id, runs[1].id]

        sent_away(engine)
        alive(work, "other", concurrency=9)
        take(work)
        training.resend_stalled(work, resend_seconds=10)
        assert jobs(engine) == [run.id for run in runs[1:]]

    def test_workers_of_one_machine_share_its_gpus(self, work):
        alive(work, "a", concurrency=3, devices=["GPU-1", "GPU-2"])
        alive(work, "b", concurrency=3, devices=["GPU-1", "GPU-2"])
        alive(work, "c", concurrency=4)
        with work:
            work.plugins.beat("d", "worker", {"queues": ["checks"]})
            assert queueing.n_slots(work) == 2 + 4


def alive(work, name, **detail):
    with work:
        work.plugins.beat(name, "worker", {"queues": ["training"], **detail})


def long_ago(engine):
    with engine.begin() as connection:
        connection.execute(text("UPDATE training_runs SET queued_at = now() - interval '1 h'"))


def sent_away(engine):
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM outbox"))


def jobs(engine):
    with engine.connect() as connection:
        query = "SELECT subject_id FROM outbox WHERE job = 'train' ORDER BY sequence"
        return list(connection.execute(text(query)).scalars())


class TestShown:
    def test_a_waiting_run_tells_its_place_how_long_it_waited_and_when_it_should_start(
        self, engine, work, artifacts
    ):
        first, second = many(work, artifacts, 2)
        for model in (first, second):
            finish_with_seconds(engine, work, retrain(work, model), 40.0)
        ahead, behind = retrain(work, first), retrain(work, second)
        third = retrain(work, first)
        alive(work, "w", concurrency=1)

        with work:
            found = queueing.places(work, [ahead, behind, third])

        assert [found[run.id]["position"] for run in (ahead, behind, third)] == [1, 2, 3]
        assert {place["n_waiting"] for place in found.values()} == {3}
        starts = [found[run.id]["expected_start_seconds"] for run in (ahead, behind, third)]
        assert starts == [0.0, 40.0, 80.0]
        assert [found[run.id]["waits_for"] for run in (ahead, third)] == ["worker", "model"]


def finish_with_seconds(engine, work, run, seconds):
    lease = take(work, only=run.id)
    finish(work, lease)
    with engine.begin() as connection:
        query = "UPDATE training_runs SET result = jsonb_build_object('seconds', :s ::float)"
        connection.execute(text(f"{query} WHERE id = :id"), {"s": seconds, "id": run.id})
