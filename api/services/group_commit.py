"""Group commit: concurrent submissions share one transaction if the database has a single writer (SQLite).

SQLite waits for a busy writer by sleeping for increasing times, so sixteen clients that commit separately queue
unfairly (p99 of a submission near a second), and each needs its own fsync. Here the thread whose turn it is writes all
waiting submissions: no thread sleeps, and one fsync serves all. PostgreSQL has many writers and groups commits itself;
there most submissions are one statement, which commits itself.

While another process holds SQLite's lock, the first submission to time out fails all waiting ones, within one time-out.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future

from sqlalchemy import Connection, Engine

from nightshift.errors import RequestError
from shared.db import kept_connection
from shared.db.engine import write, write_one
from shared.errors import DatabaseLocked
from shared.jobs import transitions
from shared.jobs.transitions import NewJob, Submitted

#: Submissions in one transaction. Too low: more fsyncs. Too high: workers wait for the write lock.
MAX_GROUP = 32

#: How long a submission waits for its turn (seconds), in addition to the lock's own time-out. Too low: a burst on a
#: slow disk is refused. Too high: clients time out before they get 503.
TURN_SECONDS = 5.0

_Waiting = tuple[NewJob, Future[Submitted]]


class Submissions:
    """Writes submissions, from any number of threads."""

    def __init__(self, engine: Engine, turn_seconds: float = TURN_SECONDS) -> None:
        self._engine = engine
        self._turn_seconds = turn_seconds
        self._one_writer = engine.dialect.name == "sqlite"
        self._waiting: deque[_Waiting] = deque()
        self._turn = threading.Lock()

    def submit(self, new: NewJob) -> Submitted:
        """Write the job; it is durable on return. Raises InvalidRequest; DatabaseUnavailable if it was not written."""
        if not self._one_writer:
            opened = write_one if transitions.is_one_statement(new) else write
            with opened(self._engine) as conn:
                return transitions.submit(conn, new)
        kept_connection.give_back()  # it is not needed while this waits
        future: Future[Submitted] = Future()
        self._waiting.append((new, future))
        give_up_at = time.monotonic() + self._turn_seconds
        while not future.done():
            if self._turn.acquire(timeout=max(0.0, give_up_at - time.monotonic())):
                self._serve(future)
            elif future.cancel():  # it was not being written, and now will not be
                raise DatabaseLocked("the database does not answer: other submissions were waiting before this one")
            else:
                break  # it is being written, which takes at most the lock's time-out
        return future.result()

    def submit_batch(self, news: Sequence[NewJob], *, all_or_none: bool) -> list[Submitted | RequestError]:
        """Write the jobs in one transaction; return what became of each. Raises DatabaseUnavailable.

        With `all_or_none`, one refused job rolls everything back; the others then have no outcome.
        """
        if self._one_writer and not self._turn.acquire(timeout=self._turn_seconds):
            raise DatabaseLocked("the database does not answer: other submissions were waiting before this one")
        try:
            with write(self._engine) as conn:
                return _all(conn, news) if all_or_none else [_apart(conn, new) for new in news]
        except _Refused as refused:
            return refused.outcomes
        finally:
            if self._one_writer:
                self._turn.release()

    def _serve(self, future: Future[Submitted]) -> None:
        """Write a group, unless the previous turn has written this submission; the caller holds the turn."""
        try:
            if not future.done():
                self._write(self._next_group(MAX_GROUP))
        finally:
            self._turn.release()

    def _next_group(self, most: int) -> list[_Waiting]:
        """Take the longest-waiting submissions that have not timed out; from now on they cannot be cancelled."""
        group: list[_Waiting] = []
        while self._waiting and len(group) < most:
            waiting = self._waiting.popleft()
            if waiting[1].set_running_or_notify_cancel():
                group.append(waiting)
        return group

    def _write(self, group: list[_Waiting]) -> None:
        try:
            with write(self._engine) as conn:
                outcomes = [_try(conn, new) for new, _ in group]
        except DatabaseLocked as error:  # the others would time out as well
            _refuse([*group, *self._next_group(len(self._waiting))], error)
        except BaseException as error:
            _refuse(group, error)
        else:
            _set_results(group, outcomes)


def _refuse(group: list[_Waiting], error: BaseException) -> None:
    for _, future in group:
        future.set_exception(error)


def _set_results(group: list[_Waiting], outcomes: list[Submitted | RequestError]) -> None:
    for (_, future), outcome in zip(group, outcomes, strict=True):
        if isinstance(outcome, RequestError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


class _Refused(Exception):
    """Rolls a batch back. `outcomes`: those before the refused job are void."""

    def __init__(self, outcomes: list[Submitted | RequestError]) -> None:
        super().__init__()
        self.outcomes = outcomes


def _all(conn: Connection, news: Sequence[NewJob]) -> list[Submitted | RequestError]:
    outcomes: list[Submitted | RequestError] = []
    for new in news:
        outcomes.append(_try(conn, new))
        if isinstance(outcomes[-1], RequestError):
            raise _Refused(outcomes)
    return outcomes


def _apart(conn: Connection, new: NewJob) -> Submitted | RequestError:
    """Submit one job under a savepoint: on PostgreSQL a statement that fails would undo the jobs before it."""
    try:
        with conn.begin_nested():
            return transitions.submit(conn, new)
    except RequestError as refused:
        return refused


def _try(conn: Connection, new: NewJob) -> Submitted | RequestError:
    """Submit one job. A refused submission has written nothing, so the rest of its group can be committed."""
    try:
        return transitions.submit(conn, new)
    except RequestError as refused:
        return refused
