"""How is a model told to do something, and how is the end of it waited for?"""

import pytest

from upkeep import Conflict, StillWaiting
from upkeep.waiting import Pace

FRAUD = "/v1/models/fraud"


@pytest.fixture
def fraud(upkeep):
    model = upkeep.model("fraud")
    model.pace = Pace(0.005, 0.02)
    return model


def _run(state, **more):
    return {"id": "r", "state": state, "progress": None, **more}


def test_a_check_is_waited_for(service, fraud):
    service.answers("POST", f"{FRAUD}/checks", {"id": "c", "state": "queued"})
    states = [{"id": "c", "state": state} for state in ("queued", "running", "completed")]
    service.answers("GET", f"{FRAUD}/checks/c", *states)
    assert fraud.check()["state"] == "completed"


def test_a_check_that_is_not_waited_for_is_not_asked_after(service, fraud):
    service.answers("POST", f"{FRAUD}/checks", {"id": "c", "state": "queued"})
    assert fraud.check(wait=False)["state"] == "queued"
    assert len(service.seen) == 1


def test_a_failed_check_is_returned_as_failed(service, fraud):
    service.answers("POST", f"{FRAUD}/checks", {"id": "c", "state": "queued"})
    service.answers("GET", f"{FRAUD}/checks/c", {"id": "c", "state": "failed"})
    assert fraud.check()["state"] == "failed"


def test_a_self_test_is_waited_for_and_listed(service, fraud):
    states = [{"id": "t", "state": state} for state in ("queued", "running", "completed")]
    service.answers("POST", f"{FRAUD}/self-tests", states[0])
    service.answers("GET", f"{FRAUD}/self-tests/t", *states)
    service.answers("GET", f"{FRAUD}/self-tests", {"items": states[2:], "next_cursor": None})
    assert fraud.self_test(wait=False)["state"] == "queued"
    assert fraud.self_test() == next(fraud.self_tests()) == states[2]


def test_a_wait_that_is_too_long_ends(service, fraud):
    service.answers("GET", f"{FRAUD}/runs/r", _run("running"))
    with pytest.raises(StillWaiting, match="run r is not over after"):
        fraud.wait_for_run("r", timeout_seconds=0.1)


def test_a_repeated_wish_to_retrain_carries_the_same_key(service, fraud, refuse):
    service.answers("POST", f"{FRAUD}/retrain", refuse(502), refuse(503), _run("queued"))
    fraud.retrain("drift")
    keys = [seen.headers["idempotency-key"] for seen in service.seen]
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_two_wishes_to_retrain_carry_two_keys(service, fraud):
    service.answers("POST", f"{FRAUD}/retrain", _run("queued"))
    fraud.retrain("drift")
    fraud.retrain("drift")
    first, second = service.seen
    assert first.headers["idempotency-key"] != second.headers["idempotency-key"]


def test_a_wish_to_retrain_says_only_what_was_stated(service, fraud):
    service.answers("POST", f"{FRAUD}/retrain", _run("queued"))
    fraud.retrain(
        "drift",
        start_from="base",
        recipe={"epochs": 2},
        force=True,
        idempotency_key="k",
        selection={"by": "new"},
    )
    assert service.seen[0].headers["idempotency-key"] == "k"
    assert service.seen[0].json == {
        "reason": "drift",
        "start_from": "base",
        "recipe": {"epochs": 2},
        "selection": {"by": "new"},
        "force": True,
    }


def test_a_retrain_beside_another_is_a_conflict(service, fraud, refuse):
    service.answers("POST", f"{FRAUD}/retrain", refuse(409, "run 3 is in flight"))
    with pytest.raises(Conflict, match="run 3 is in flight"):
        fraud.retrain("drift")


@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled"])
def test_a_run_is_followed_to_whichever_end_and_each_change_told_once(service, fraud, end):
    service.answers("POST", f"{FRAUD}/retrain", _run("queued"))
    halfway = _run("running", progress={"step": 5})
    service.answers("GET", f"{FRAUD}/runs/r", _run("queued"), halfway, halfway, _run(end))
    told = []
    assert fraud.retrain("drift", wait=True, on_progress=told.append)["state"] == end
    assert [run["state"] for run in told] == ["queued", "running", end]


def test_a_service_restarted_during_a_wait_is_waited_for_too(service, fraud, refuse):
    service.answers("GET", f"{FRAUD}/runs/r", _run("running"), refuse(503), _run("succeeded"))
    assert fraud.wait_for_run("r")["state"] == "succeeded"


def test_settled_means_that_nothing_is_unchecked_or_in_flight(service, fraud):
    busy, done = ({"watch": {"is_settled": settled}} for settled in (False, True))
    service.answers("GET", FRAUD, busy, busy, done)
    assert fraud.wait_until_settled() == done


def test_a_policy_is_changed_by_a_merge_patch(service, fraud):
    service.answers("PATCH", f"{FRAUD}/policy", {"version": 2, "document": {}})
    assert fraud.change_policy({"cooldown_seconds": None})["version"] == 2
    assert service.seen[0].headers["content-type"] == "application/merge-patch+json"
    assert service.seen[0].json == {"cooldown_seconds": None}


def test_each_move_says_why(service, fraud):
    for path in ("pause", "resume", "rollback", "versions/3/promote", "runs/r/cancel"):
        service.answers("POST", f"{FRAUD}/{path}", {})
    fraud.pause("holiday")
    fraud.resume("back")
    fraud.rollback("complaints", to=2)
    fraud.promote(3, "better", force=True, judged_against=2)
    fraud.cancel("r", "mistake")
    service.answers("POST", f"{FRAUD}/incidents/i/acknowledge", {})
    fraud.acknowledge("i", "told the sender")
    assert [seen.json for seen in service.seen] == [
        {"reason": "holiday"},
        {"reason": "back"},
        {"reason": "complaints", "to": 2},
        {"reason": "better", "force": True, "judged_against": 2},
        {"reason": "mistake"},
        {"reason": "told the sender"},
    ]
