"""Threads for writes, which may wait for the database's lock, separate from the threads that serve reads.

While another process holds that lock, each write waits for seconds. If they shared threads, writes would soon occupy
all of them, and reads, which need no lock, would wait as well.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import Any, ParamSpec, TypeVar

from anyio import CancelScope, CapacityLimiter, Semaphore, WouldBlock, move_on_after, to_thread
from fastapi.routing import APIRoute

from api.services.group_commit import MAX_GROUP
from shared.errors import DatabaseLocked

P = ParamSpec("P")
T = TypeVar("T")

#: Requests that write at a time. Too low: groups of submissions stay small. Too high: on PostgreSQL, where each has a
#: connection, those that wait for a locked row leave none of the pool's 40 connections to reads.
WRITING_THREADS = MAX_GROUP
#: How long a request waits for one of these threads (seconds), in addition to the database's time-outs.
THREAD_SECONDS = 5.0


class Writers:
    """Runs blocking writes of requests, also of Flower's pages. Each process has its own threads."""

    def __init__(self, threads: int = WRITING_THREADS, seconds: float = THREAD_SECONDS) -> None:
        self._free = Semaphore(threads)  # acquired with a time-out, so that the limiter never blocks
        self._threads = CapacityLimiter(threads)
        self._seconds = seconds
        self._waiting: set[CancelScope] = set()

    @property
    def waiting(self) -> int:
        """Return the number of requests that wait for a thread."""
        return len(self._waiting)

    async def run(self, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Run `work` on a writer thread. Raises its errors; DatabaseLocked if no thread is free in time."""
        await self._wait()
        try:
            return await to_thread.run_sync(partial(work, *args, **named), limiter=self._threads)
        except DatabaseLocked:
            self._give_up()
            raise
        finally:
            self._free.release()

    async def _wait(self) -> None:
        try:
            self._free.acquire_nowait()
        except WouldBlock:
            await self._wait_in_line()

    async def _wait_in_line(self) -> None:
        with move_on_after(self._seconds) as scope:
            self._waiting.add(scope)
            try:
                await self._free.acquire()
            finally:
                self._waiting.discard(scope)
        if scope.cancelled_caught:
            raise DatabaseLocked("the database does not answer: too many writers wait for it")

    def _give_up(self) -> None:
        """Fail all requests that wait for a thread: they would wait for the same lock."""
        for scope in self._waiting:
            scope.cancel()


class WritingRoute(APIRoute):
    """A route that runs synchronous endpoints of methods other than GET on the service's writer threads."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        self.described = endpoint
        reads = set(options.get("methods") or {"GET"}) <= {"GET", "HEAD"}
        super().__init__(path, endpoint if reads or iscoroutinefunction(endpoint) else _on_writers(endpoint), **options)


def _on_writers(endpoint: Callable[..., T]) -> Callable[..., Any]:
    @wraps(endpoint)
    async def run(**named: Any) -> T:
        result: T = await named["service"].writers.run(partial(endpoint, **named))
        return result

    return run
