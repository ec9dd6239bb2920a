"""Runs of several models on several workers: followed, cancelled, each with its record."""

from contextlib import suppress

import pytest

from tests.conftest import wait_until
from tests.e2e.support import FAST, LABELS, pictures, unique
from upkeep import Conflict, Upkeep

WAIT = 240.0
LONG = {**FAST, "epochs": 1000}
RULES = {"retrain": {"cool_down_seconds": 0.0, "maximum_in_flight": 3}}


@pytest.fixture
def client(stack):
    with Upkeep(stack.url, actor="tester") as made:
        yield made


def made(client, rules=RULES):
    model = client.create_model(
        unique("queue"),
        task_type="image-classification",
        base_model="preset:resnet-tiny-gray",
        labels=LABELS,
        objective={"baseline": 0.5},
        policy=rules,
    )
    model.upload("training", pictures(400, seed=0))
    return model


def test_a_run_is_followed_to_its_end_and_states_what_it_took(client):
    model = made(client)
    asked = model.retrain("the first champion", seed=1, recipe=FAST)

    changes = list(model.follow(asked["id"]))

    moves = [one["what"] for one in changes if one["what"] != "progress"]
    assert moves == ["queued", "started", "trained", "succeeded"]
    assert [one["number"] for one in changes] == sorted({one["number"] for one in changes})
    told = [one["progress"] for one in changes if one["progress"]]
    assert {"prepare", "train", "save"} <= {one["phase"] for one in told}
    run = model.run(asked["id"])
    assert run["usage"]["cpu_seconds"] == told[-1]["cpu_seconds"] > 0.5
    assert run["usage"]["energy_joules"] == pytest.approx(10.0 * run["usage"]["cpu_seconds"])
    assert run["deterministic"] is True
    assert run["queue"] is None
    history = model.run_history(asked["id"])
    assert [one["number"] for one in history] == [one["number"] for one in changes]
    card = model.card(run["version"])
    assert f"Snapshot of the data (SHA-256): `{run['snapshot_sha256']}`" in card
    assert run["result"]["code"]["sha256"] in card
    assert "promoted" in card


def test_workers_train_as_many_runs_as_they_may_and_a_cancelled_one_frees_its_place(stack, client):
    stack.start("more", "worker", "--queue", "training", "--concurrency", "2")
    runs = {}
    try:
        models = [made(client) for _ in range(4)]
        runs |= {model: model.retrain("long", recipe=LONG)["id"] for model in models}

        def states():
            return [model.run(run_id)["state"] for model, run_id in runs.items()]

        wait_until(lambda: states().count("running") == 3, seconds=120, what="three are trained")
        (waiting,) = [model for model, run_id in runs.items() if is_queued(model, run_id)]
        place = waiting.run(runs[waiting])["queue"]
        assert (place["position"], place["n_waiting"]) == (1, 1)
        others = [model for model in models if model is not waiting]

        wait_until(lambda: all(cpu_seconds(one, runs[one]) for one in others), what="all have told")
        others[0].cancel(runs[others[0]], "make room")

        wait_until(lambda: not is_queued(waiting, runs[waiting]), seconds=60, what="it has started")
        for model, run_id in runs.items():
            if model is not others[0]:
                model.cancel(run_id, "the test is over")
        ended = [model.wait_for_run(run_id, timeout_seconds=60) for model, run_id in runs.items()]
        assert [run["state"] for run in ended] == ["cancelled"] * 4, ended
        # The last to start may be stopped before its process has said anything.
        assert all(cpu_seconds(model, runs[model]) > 0 for model in others)
        assert {run["attempt"] for run in ended} == {1}
    finally:
        for model, run_id in runs.items():
            with suppress(Conflict):  # it has ended
                model.cancel(run_id, "the test is over")
        stack.processes["more"].terminate()
        assert stack.processes.pop("more").wait(timeout=60) == 0


def cpu_seconds(model, run_id):
    return (model.run(run_id)["usage"] or {}).get("cpu_seconds", 0.0)


def is_queued(model, run_id):
    return model.run(run_id)["state"] == "queued"
