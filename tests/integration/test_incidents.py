"""Incidents over a real Postgres: opened once, followed, ended, and what they keep out."""

from dataclasses import replace
from datetime import timedelta

import pytest

from app.domain.errors import Conflict, IllegalTransition
from app.domain.faults import SCHEMA, FaultKind, Look, UpstreamFault
from app.domain.incidents import IncidentState
from app.domain.versions import VersionEvent
from app.services import decisions, drift, incidents, observations
from app.services.windows import Looked
from tests.integration.support import (
    actor,
    add_version,
    feed,
    now,
    retrain,
    rows_of,
    text_model,
)

AGE = ("age", FaultKind.MISSING)


@pytest.fixture
def model(work, announced):
    policy = {"triggers": {"volume": {"n_labels": 1}}, "retrain": {"cool_down_seconds": 0.0}}
    return text_model(work, policy=policy)


@pytest.fixture
def champion(work, model):
    version = add_version(work, model)
    with work:
        work.versions.advance(version, VersionEvent.FORCED, actor="tester", reason="a test")
    return version


def fault_of(work, model, *, skipped=0, place=AGE):
    """Return a fault in all rows of a model but the first few."""
    with work:
        newest = work.observations.newest(model.id, version=1, limit=1000)
    numbers = {"column": place[0], "share": 1.0}
    first, last = newest[skipped].sequence, newest[-1].sequence
    return UpstreamFault(*place, "it is gone", numbers, first, last)


def looked(window):
    """Return what a worker makes of a window whose newest row it has read."""
    return Looked(replace(window.watch, through=window.through[0]), window.counts)


def check(work, artifacts, model, seen):
    """Do what a worker does for one check, with what it saw; return the decision."""
    check_id = drift.request_check(work, actor(work), model.name)
    lease, window = drift.begin(work, artifacts, check_id, owner="w", seconds=15.0)
    _, decision_id = drift.finish(
        work, lease, window, [], looked(window), html=None, evidently=None, now=now(), seen=seen
    )
    with work:
        return window, work.decisions.get(decision_id, model.id)


def standing(work, model):
    with work:
        return work.incidents.standing(model.id)


@pytest.fixture
def opened(work, artifacts, model, champion):
    """An incident in the newer 60 of 120 labelled rows."""
    feed(work, model, rows_of(60))
    feed(work, model, rows_of(60, prefix="broken"))
    _, decision = check(work, artifacts, model, Look([fault_of(work, model, skipped=60)]))
    (incident,) = standing(work, model)
    return incident, decision


def test_a_check_that_sees_a_fault_opens_an_incident_and_starts_nothing(work, model, opened):
    incident, decision = opened
    with work:
        report = work.checks.report(incident.report_id, model.id)
        assert work.runs.in_flight(model.id) is None
    assert (decision["outcome"], decision["trigger"]) == ("defer", "volume")
    assert str(incident.id) in decision["reason"]
    assert report["finding"] == "fault"


def test_the_same_fault_seen_again_is_the_same_incident(work, artifacts, model, opened):
    first, _ = opened
    feed(work, model, rows_of(50, prefix="more"))
    fault = fault_of(work, model, skipped=120)

    check(work, artifacts, model, Look([fault]))

    (incident,) = standing(work, model)
    assert (incident.id, incident.first_sequence) == (first.id, first.first_sequence)
    assert incident.last_sequence == fault.last_sequence


def test_another_field_has_an_incident_of_its_own(work, artifacts, model, opened):
    other = fault_of(work, model, place=("fare", FaultKind.SCALE))
    check(work, artifacts, model, Look([fault_of(work, model), other]))
    assert {one.place for one in standing(work, model)} == {AGE, other.place}


def test_two_checks_at_once_cannot_open_it_twice(work, model, champion, opened):
    fault = UpstreamFault(*AGE, "", {}, 1, 2)
    with work, pytest.raises(Conflict, match="stands already"):
        work.incidents.open(model.id, champion.id, fault, report_id=opened[0].report_id)


def test_rows_of_an_incident_are_neither_counted_nor_learned_from(work, model, opened):
    with work:
        assert work.observations.n_labelled(model.id, after_label=0) == 60
        learned = [
            row.example
            for row in work.observations.labelled(model.id, after_label=0, through_label=10**12)
        ]
    assert {row.id.partition("-")[0] for row in learned} == {"o"}


def test_when_it_ends_another_look_follows_at_once_without_its_rows(work, artifacts, model, opened):
    feed(work, model, rows_of(55, prefix="mended"))
    window, decision = check(work, artifacts, model, Look(mended={AGE: None}))
    assert len(window.correct) == 175
    assert "has just ended" in decision["reason"]
    with work:
        assert work.models.watch(model.id)["recheck_at"] is not None

    window, decision = check(work, artifacts, model, Look())

    assert {row.id.partition("-")[0] for row in window.current} == {"mended"}
    assert len(window.correct) == 115
    assert decision["outcome"] == "retrain"


def test_rows_too_few_to_judge_are_judged_with_those_that_follow(work, artifacts, model, opened):
    for prefix, n in (("few", 20), ("more", 40)):
        feed(work, model, rows_of(n, prefix=prefix))
        window, _ = check(work, artifacts, model, Look())
    assert len(window.current) == 60


def test_the_end_of_an_incident_may_be_later_than_where_it_was_last_seen(
    work, artifacts, model, opened
):
    feed(work, model, rows_of(60, prefix="mixed"))
    last = fault_of(work, model).last_sequence - 40
    check(work, artifacts, model, Look(mended={AGE: last}))
    with work:
        assert work.observations.n_labelled(model.id, after_label=0) == 100


def test_a_person_is_refused_while_it_stands_unless_by_force(work, model, opened):
    with pytest.raises(Conflict, match=r"age\) stands.*with force"):
        retrain(work, model)
    run = retrain(work, model, is_forced=True)
    assert run.reason == "asked for: a test asks"


def test_a_schedule_is_held_up_too(work, model, opened):
    with work:
        situation = decisions.gather(work, model, now=now())
        _, decision, run = decisions.conclude(work, model, situation, report_id=None)
    assert run is None
    assert "stands" in decision.reason


def test_somebody_who_looks_after_it_does_not_end_it(work, model, opened):
    incident, _ = opened
    said = incidents.acknowledge(
        work, actor(work, "ada"), model.name, incident.id, reason="I call them"
    )
    assert (said.state, said.acknowledged_by) == (IncidentState.ACKNOWLEDGED, "ada")
    assert standing(work, model) == [said]
    with pytest.raises(IllegalTransition):
        incidents.acknowledge(work, actor(work), model.name, incident.id, reason="me too")


def resolve(work, model, incident, *, is_genuine=False):
    return incidents.resolve(
        work,
        actor(work),
        model.name,
        incident.id,
        reason="a test",
        is_genuine=is_genuine,
        now=now(),
    )


def test_resolved_by_hand_it_comes_back_if_the_fault_does(work, artifacts, model, opened):
    resolve(work, model, opened[0])
    check(work, artifacts, model, Look([fault_of(work, model)]))
    assert [one.id != opened[0].id for one in standing(work, model)] == [True]


def test_what_is_genuine_counts_and_is_not_asked_about_again(
    work, artifacts, model, champion, opened
):
    resolve(work, model, opened[0], is_genuine=True)
    with work:
        assert work.observations.n_labelled(model.id, after_label=0) == 120
        assert work.incidents.settled(model.id, champion.id) == {AGE}
    window, _ = check(work, artifacts, model, Look())
    assert len(window.correct) == 120
    assert window.known.settled == {AGE}


def test_what_a_person_resolved_during_a_check_stays_resolved(work, artifacts, model, opened):
    check_id = drift.request_check(work, actor(work), model.name)
    lease, window = drift.begin(work, artifacts, check_id, owner="w", seconds=15.0)
    resolve(work, model, opened[0])
    seen = Look([fault_of(work, model)])
    drift.finish(
        work, lease, window, [], looked(window), html=None, evidently=None, now=now(), seen=seen
    )
    assert standing(work, model) == []
    with work:
        assert work.runs.in_flight(model.id) is None  # its window had the broken rows in it
        assert work.models.watch(model.id)["recheck_at"] is not None


def refuse(work, model, n, *, prefix="bad"):
    rows = [{"id": f"{prefix}-{i}", "inputs": {"txt": "renamed"}} for i in range(n)]
    with pytest.raises(Exception, match="none of the"):
        observations.ingest(work, actor(work), model.name, rows, now=now())


def due(work, model):
    with work:
        return model.id in work.models.due(now=now() + timedelta(minutes=5))


def test_observations_that_are_all_refused_make_a_check_due(work, artifacts, model, champion):
    refuse(work, model, 49)
    assert not due(work, model)
    refuse(work, model, 11, prefix="worse")
    assert due(work, model)
    with work:
        assert not work.models.watch(model.id)["is_settled"]

    window, _ = check(work, artifacts, model, Look())

    refusals = window.known.refusals
    assert (refusals.n_refused, refusals.n_accepted) == (60, 0)
    assert {where for where, _, n in refusals.reasons if n == 60} == {"/inputs/text", "/inputs/txt"}
    assert not due(work, model)
    with work:
        assert work.models.watch(model.id)["is_settled"]


def test_a_refused_row_that_came_in_right_later_is_no_refusal(work, model, champion):
    refuse(work, model, 60, prefix="o")
    refuse(work, model, 60, prefix="o")
    feed(work, model, rows_of(40))
    with work:
        refusals = work.incidents.refusals(model.id)
    assert (refusals.n_refused, refusals.n_accepted, refusals.n_refusals) == (20, 40, 120)


def test_a_schema_incident_keeps_no_stored_row_out(work, artifacts, model, champion):
    feed(work, model, rows_of(60))
    check(work, artifacts, model, Look([UpstreamFault(*SCHEMA, "refused", {})]))
    (incident,) = standing(work, model)
    assert incident.last_sequence is None
    with work:
        assert work.observations.n_labelled(model.id, after_label=0) == 60
        assert work.checks.report(incident.report_id, model.id)["finding"] != "fault"


def test_over_rest_an_incident_is_listed_named_by_its_model_and_ended(api, work, model, opened):
    base = f"/v1/models/{model.name}"
    (named,) = api.get(base).json()["incidents"]
    assert (named["field"], named["kind"], named["blocks"]) == ("age", "missing", ["retraining"])
    assert api.get(named["url"]).json()["numbers"]["share"] == 1.0
    listed = {
        query: [one["id"] for one in api.get(f"{base}/incidents?{query}").json()["items"]]
        for query in ("state=open", "state=resolved", "kind=missing", "kind=scale", "field=age")
    }
    assert [len(ids) for ids in listed.values()] == [1, 0, 1, 0, 1]
    assert (
        f'upkeep_open_incidents{{kind="missing",model="{model.name}"}} 1.0'
        in api.get("/metrics").text
    )
    refused = api.post(f"{base}/retrain", json={"reason": "now"})
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/conflict")
    seen = api.post(f"{named['url']}/acknowledge", json={"reason": "mine"}).json()
    ended = api.post(f"{named['url']}/resolve", json={"reason": "mended"}).json()
    again = api.post(f"{named['url']}/resolve", json={"reason": "mended"})
    assert (seen["state"], ended["state"], again.status_code) == ("acknowledged", "resolved", 409)
    assert api.get(base).json()["incidents"] == []
    told = [one["action"] for one in api.get(f"/v1/audit?model={model.name}").json()["items"]]
    assert [one for one in told if one.startswith("incident.")] == [
        "incident.resolved", "incident.acknowledged", "incident.opened"
    ]  # fmt: skip
    assert api.post(f"{base}/retrain", json={"reason": "now"}).status_code == 202


def test_an_incident_of_another_model_is_not_there(api, work, model, opened):
    other = text_model(work)
    answer = api.get(f"/v1/models/{other.name}/incidents/{opened[0].id}")
    assert answer.status_code == 404
