"""Submissions that share a transaction: each has its own outcome, and none is told of a commit that did not happen."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, event, func, select

from api.services.group_commit import MAX_GROUP, Submissions
from nightshift.errors import InvalidRequest
from shared.db.engine import read
from shared.db.schema import job_events, jobs
from shared.errors import DatabaseLocked
from shared.jobs.transitions import NewJob
from tests.support.factories import OWNER, make_spec


def together(submissions: Submissions, news: list[NewJob]) -> list[Any]:
    """Submit all at once, in this order, while the turn is taken, and return their outcomes."""
    outcomes: list[Any] = [None] * len(news)

    def submit(number: int) -> None:
        try:
            outcomes[number] = submissions.submit(news[number])
        except Exception as error:
            outcomes[number] = error

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(len(news))]
    with submissions._turn:
        for waiting, thread in enumerate(threads, start=1):
            thread.start()
            _until(lambda waiting=waiting: len(submissions._waiting) == waiting or not submissions._one_writer)  # type: ignore[misc]
    for thread in threads:
        thread.join()
    return outcomes


def _until(condition: Callable[[], bool]) -> None:
    ticking = threading.Event()
    for _ in range(3_000):
        if condition():
            return
        ticking.wait(0.01)
    raise AssertionError("it never came to that")


def new_job(key: str | None = None, body_hash: str = "a", **fields: Any) -> NewJob:
    return NewJob(owner_id=OWNER, spec=make_spec(**fields), idempotency_key=key, body_hash=body_hash)


def count(engine: Engine) -> int:
    with read(engine) as conn:
        return conn.scalar(select(func.count()).select_from(jobs)) or 0


def test_each_of_a_group_has_its_own_outcome(engine: Engine) -> None:
    submissions = Submissions(engine)
    first = submissions.submit(new_job("key"))
    news = [new_job(), new_job("key"), new_job("key", "other"), new_job(after=["0" * 16]), new_job(priority=9)]
    plain, same, other, orphan, last = together(submissions, news)
    assert (plain.created, last.created) == (True, True)
    assert (same.job_id, same.created) == (first.job_id, False)
    assert isinstance(other, InvalidRequest)
    assert isinstance(orphan, InvalidRequest)
    assert count(engine) == 3


def test_a_group_costs_one_commit(sqlite_engine: Engine) -> None:
    commits: list[Any] = []
    event.listen(sqlite_engine, "commit", commits.append)
    outcomes = together(Submissions(sqlite_engine), [new_job() for _ in range(2 * MAX_GROUP)])
    assert len({outcome.job_id for outcome in outcomes}) == count(sqlite_engine) == 2 * MAX_GROUP
    assert len(commits) == 2


def test_a_commit_that_fails_fails_every_submission_of_its_group(sqlite_engine: Engine) -> None:
    submissions = Submissions(sqlite_engine)

    def refuse(conn: Any) -> None:
        raise OSError("the disk is gone")

    event.listen(sqlite_engine, "commit", refuse)
    outcomes = together(submissions, [new_job() for _ in range(3)])
    event.remove(sqlite_engine, "commit", refuse)
    assert [type(outcome) for outcome in outcomes] == [OSError] * 3
    assert count(sqlite_engine) == 0
    assert submissions.submit(new_job()).created


def test_a_submission_that_waits_too_long_for_the_turn_is_refused_and_not_written_later(sqlite_engine: Engine) -> None:
    submissions = Submissions(sqlite_engine, turn_seconds=0.0)
    with submissions._turn, pytest.raises(DatabaseLocked):
        submissions.submit(new_job())
    assert submissions.submit(new_job()).created
    assert count(sqlite_engine) == 1


def test_all_that_wait_hear_at_once_that_the_database_is_locked(sqlite_engine: Engine) -> None:
    """The group that has the first turn finds the lock, and the other groups fail with it."""
    begun: list[Any] = []
    event.listen(sqlite_engine, "begin", begun.append)

    def locked(conn: Any) -> None:
        raise DatabaseLocked("held by another process")

    event.listen(sqlite_engine, "begin", locked)
    submissions = Submissions(sqlite_engine)
    outcomes = together(submissions, [new_job() for _ in range(2 * MAX_GROUP)])
    event.remove(sqlite_engine, "begin", locked)
    assert [type(outcome) for outcome in outcomes] == [DatabaseLocked] * 2 * MAX_GROUP
    assert len(begun) == 1
    assert count(sqlite_engine) == 0


def test_on_postgres_a_submission_is_one_statement_that_commits_itself(postgres_engine: Engine) -> None:
    statements: list[tuple[str, bool]] = []

    @event.listens_for(postgres_engine, "before_cursor_execute")
    def _seen(conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append((statement, conn.connection.driver_connection.autocommit))

    submitted = Submissions(postgres_engine).submit(new_job())
    assert [(text.startswith("WITH job AS"), alone) for text, alone in statements] == [(True, True)]
    with read(postgres_engine) as conn:
        happened = conn.execute(select(job_events).where(job_events.c.job_id == submitted.job_id)).mappings().one()
        created = conn.scalar(select(jobs.c.created_at))
    assert dict(happened) == {
        "job_id": submitted.job_id, "seq": 1, "type": "state", "at": created, "fence": 0,
        "data": {"state": "queued", "attempt": 0},
    }  # fmt: skip


@pytest.mark.parametrize("fields", [{"dataset": "digits@1"}, {"after": ["0" * 16]}])
def test_on_postgres_a_submission_with_a_lock_or_more_rows_is_a_transaction(
    postgres_engine: Engine, fields: dict[str, Any]
) -> None:
    alone: list[bool] = []

    @event.listens_for(postgres_engine, "before_cursor_execute")
    def _seen(conn: Any, *_: Any) -> None:
        alone.append(conn.connection.driver_connection.autocommit)

    with pytest.raises(InvalidRequest):
        Submissions(postgres_engine).submit(new_job(**fields))
    assert alone
    assert not any(alone)
