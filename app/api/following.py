"""How do many readers follow runs, for one question to Postgres at each turn?"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import structlog
from fastapi.concurrency import run_in_threadpool

from app.domain.errors import Busy
from app.domain.training import IN_FLIGHT, News, RunChange
from app.services.documents import document
from app.services.ports import UnitOfWork

log = structlog.get_logger()

TURN_SECONDS: Final = 0.5
HEARTBEAT_SECONDS: Final = 10.0
RETRY_MILLISECONDS: Final = 1000


@dataclass(eq=False, slots=True)
class _Reader:
    """One open stream: what it has had, and what waits for it."""

    run_id: UUID
    after: int
    changes: Sequence[RunChange] = ()
    is_over: bool = False
    has_news: asyncio.Event = field(default_factory=asyncio.Event)


class Following:
    """The streams of one API process; while there are any, one task asks Postgres for them all.

    Postgres numbers the changes of a run, so any API process can go on where another one stopped.

    Args:
        open_work: makes a unit of work.
        most: streams at once.
    """

    def __init__(self, open_work: Callable[[], UnitOfWork], *, most: int) -> None:
        self._open_work = open_work
        self._most = most
        self._readers: set[_Reader] = set()
        self._came = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def check(self) -> None:
        """Refuse a stream beyond the limit.

        Raises:
            Busy: as many as may be are open.
        """
        if len(self._readers) >= self._most:
            raise Busy(
                f"{self._most} streams are open, as many as this process may have; read the run "
                "itself every few seconds, or raise UPKEEP_MAXIMUM_STREAMS"
            )

    async def lines(
        self, run_id: UUID, *, after: int, heartbeat_seconds: float = HEARTBEAT_SECONDS
    ) -> AsyncIterator[str]:
        """Yield the changes of a run after a number as server-sent events, until it has ended.

        A comment is sent when nothing else was for some time, so that a broken line is noticed.
        """
        reader = _Reader(run_id, after)
        self._readers.add(reader)
        self._came.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._take_turns())
        try:
            yield f"retry: {RETRY_MILLISECONDS}\n\n"
            while True:
                try:
                    async with asyncio.timeout(heartbeat_seconds):
                        await reader.has_news.wait()
                except TimeoutError:
                    yield ": no news\n\n"
                    continue
                for change in reader.changes:
                    yield written(change)
                if reader.is_over:
                    return
                reader.changes = ()
                reader.has_news.clear()
        finally:
            self._readers.discard(reader)

    async def _take_turns(self) -> None:
        while self._readers:
            self._came.clear()
            waiting = [reader for reader in self._readers if not reader.has_news.is_set()]
            if waiting:
                await self._tell(waiting)
            with suppress(TimeoutError):
                async with asyncio.timeout(TURN_SECONDS):
                    await self._came.wait()

    async def _tell(self, readers: Sequence[_Reader]) -> None:
        after: dict[UUID, int] = {}
        for reader in readers:
            after[reader.run_id] = min(reader.after, after.get(reader.run_id, reader.after))
        try:
            found = await run_in_threadpool(self._look, after)
        except Exception:  # the streams must outlive it
            log.exception("runs.unreadable", n_streams=len(readers))
            return
        for reader in readers:
            news = found.get(reader.run_id)
            if news is None:
                reader.is_over = True
                reader.has_news.set()
                continue
            reader.changes = [one for one in news.changes if one.number > reader.after]
            reader.is_over = news.state not in IN_FLIGHT
            if reader.changes:
                reader.after = reader.changes[-1].number
            if reader.changes or reader.is_over:
                reader.has_news.set()

    def _look(self, after: dict[UUID, int]) -> dict[UUID, News]:
        with self._open_work() as work:
            return dict(work.runs.news(after))


def written(change: RunChange) -> str:
    """Return a change as one server-sent event."""
    kind = "state" if change.progress is None else "progress"
    return f"id: {change.number}\nevent: {kind}\ndata: {json.dumps(document(change))}\n\n"
