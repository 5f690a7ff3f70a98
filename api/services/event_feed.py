"""Notifications of new events for open event streams, with one cheap query per poll.

A stream that polled by itself would need a thread and a connection per client. Here all streams of a process share one
poller: `SELECT id, event_seq … WHERE id IN (watched)`. A stream reads events only when its job's number has changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from sqlalchemy import Engine, select
from sqlalchemy.exc import SQLAlchemyError

from nightshift.errors import Unavailable
from shared.db.engine import read
from shared.db.schema import jobs

T = TypeVar("T")

#: Seconds between polls. Too low: needless queries. Too high: watchers see events late.
POLL_SECONDS = 0.2
#: Threads that read for streams, separate from those that serve requests.
STREAM_THREADS = 4
#: Jobs per query, below SQLite's limit of bound values.
_BATCH = 500


class Subscription:
    """A watched job: the highest `event_seq` seen so far."""

    def __init__(self) -> None:
        self.followers = 0
        self.seq = 0
        self._closed = False
        self._changed = asyncio.Event()

    def announce(self, seq: int) -> None:
        """Note a new number and wake all waiting streams."""
        self.seq = max(self.seq, seq)
        self._changed.set()
        self._changed = asyncio.Event()

    def close(self) -> None:
        """Wake all waiting streams for good."""
        self._closed = True
        self.announce(0)

    async def beyond(self, seq: int, timeout: float) -> bool:
        """Wait for an event after `seq`; return False after `timeout` seconds or when the feed was closed.

        A new subscription has no number until its first poll.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self.seq <= seq and not self._closed:
                    await self._changed.wait()
        return self.seq > seq


class EventFeed:
    """The poller of one process and its subscriptions."""

    def __init__(self, engine: Engine, poll_seconds: float = POLL_SECONDS) -> None:
        self._engine = engine
        self._poll_seconds = poll_seconds
        self._topics: dict[str, Subscription] = {}
        self._poller: asyncio.Task[None] | None = None
        self._limiter = CapacityLimiter(STREAM_THREADS)
        self.closing = False

    @asynccontextmanager
    async def follow(self, job_id: str) -> AsyncIterator[Subscription]:
        """Watch a job until the block ends."""
        topic = self._topics.setdefault(job_id, Subscription())
        topic.followers += 1
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        try:
            yield topic
        finally:
            topic.followers -= 1
            if not topic.followers:
                self._topics.pop(job_id, None)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run a blocking read for a stream, on separate threads."""
        return await to_thread.run_sync(work, limiter=self._limiter, abandon_on_cancel=True)

    def close(self) -> None:
        """End all streams soon; clients reconnect with Last-Event-ID."""
        self.closing = True
        for topic in self._topics.values():
            topic.close()

    async def _poll(self) -> None:
        while self._topics and not self.closing:
            await asyncio.sleep(self._poll_seconds)
            ask = partial(self._sequences, list(self._topics))
            # While the database does not answer, streams stay open and send keep-alives.
            with suppress(Unavailable, SQLAlchemyError):
                for job_id, seq in await self.in_thread(ask):
                    topic = self._topics.get(job_id)
                    if topic and seq > topic.seq:
                        topic.announce(seq)

    def _sequences(self, ids: Sequence[str]) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        with read(self._engine) as conn:
            for start in range(0, len(ids), _BATCH):
                query = select(jobs.c.id, jobs.c.event_seq).where(jobs.c.id.in_(ids[start : start + _BATCH]))
                found.extend((row[0], row[1]) for row in conn.execute(query))
        return found
