"""Every error has its status, and every problem document its parts."""

import json
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.api.problems import MEDIA_TYPE, PROBLEMS, install
from app.domain import errors
from app.domain.errors import Fault, Invalid, UpkeepError


def tree(root: type[UpkeepError]) -> Iterator[type[UpkeepError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


def answer_to(error: Exception):
    app = FastAPI()
    install(app)

    @app.get("/x")
    def fail():
        raise error

    with TestClient(app, raise_server_exceptions=False) as client:
        return client.get("/x")


@pytest.mark.parametrize("kind", list(tree(UpkeepError)))
def test_every_error_of_the_domain_is_answered_by_its_nearest_problem(kind):
    expected = next(
        (status, name) for base in kind.__mro__ for known, status, name in PROBLEMS if known is base
    )

    answer = answer_to(kind("what would work"))

    assert (answer.status_code, answer.json()["type"]) == (
        expected[0],
        f"/problems/{expected[1]}",
    )
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert answer.json()["detail"] == "what would work"
    assert answer.json()["instance"] == "/x"
    assert answer.status_code < 500 or answer.headers["retry-after"]


def test_the_most_specific_errors_come_first():
    for index, (kind, _, _) in enumerate(PROBLEMS):
        assert not any(issubclass(later, kind) for later, _, _ in PROBLEMS[index + 1 :]), kind


def test_a_bug_is_a_problem_document_that_tells_nothing():
    answer = answer_to(ZeroDivisionError("secret"))

    assert answer.status_code == 500
    assert answer.json()["type"] == "/problems/internal"
    assert "secret" not in answer.text


def test_faults_that_quote_what_utf_8_cannot_hold_can_be_sent():
    answer = answer_to(Invalid("no \ud800", [Fault("/\udfff\x00", "no")]))

    assert answer.status_code == 422
    assert json.loads(answer.content)["errors"] == [{"pointer": "/??", "detail": "no"}]


def test_an_unknown_route_and_method_are_problems_too():
    app = FastAPI()
    install(app)
    app.post("/x")(lambda: None)

    with TestClient(app) as client:
        missing, wrong = client.get("/nothing"), client.get("/x")

    assert (missing.status_code, wrong.status_code) == (404, 405)
    assert "/openapi.json" in missing.json()["detail"]
    assert wrong.headers["content-type"] == MEDIA_TYPE
