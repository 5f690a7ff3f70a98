"""Jobs that wait for others, and jobs whose time is up."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import Engine, update

from nightshift.states import JobState
from shared.clock import db_now
from shared.db.engine import read, write
from shared.db.schema import jobs
from shared.errors import LeaseLost
from shared.jobs import queries, transitions
from shared.jobs.states import AttemptOutcome, StopRequest
from tests.support.factories import ERROR, OWNER, claim_job, make_claimer, running_job, submit_job


def state_of(engine: Engine, job_id: str) -> str:
    with read(engine) as conn:
        return str(queries.get_job(conn, job_id, OWNER)["state"])


def settle(engine: Engine) -> dict[str, int]:
    with write(engine) as conn:
        return transitions.resolve_dependencies(conn)


def claim_nothing(engine: Engine) -> bool:
    with write(engine) as conn:
        return transitions.claim(conn, make_claimer(), 30.0) is None


def test_it_waits_for_all_and_then_runs(engine: Engine) -> None:
    leases = [running_job(engine) for _ in range(2)]
    job_id = submit_job(engine, after=[lease.job_id for lease in leases]).job_id
    for lease, expected in zip(leases, (JobState.WAITING, JobState.QUEUED), strict=True):
        with write(engine) as conn:
            transitions.succeed(conn, lease, result={}, artifacts=[])
        settle(engine)
        assert state_of(engine, job_id) == expected
    assert claim_job(engine).lease.job_id == job_id


@pytest.mark.parametrize("how", ["fail", "cancel"])
def test_it_fails_when_one_did_not_succeed(engine: Engine, how: str) -> None:
    good, bad = running_job(engine), running_job(engine)
    job_id = submit_job(engine, after=[good.job_id, bad.job_id]).job_id
    with write(engine) as conn:
        if how == "fail":
            transitions.fail(conn, bad, outcome=AttemptOutcome.JOB_ERROR, error=ERROR)
        else:
            transitions.request_stop(conn, bad.job_id, StopRequest.CANCEL, OWNER)
            transitions.stop(conn, bad, outcome=AttemptOutcome.CANCELLED)
    assert settle(engine) == {"queued": 0, "failed": 1}
    with read(engine) as conn:
        job = queries.job_view(queries.get_job(conn, job_id, OWNER))
    assert (job["state"], job["error"]["type"], job["after"]) == (
        "failed",
        "dependency_failed",
        [good.job_id, bad.job_id],
    )
    assert (
        f"job {bad.job_id}, which it waits for, {'failed' if how == 'fail' else 'was cancelled'}"
        in (job["error"]["message"])
    )
    assert claim_nothing(engine)


def test_what_waits_for_it_fails_with_it(engine: Engine) -> None:
    """Down a chain, one link per call; a job that is paused keeps those waiting."""
    root = submit_job(engine).job_id
    chain = [submit_job(engine, after=[root]).job_id]
    chain.append(submit_job(engine, after=[chain[-1]]).job_id)
    for request, expected in ((StopRequest.PAUSE, 0), (StopRequest.CANCEL, 2)):
        with write(engine) as conn:
            transitions.request_stop(conn, root, request, OWNER)
        assert sum(settle(engine)["failed"] for _ in range(3)) == expected
    assert [state_of(engine, job_id) for job_id in chain] == ["failed", "failed"]
    late = submit_job(engine, after=[root])
    assert late.state is JobState.FAILED, "it had ended before: said at once"


def test_two_dispatchers_at_once_settle_once(engine: Engine) -> None:
    lease = running_job(engine)
    waiting = [submit_job(engine, after=[lease.job_id]).job_id for _ in range(20)]
    with write(engine) as conn:
        transitions.succeed(conn, lease, result={}, artifacts=[])
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(settle(engine)["queued"])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 20
    assert {state_of(engine, job_id) for job_id in waiting} == {"queued"}


def late(engine: Engine, job_id: str, seconds: float) -> None:
    with write(engine) as conn:
        conn.execute(update(jobs).where(jobs.c.id == job_id).values(deadline_at=db_now() - seconds))


def expire(engine: Engine) -> list[str]:
    with write(engine) as conn:
        return transitions.expire_deadlines(conn, grace_seconds=20.0)


def test_the_deadline_counts_from_the_first_start_over_all_attempts(engine: Engine) -> None:
    job_id = submit_job(engine, timeout_seconds=100.0).job_id
    first = claim_job(engine)
    with write(engine) as conn:
        transitions.release(conn, first.lease, outcome=AttemptOutcome.DRAINED)
    assert claim_job(engine).deadline_at == first.deadline_at
    assert first.lease.job_id == job_id


def test_a_queued_job_past_its_deadline_fails_and_is_not_claimed(engine: Engine) -> None:
    job_id = submit_job(engine).job_id
    late(engine, job_id, 1)
    with write(engine) as conn:
        assert transitions.claim(conn, transitions.Claimer("w", "cpu", "cpu", frozenset({"torch"})), 30.0) is None
    assert expire(engine) == [job_id]
    assert state_of(engine, job_id) == "failed"


def test_a_running_job_has_the_supervisors_grace(engine: Engine) -> None:
    lease = running_job(engine)
    late(engine, lease.job_id, 5)
    assert expire(engine) == []
    late(engine, lease.job_id, 25)
    assert expire(engine) == [lease.job_id]
    with read(engine) as conn:
        assert queries.attempts(conn, lease.job_id)[0]["outcome"] == "timed_out"
        assert queries.get_job(conn, lease.job_id, OWNER)["error"]["type"] == "timed_out"
    with pytest.raises(LeaseLost), write(engine) as conn:
        transitions.renew(conn, lease)
