"""Submissions that come at the same time share one transaction, where the database has one writer.

SQLite waits for a busy writer by sleeping longer and longer, so sixteen clients that each commit by themselves queue
unfairly (p99 of a submit near a second), and each pays for its own fsync. Here whoever gets the turn writes everything
that waits: nobody sleeps, and the fsync is paid once. Postgres has many writers and groups commits itself.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future

from sqlalchemy import Connection, Engine

from shared.db.engine import write
from shared.errors import RequestError
from shared.jobs import transitions
from shared.jobs.transitions import NewJob, Submitted

#: Submissions in one transaction. Too low: an fsync more often. Too high: workers wait for the write lock.
MAX_GROUP = 32

_Waiting = tuple[NewJob, Future[Submitted]]


class Submissions:
    """`submit` returns when the job is durable; called from any number of threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._one_writer = engine.dialect.name == "sqlite"
        self._waiting: deque[_Waiting] = deque()
        self._turn = threading.Lock()

    def submit(self, new: NewJob) -> Submitted:
        """Raises InvalidRequest for this job only; DatabaseUnavailable, when nothing was written."""
        if not self._one_writer:
            with write(self._engine) as conn:
                return transitions.submit(conn, new)
        future: Future[Submitted] = Future()
        self._waiting.append((new, future))
        while not future.done():
            with self._turn:
                if not future.done():  # else whoever had the turn before has written it
                    self._write([self._waiting.popleft() for _ in range(min(MAX_GROUP, len(self._waiting)))])
        return future.result()

    def _write(self, group: list[_Waiting]) -> None:
        try:
            with write(self._engine) as conn:
                outcomes = [_try(conn, new) for new, _ in group]
        except BaseException as error:
            for _, future in group:
                future.set_exception(error)
            return
        for (_, future), outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, RequestError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)


def _try(conn: Connection, new: NewJob) -> Submitted | RequestError:
    """A submission that is refused has written nothing, so the others of its group may stay."""
    try:
        return transitions.submit(conn, new)
    except RequestError as refused:
        return refused
