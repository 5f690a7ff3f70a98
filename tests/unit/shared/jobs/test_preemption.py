"""Preemption selects the job that makes room for an urgent one; two jobs cannot preempt each other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, select, update

from nightshift.states import JobState
from shared.clock import db_now
from shared.db.engine import read, write
from shared.db.schema import attempts, jobs
from shared.fleet.workers import WorkerInfo, register
from shared.jobs import queries, transitions
from shared.jobs.explain import explain
from shared.jobs.preemption import Holder, Rules, choose_victim
from shared.jobs.states import AttemptOutcome, StopRequest
from shared.jobs.transitions import Lease
from shared.settings import Settings
from tests.support.factories import OWNER, claim_job, let_wait, make_claimer, submit_job
from worker.maintenance import preemptor

RULES = Rules(priority_gap=2, patience_seconds=5.0, quiet_seconds=600.0)

# -- the decision -----------------------------------------------------------------------------------


def holder(job_id: str = "a", **fields: Any) -> Holder:
    return Holder(
        **{
            "job_id": job_id,
            "fence": 1,
            "worker": "w",
            "priority": 3,
            "started_at": 0.0,
            "times_preempted": 0,
            **fields,
        }
    )


@pytest.mark.parametrize(
    ("holders", "victim"),
    [
        ([], None),
        ([holder(priority=8)], None),  # the gap is 2
        ([holder(priority=7)], "a"),
        ([holder("a", priority=4), holder("b", priority=1), holder("c", priority=5)], "b"),
        ([holder("a", started_at=10.0), holder("b", started_at=90.0), holder("c", started_at=50.0)], "b"),
        ([holder(started_at=500.0, times_preempted=1)], None),  # not yet 600 s in peace
        ([holder(started_at=400.0, times_preempted=1)], "a"),
        ([holder(started_at=-100.0, times_preempted=2)], None),  # the second time it is 1,200
        ([holder("a", priority=0, started_at=900.0, times_preempted=1), holder("b", priority=6)], "b"),
    ],
)
def test_the_lowest_priority_goes_then_the_latest_unless_it_was_pushed_out_before(
    holders: list[Holder], victim: str | None
) -> None:
    chosen = choose_victim(9, holders, 1000.0, RULES)
    assert (chosen.job_id if chosen else None) == victim


@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 10))
def test_whom_a_job_pushed_out_cannot_push_it_out(one: int, other: int, gap: int) -> None:
    rules = Rules(gap, 0.0, 0.0)
    back_and_forth = [choose_victim(x, [holder(priority=y)], 1.0, rules) for x, y in ((one, other), (other, one))]
    assert None in back_and_forth


# -- in SQL -----------------------------------------------------------------------------------------


def worker(engine: Engine, name: str = "cpu0@test", device: str = "cpu") -> None:
    with write(engine) as conn:
        register(conn, WorkerInfo(name, "test", 1, device, device, frameworks=["torch", "tensorflow"]))


def running(engine: Engine, name: str = "cpu0@test", **fields: Any) -> Lease:
    """A job that this worker holds."""
    worker(engine, name)
    job_id = submit_job(engine, **{"priority": 3, **fields}).job_id
    lease = claim_job(engine, make_claimer(name)).lease
    assert lease.job_id == job_id
    return lease


def urgent(engine: Engine, waited: float = 10.0, **fields: Any) -> str:
    job_id = submit_job(engine, **{"priority": 9, "preempt": True, **fields}).job_id
    let_wait(engine, job_id, waited)
    return job_id


def preempt(engine: Engine) -> int:
    return preemptor.run_once(engine, Settings())["preempted"]


def row(engine: Engine, job_id: str) -> Any:
    with read(engine) as conn:
        return conn.execute(select(jobs).where(jobs.c.id == job_id)).one()


def release(engine: Engine, lease: Lease) -> JobState:
    with write(engine) as conn:
        return transitions.release(conn, lease, outcome=AttemptOutcome.PREEMPTED)


def test_the_urgent_job_gets_the_device_and_the_other_goes_on_after_it(engine: Engine) -> None:
    low = running(engine, timeout_seconds=1000.0)
    waits = submit_job(engine, priority=3).job_id
    job_id = urgent(engine)
    assert preempt(engine) == 1
    assert (row(engine, low.job_id).stop_requested, row(engine, low.job_id).makes_room_for) == ("preempt", job_id)
    assert preempt(engine) == 0, "it has its victim already"
    assert release(engine, low) is JobState.QUEUED
    left = row(engine, low.job_id)
    assert (left.retries, left.lost_streak, left.stop_requested, left.deadline_at) == (0, 0, None, None)
    claims = [claim_job(engine).lease.job_id for _ in range(3)]
    assert claims == [job_id, low.job_id, waits], "its place is kept, behind the one that it made room for only"
    again = row(engine, low.job_id)
    assert (again.makes_room_for, again.deadline_at is not None) == (None, True)


def test_a_job_that_had_waited_for_hours_does_not_take_its_device_back(engine: Engine) -> None:
    low = running(engine)
    let_wait(engine, low.job_id, 100_000)
    job_id = urgent(engine)
    assert preempt(engine) == 1
    release(engine, low)
    assert claim_job(engine).lease.job_id == job_id


@pytest.mark.parametrize(
    "spared",
    ["not urgent", "not due long enough", "priority too near", "a worker is free", "one is about to be",
        "no such device"],
)  # fmt: skip
def test_no_job_is_preempted_without_need(sqlite_engine: Engine, spared: str) -> None:
    low = running(sqlite_engine, priority=8 if spared == "priority too near" else 3)
    if spared == "a worker is free":
        worker(sqlite_engine, "cpu1@test")
    if spared == "one is about to be":
        other = running(sqlite_engine, "cpu1@test")
        with write(sqlite_engine) as conn:
            transitions.request_stop(conn, other.job_id, StopRequest.PAUSE, OWNER)
    device = {"resources": {"device": "gpu"}} if spared == "no such device" else {}
    urgent(
        sqlite_engine,
        waited=1.0 if spared == "not due long enough" else 10.0,
        preempt=spared != "not urgent",
        **device,
    )
    assert preempt(sqlite_engine) == 0
    assert row(sqlite_engine, low.job_id).stop_requested is None


def test_another_one_that_would_get_the_device_comes_first(engine: Engine) -> None:
    running(engine)
    aged = submit_job(engine, priority=3).job_id
    let_wait(engine, aged, 100_000)
    urgent(engine)
    assert preempt(engine) == 0, "the victim would make room for another job"


def test_two_urgent_jobs_get_two_devices_and_one_victim_each(engine: Engine) -> None:
    first, second = running(engine), running(engine, "cpu1@test")
    wanted = {urgent(engine), urgent(engine)}
    assert preempt(engine) == 2
    assert {row(engine, lease.job_id).makes_room_for for lease in (first, second)} == wanted
    assert preempt(engine) == 0


def test_a_second_victim_of_one_job_is_refused_by_the_database(engine: Engine) -> None:
    first, second = running(engine), running(engine, "cpu1@test")
    with write(engine) as conn:
        conn.execute(update(jobs).where(jobs.c.id == first.job_id).values(makes_room_for="x"))
    with pytest.raises(Exception, match=r"(?i)unique"), write(engine) as conn:
        conn.execute(update(jobs).where(jobs.c.id == second.job_id).values(makes_room_for="x"))


def test_who_was_pushed_out_is_left_alone_for_a_while(engine: Engine) -> None:
    low = running(engine)
    urgent(engine)
    preempt(engine)
    release(engine, low)
    done = claim_job(engine).lease
    with write(engine) as conn:
        transitions.succeed(conn, done, result={}, artifacts=[])
    again = claim_job(engine).lease
    assert again.job_id == low.job_id
    urgent(engine)
    assert preempt(engine) == 0
    with write(engine) as conn:
        began = update(attempts).where(attempts.c.job_id == low.job_id, attempts.c.fence == again.fence)
        conn.execute(began.values(started_at=db_now() - 601))
    assert preempt(engine) == 1


def test_a_stronger_request_stands(engine: Engine) -> None:
    low = running(engine)
    urgent(engine)
    preempt(engine)
    with write(engine) as conn:
        transitions.request_stop(conn, low.job_id, StopRequest.CANCEL, OWNER)
    assert release(engine, low) is JobState.CANCELLED


def test_why_says_who_makes_room_for_whom(sqlite_engine: Engine) -> None:
    low = running(sqlite_engine)
    job_id = urgent(sqlite_engine)
    preempt(sqlite_engine)
    with read(sqlite_engine) as conn:
        found = {
            one: explain(job, queries.explain_context(conn, job, 30.0))
            for one in (low.job_id, job_id)
            if (job := queries.get_job(conn, one, OWNER))
        }
    assert f"it preempts job {low.job_id}" in found[job_id].sentence
    assert f"it is being preempted by job {job_id} and will be resumed automatically" in found[low.job_id].sentence
