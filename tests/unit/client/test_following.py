"""How is a run followed while it goes on?"""

import json
from collections.abc import Iterable

import pytest
from starlette.responses import Response

from upkeep import Retries, Unavailable, Upkeep
from upkeep.following import parsed

EVENTS = "/v1/models/fraud/runs/r/events"


def change(number: int, state: str = "running") -> dict[str, object]:
    return {"number": number, "what": "progress", "state": state, "progress": None}


def stream(*changes: dict[str, object]) -> Response:
    told = [f"id: {one['number']}\nevent: x\ndata: {json.dumps(one)}\n\n" for one in changes]
    return Response(": hello\n\nretry: 5\n\n" + "".join(told), media_type="text/event-stream")


def blocks(text: str, size: int) -> Iterable[bytes]:
    raw = text.encode()
    return (raw[start : start + size] for start in range(0, len(raw), size))


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_events_are_read_however_the_network_cuts_them(size):
    text = ': note\r\n\r\nid: 1\r\ndata: {"number":\r\ndata: 1}\r\n\r\n'
    text += 'retry: 9\n\ndata: {"a": "ü"}\n\n'
    assert list(parsed(blocks(text, size))) == [{"number": 1}, {"a": "ü"}]


def test_a_run_is_followed_until_its_end(service, upkeep):
    service.answers("GET", EVENTS, stream(change(1), change(2, "failed")))
    seen = list(upkeep.model("fraud").follow("r"))
    assert [one["number"] for one in seen] == [1, 2]
    assert len(service.seen) == 1


def test_a_broken_line_is_taken_up_where_it_broke(service, upkeep, refuse):
    service.answers(
        "GET",
        EVENTS,
        stream(change(1), change(2)),
        refuse(503, headers={"Retry-After": "5"}),
        stream(change(3, "succeeded")),
    )
    seen = list(upkeep.model("fraud").follow("r"))
    asked = [one.headers["last-event-id"] for one in service.requests("GET", EVENTS)]
    assert [one["number"] for one in seen] == [1, 2, 3]
    assert asked == ["0", "2", "2"]


def test_a_run_that_ended_before_what_is_known_says_nothing_more(service, upkeep):
    service.answers("GET", EVENTS, stream())
    service.answers("GET", "/v1/models/fraud/runs/r", {"id": "r", "state": "succeeded"})
    assert list(upkeep.model("fraud").follow("r", after=9)) == []
    assert service.seen[0].headers["last-event-id"] == "9"


def test_patience_ends_where_no_line_holds(service, refuse):
    service.answers("GET", EVENTS, refuse(503, "too many"))
    brief = Retries(patience_seconds=0.1, first_delay_seconds=0.01, longest_delay_seconds=0.02)
    with Upkeep(service.url, retries=brief) as upkeep, pytest.raises(Unavailable, match="too many"):
        list(upkeep.model("fraud").follow("r"))
    assert len(service.seen) > 1
