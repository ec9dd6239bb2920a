"""A real HTTP service on loopback whose answers a test writes down beforehand."""

import json
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from upkeep import Retries, Upkeep

METHODS = ["GET", "POST", "PATCH", "PUT", "DELETE"]
IMPATIENT = Retries(patience_seconds=5.0, first_delay_seconds=0.01, longest_delay_seconds=0.05)


@dataclass(frozen=True)
class Seen:
    """One request as the service saw it."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    fields: dict[str, str]
    files: dict[str, bytes]
    at_seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Reply = Response | dict[str, Any] | Callable[[Seen], Response | dict[str, Any]]


def problem(status: int, detail: str = "no", **more: Any) -> Response:
    body = {"type": f"/problems/{status}", "title": "No", "status": status, "detail": detail}
    headers = more.pop("headers", None)
    return JSONResponse({**body, **more}, status, headers, "application/problem+json")


@dataclass
class ScriptedService:
    """Answers each path with the replies set for it, in turn; the last one stands."""

    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    replies: dict[tuple[str, str], list[Reply]] = field(default_factory=lambda: defaultdict(list))

    def answers(self, method: str, path: str, *replies: Reply) -> None:
        self.replies[method, path] = list(replies)

    def requests(self, method: str, path: str) -> list[Seen]:
        return [one for one in self.seen if (one.method, one.path) == (method, path)]

    async def handle(self, request: Request) -> Response:
        body = await request.body()
        fields, files = {}, {}
        if request.headers.get("content-type", "").startswith("multipart/"):
            async with request.form() as form:
                for name, value in form.multi_items():
                    if isinstance(value, str):
                        fields[name] = value
                    else:
                        files[value.filename] = await value.read()
        seen = Seen(
            request.method,
            request.url.path,
            dict(parse_qsl(request.url.query)),
            dict(request.headers),
            body,
            fields,
            files,
            time.monotonic(),
        )
        self.seen.append(seen)
        left = self.replies.get((seen.method, seen.path))
        if not left:
            return problem(404, f"nothing is scripted for {seen.method} {seen.path}")
        reply = left.pop(0) if len(left) > 1 else left[0]
        answer = reply(seen) if callable(reply) and not isinstance(reply, Response) else reply
        return answer if isinstance(answer, Response) else JSONResponse(answer)


def _free_socket() -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    return listener


@pytest.fixture(scope="session")
def running_service() -> Iterator[ScriptedService]:
    scripted = ScriptedService()
    app = Starlette(routes=[Route("/{path:path}", scripted.handle, methods=METHODS)])
    config = uvicorn.Config(app, log_level="critical", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    listener = _free_socket()
    scripted.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < deadline, "the scripted service did not start"
        time.sleep(0.005)
    yield scripted
    server.should_exit = True
    thread.join(timeout=10)
    listener.close()
    assert not thread.is_alive()


@pytest.fixture
def service(running_service: ScriptedService) -> ScriptedService:
    running_service.seen.clear()
    running_service.replies.clear()
    return running_service


@pytest.fixture
def upkeep(service: ScriptedService) -> Iterator[Upkeep]:
    with Upkeep(service.url, retries=IMPATIENT) as client:
        yield client


@pytest.fixture
def unused_url() -> Iterator[str]:
    """The address of a port that nobody listens on, reserved for as long as the test runs."""
    holder = _free_socket()
    yield f"http://127.0.0.1:{holder.getsockname()[1]}"
    holder.close()


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    def poll(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, "it did not happen within 20 seconds"
            time.sleep(0.01)

    return poll


@pytest.fixture
def refuse() -> Callable[..., Response]:
    """`refuse(409, "why")` is a problem document."""
    return problem
