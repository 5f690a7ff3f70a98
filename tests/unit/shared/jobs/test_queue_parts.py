"""What is shown of a long queue takes no longer than of a short one; on both databases."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, select, update

from nightshift.states import JobState
from shared.clock import db_now
from shared.db.engine import read, write
from shared.db.schema import jobs
from shared.fleet import workers
from shared.fleet.workers import WorkerInfo
from shared.jobs import queries
from shared.jobs.explain import MOST_AHEAD, explain
from shared.jobs.queries import JobFilters
from shared.jobs.queries.queue import DUE, LATER, queued_jobs
from shared.jobs.queries.table import TableQuery, datasets_used, jobs_table
from tests.support.factories import LEASE_SECONDS, OWNER, job_in_state, submit_job
from tests.support.long_queue import analyzed, lengthen, work_of


def explained(conn: Connection, job_id: str) -> Any:
    job = queries.get_job(conn, job_id, OWNER)
    return explain(job, queries.explain_context(conn, job, LEASE_SECONDS))


#: Queues that get longer: fields of the spec and columns.
QUEUES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "due": ({}, {"run_at": 1e9}),
    "another device": ({"resources": {"device": "gpu"}}, {"run_at": 1e9}),
    "another framework": ({"priority": 9}, {"framework": "tensorflow", "run_at": 1e9}),
    "next year": ({"run_at": 4e9}, {}),
    "soon, and urgent": ({"priority": 9}, {"run_at": None}),
    "ended": ({}, {"state": "cancelled", "finished_at": 1.0}),
}
#: What is shown, of a job that waits.
SHOWN: dict[str, Callable[[Connection, str], object]] = {
    "metrics": lambda conn, _: queries.stats(conn),
    "durations": lambda conn, _: queries.durations(conn),
    "the queue": lambda conn, _: queued_jobs(conn, OWNER, LEASE_SECONDS),
    "why": explained,
    "the table of jobs": lambda conn, _: jobs_table(conn, OWNER, TableQuery()),
    "everyone's jobs": lambda conn, _: jobs_table(conn, None, TableQuery()),
    "paused jobs": lambda conn, _: jobs_table(conn, OWNER, TableQuery(states=("paused",))),
    "the data sets in use": lambda conn, _: datasets_used(conn, OWNER),
    "everyone's paused jobs": lambda conn, _: jobs_table(conn, None, TableQuery(states=("paused",))),
    "the list": lambda conn, _: queries.list_jobs(conn, OWNER),
    "the list of a rare kind": lambda conn, _: queries.list_jobs(conn, OWNER, JobFilters(kind="evaluate")),
    "the list of a rare family": lambda conn, _: queries.list_jobs(conn, OWNER, JobFilters(family="gan")),
    "the list of paused jobs": lambda conn, _: queries.list_jobs(conn, OWNER, JobFilters(states=("paused",))),
}


@pytest.mark.parametrize("queue", QUEUES)
def test_nothing_reads_a_whole_queue(engine: Engine, queue: str) -> None:
    with write(engine) as conn:
        workers.register(conn, WorkerInfo("cpu0@here", "here", 1, "cpu", "cpu", frameworks=["torch"]))
    # As many as are shown or counted, so that the rest has no place in any answer.
    lengthen(engine, max(DUE + LATER, MOST_AHEAD) + 10, *QUEUES[queue])
    job_in_state(engine, JobState.PAUSED)
    job_id = submit_job(engine, priority=0).job_id
    few = _work(engine, job_id)
    lengthen(engine, 1_000, *QUEUES[queue])
    many = _work(engine, job_id)
    assert {shown: work for shown, work in many.items() if work > few[shown] + 300} == {}, "1,000 more jobs are read"


def _work(engine: Engine, job_id: str) -> dict[str, int]:
    with analyzed(engine):
        return {shown: work_of(engine, partial(_show, shown, job_id)) for shown in SHOWN}


def _show(shown: str, job_id: str, conn: Connection) -> object:
    return SHOWN[shown](conn, job_id)


def test_the_queue_is_in_the_order_of_the_claim_whatever_its_parts(engine: Engine) -> None:
    with read(engine) as conn:
        now = conn.scalars(select(db_now())).one()
    wanted = []
    for framework, priority, waited in [("a", 2, 6_000), ("b", 9, 100), ("a", 5, 1_000), ("b", 5, 900), ("b", 0, 10)]:
        wanted.append(submit_job(engine, priority=priority).job_id)
        changed = {"run_at": now - waited, "framework": framework}
        with write(engine) as conn:
            conn.execute(update(jobs).where(jobs.c.id == wanted[-1]).values(changed))
    later = [submit_job(engine, run_at=now + seconds, priority=9).job_id for seconds in (900, 300, 600)]
    with read(engine) as conn:
        queue = queued_jobs(conn, OWNER, LEASE_SECONDS)
    assert [job["id"] for job in queue["due"]] == wanted
    assert [job["id"] for job in queue["later"]] == [later[1], later[2], later[0]]
    assert queue["counts"] == {"due": 5, "later": 3, "waiting": 0, "paused": 0}
    assert queue["devices"]["auto"]["count"] == 5
    assert 6_000 <= queue["devices"]["auto"]["oldest_seconds"] < 7_000


def test_jobs_become_due_without_a_write(engine: Engine) -> None:
    """Those of this second, too, which the counters do not know yet."""
    with read(engine) as conn:
        now = conn.scalars(select(db_now())).one()
    ids = [submit_job(engine, run_at=now + 1_000).job_id for _ in range(3)]

    def due() -> list[tuple[str, int, int]]:
        with read(engine) as conn:
            return [(one.device, one.priority, one.count) for one in queries.stats(conn).due]

    assert due() == []
    for job_id, moment in zip(ids, (int(now), int(now) - 1, now), strict=True):
        with write(engine) as conn:
            conn.execute(update(jobs).where(jobs.c.id == job_id).values(run_at=moment))
    assert due() == [("auto", 5, 3)]


def test_why_counts_the_jobs_ahead_that_its_workers_would_take(engine: Engine) -> None:
    with write(engine) as conn:
        workers.register(conn, WorkerInfo("cpu0@here", "here", 1, "cpu", "cpu", frameworks=["torch"]))
    for fields in (
        {"priority": 9},
        {"priority": 5},
        {"resources": {"device": "cpu"}},
        {"resources": {"device": "gpu"}},
    ):
        submit_job(engine, **fields)
    submit_job(engine, priority=9, run_at=4e9)
    job_id = submit_job(engine, priority=5).job_id
    submit_job(engine, priority=4)
    with read(engine) as conn:
        why = explained(conn, job_id)
    assert "3 queued jobs are ahead of it" in why.sentence


def test_why_says_that_it_stopped_counting(sqlite_engine: Engine) -> None:
    with write(sqlite_engine) as conn:
        workers.register(conn, WorkerInfo("cpu0@here", "here", 1, "cpu", "cpu", frameworks=["torch"]))
    lengthen(sqlite_engine, MOST_AHEAD, {"priority": 9})
    job_id = submit_job(sqlite_engine).job_id
    with read(sqlite_engine) as conn:
        why = explained(conn, job_id)
    assert "1,000 or more queued jobs are ahead of it" in why.sentence


def test_the_table_says_when_there_are_more_jobs_than_it_counted(
    sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.jobs.queries.table.MOST_COUNTED", 4)
    for _ in range(5):
        submit_job(sqlite_engine)
    job_in_state(sqlite_engine, JobState.CANCELLED)

    def table(**query: Any) -> tuple[int, bool, int, bool]:
        with read(sqlite_engine) as conn:
            found = jobs_table(conn, OWNER, TableQuery(limit=2, **query))
        return found["total"], found["more"], found["pages"], found["more_counts"]

    assert table() == (6, False, 3, False), "a counter knows"
    assert table(family="cnn") == (4, True, 2, True)
    assert table(family="cnn", states=("cancelled",)) == (1, False, 1, True)
    assert table(search="cnn", states=("queued",)) == (4, True, 2, True)
