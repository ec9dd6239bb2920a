"""Where does a program that uses Upkeep begin?"""

import pytest
from starlette.responses import JSONResponse

from upkeep import Invalid, Unavailable, Upkeep

NEW = {"task_type": "text-classification", "base_model": "preset:tiny", "labels": ["a", "b"]}


def test_a_new_model_says_only_what_was_stated(service, upkeep):
    service.answers("POST", "/v1/models", JSONResponse({"name": "fraud"}, 201))
    model = upkeep.create_model("fraud", **NEW, policy={"x": 1})
    assert model.name == "fraud"
    assert service.seen[0].json == {"name": "fraud", **NEW, "policy": {"x": 1}}


def test_workers_that_are_still_starting_are_waited_for(service, upkeep, refuse):
    ready = JSONResponse({"name": "fraud"}, 201)
    service.answers("POST", "/v1/models", refuse(503, "no worker yet"), ready)
    upkeep.create_model("fraud", **NEW)
    assert len(service.seen) == 2


def test_an_unknown_task_type_is_refused_with_the_known_ones(service, upkeep, refuse):
    service.answers("POST", "/v1/models", refuse(422, "unknown task type 'x'; known: y"))
    with pytest.raises(Invalid, match="known: y"):
        upkeep.create_model("fraud", **NEW)


def test_task_types_are_listed(service, upkeep):
    service.answers("GET", "/v1/task-types", {"items": [{"name": "y"}], "next_cursor": None})
    assert upkeep.task_types() == [{"name": "y"}]


def test_the_audit_is_read_for_one_model(service, upkeep):
    service.answers("GET", "/v1/audit", {"items": [{"id": "1"}], "next_cursor": None})
    assert list(upkeep.audit(model="fraud")) == [{"id": "1"}]
    assert service.seen[0].query["model"] == "fraud"


def test_a_service_that_is_down_is_asked_once_whether_it_is_ready(service, upkeep, refuse):
    service.answers("GET", "/readyz", refuse(503), {"status": "ready"})
    with pytest.raises(Unavailable):
        upkeep.readiness()


def test_a_closed_client_is_of_no_more_use(service):
    with Upkeep(service.url) as client:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        client.task_types()
