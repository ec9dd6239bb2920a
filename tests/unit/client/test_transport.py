"""How does a request reach the service, and what becomes of its answer?"""

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from starlette.responses import HTMLResponse, Response

from upkeep import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Retries,
    Unauthorized,
    Unavailable,
    Upkeep,
    UpkeepError,
)
from upkeep.transport import to_json

RUNS = "/v1/models/fraud/runs/7"
PROMOTE = "/v1/models/fraud/versions/2/promote"


@pytest.mark.parametrize("status", [502, 503, 504, 429])
def test_a_read_is_repeated_until_the_service_is_back(service, upkeep, refuse, status):
    service.answers("GET", RUNS, refuse(status), refuse(status), {"id": "7"})
    assert upkeep.model("fraud").run("7") == {"id": "7"}
    assert len(service.requests("GET", RUNS)) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 500])
def test_an_answer_that_will_not_change_is_not_asked_for_again(service, upkeep, refuse, status):
    service.answers("GET", RUNS, refuse(status), {"id": "7"})
    with pytest.raises(UpkeepError):
        upkeep.model("fraud").run("7")
    assert len(service.requests("GET", RUNS)) == 1


def test_retry_after_in_seconds_is_waited_for(service, upkeep, refuse):
    service.answers("GET", RUNS, refuse(503, headers={"Retry-After": "1"}), {"id": "7"})
    upkeep.model("fraud").run("7")
    first, second = service.requests("GET", RUNS)
    assert second.at_seconds - first.at_seconds >= 1.0


def test_a_retry_after_beyond_the_patience_fails_at_once(service, upkeep, refuse):
    service.answers("GET", RUNS, refuse(503, "soon", headers={"Retry-After": "60"}), {"id": "7"})
    with pytest.raises(Unavailable, match="soon"):
        upkeep.model("fraud").run("7")
    assert len(service.requests("GET", RUNS)) == 1


def test_a_retry_after_date_is_understood(service, upkeep, refuse):
    at = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    service.answers("GET", RUNS, refuse(503, headers={"Retry-After": at}), {"id": "7"})
    with pytest.raises(Unavailable):
        upkeep.model("fraud").run("7")


def test_patience_runs_out(service, refuse):
    service.answers("GET", RUNS, refuse(503, "Postgres is not reachable"))
    retries = Retries(0.2, first_delay_seconds=0.01, longest_delay_seconds=0.02)
    with (
        Upkeep(service.url, retries=retries) as client,
        pytest.raises(Unavailable, match="Postgres is not reachable") as raised,
    ):
        client.model("fraud").run("7")
    assert raised.value.status == 503
    assert len(service.requests("GET", RUNS)) > 2


@pytest.mark.parametrize("status", [502, 504, 500])
def test_a_promotion_whose_answer_may_be_lost_is_not_sent_again(service, upkeep, refuse, status):
    service.answers("POST", PROMOTE, refuse(status), {"number": 2})
    with pytest.raises(UpkeepError):
        upkeep.model("fraud").promote(2, "better")
    assert len(service.requests("POST", PROMOTE)) == 1


def test_a_promotion_that_was_surely_not_begun_is_sent_again(service, upkeep, refuse):
    service.answers("POST", PROMOTE, refuse(503), {"number": 2})
    assert upkeep.model("fraud").promote(2, "better") == {"number": 2}
    assert service.requests("POST", PROMOTE)[1].json == {"reason": "better", "force": False}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Invalid),
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (413, Invalid),
        (422, Invalid),
        (418, UpkeepError),
    ],
)
def test_a_problem_document_becomes_the_error_of_its_status(service, upkeep, refuse, status, kind):
    errors = [{"pointer": "/reason", "detail": "is required"}]
    service.answers("GET", RUNS, refuse(status, "not like that", errors=errors))
    with pytest.raises(kind) as raised:
        upkeep.model("fraud").run("7")
    error = raised.value
    assert type(error) is kind
    assert (error.type, error.title) == (f"/problems/{status}", "No")
    assert (error.status, error.detail, error.errors) == (status, "not like that", errors)
    assert str(error) == "not like that; /reason: is required"


@pytest.mark.parametrize(
    "page",
    [
        HTMLResponse("<h1>Bad Gateway</h1>", 502),
        Response(b"\xff\xfe", 502, media_type="application/json"),
        Response("[]", 502, media_type="application/json"),
        Response(b"", 502),
    ],
)
def test_a_page_of_a_proxy_becomes_an_error_that_names_the_request(service, page):
    service.answers("GET", RUNS, page)
    with (
        Upkeep(service.url, retries=Retries(0.0)) as client,
        pytest.raises(Unavailable, match=f"GET {service.url}{RUNS} answered 502 Bad Gateway"),
    ):
        client.model("fraud").run("7")


def test_a_service_that_is_not_there_is_named(unused_url):
    with (
        Upkeep(unused_url, retries=Retries(0.0)) as client,
        pytest.raises(Unavailable, match=unused_url) as raised,
    ):
        client.model("fraud").run("7")
    assert raised.value.status is None


def test_a_service_that_hangs_is_left_after_the_timeout(hanging_url):
    with (
        Upkeep(hanging_url, timeout_seconds=0.2, retries=Retries(0.0)) as client,
        pytest.raises(Unavailable, match="no answer"),
    ):
        client.model("fraud").run("7")


@pytest.fixture
def hanging_url() -> Iterator[str]:
    over = threading.Event()
    with _tcp(lambda _: over.wait(10)) as url:
        yield url
        over.set()


def test_a_connection_that_breaks_off_is_tried_again():
    answer = b'{"accepted": 1, "duplicates": 0, "rejected": []}'
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\nConnection: close\r\n\r\n".encode()
    attempts = []

    def reply(handler: socketserver.StreamRequestHandler) -> None:
        attempts.append(1)
        if len(attempts) < 3:
            return
        length = 0
        while (line := handler.rfile.readline()) not in {b"\r\n", b""}:
            name, _, value = line.decode().partition(":")
            length = int(value) if name.lower() == "content-length" else length
        handler.rfile.read(length)
        handler.wfile.write(head + answer)

    with _tcp(reply) as url, Upkeep(url, retries=Retries(5.0, 0.01, 0.02)) as client:
        receipt = client.model("fraud").log([{"id": "a", "inputs": {}, "prediction": "x"}])
    assert receipt.n_accepted == 1
    assert len(attempts) == 3


@contextmanager
def _tcp(reply: Callable[[socketserver.StreamRequestHandler], object]) -> Iterator[str]:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            reply(self)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_the_key_travels_as_a_bearer_and_the_actor_by_name(service):
    service.answers("GET", RUNS, {"id": "7"})
    with Upkeep(service.url, "secret-1", actor="ada") as client:
        client.model("fraud").run("7")
    headers = service.seen[0].headers
    assert (headers["authorization"], headers["x-actor"]) == ("Bearer secret-1", "ada")


def test_a_name_with_a_slash_stays_one_segment(service, upkeep):
    service.answers("GET", "/v1/models/a/b/runs/7", {"id": "7"})
    assert upkeep.model("a/b").run("7") == {"id": "7"}
    assert upkeep.model("a/b").path("runs", "7") == "/v1/models/a%2Fb/runs/7"


def test_times_travel_as_utc():
    at = datetime(2026, 1, 31, 12, tzinfo=timezone(timedelta(hours=2)))
    assert to_json({"at": at}) == b'{"at":"2026-01-31T10:00:00+00:00"}'


@pytest.mark.parametrize("value", [float("nan"), datetime(2026, 1, 31), {1, 2}])  # noqa: DTZ001
def test_what_json_cannot_say_is_refused_before_it_is_sent(value):
    with pytest.raises((TypeError, ValueError)):
        to_json({"value": value})
