"""How is a run followed while it goes on? Its changes, as they happen, across broken lines."""

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import cast

from upkeep.documents import RunChangeDocument
from upkeep.errors import Unavailable
from upkeep.transport import Transport


def parsed(blocks: Iterable[bytes]) -> Iterator[RunChangeDocument]:
    """Yield what the server-sent events of a stream say; comments and their like say nothing."""
    rest, data = b"", []
    for block in blocks:
        *lines, rest = (rest + block).replace(b"\r\n", b"\n").split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                data.append(line.removeprefix(b"data:").strip())
            elif not line and data:
                yield cast("RunChangeDocument", json.loads(b"\n".join(data)))
                data = []


def changes(
    transport: Transport,
    path: str,
    *,
    after: int,
    ends: Collection[str],
    is_over: Callable[[], bool],
) -> Iterator[RunChangeDocument]:
    """Yield the changes of a run after a number, each once and in order, until it has ended.

    Args:
        transport: to the service.
        path: of the run's events.
        after: number of the last change that is known.
        ends: states that no change follows.
        is_over: asks the service whether the run has ended.

    Raises:
        Unavailable: no line held for as long as the transport's patience.
        NotFound: no such run.
    """
    failures, since = 0, time.monotonic()
    while True:
        n_before = after
        try:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
            with transport.streamed(path, headers=headers) as blocks:
                for change in parsed(blocks):
                    after, failures, since = change["number"], 0, time.monotonic()
                    yield change
                    if change["state"] in ends:
                        return
        except Unavailable:
            if time.monotonic() - since > transport.retries.patience_seconds:
                raise
        else:
            if after == n_before and is_over():
                return
        failures += 1
        time.sleep(transport.retries.pause_seconds(failures, None))
