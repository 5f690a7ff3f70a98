"""claim: the best due job that fits, once."""

from __future__ import annotations

import threading
import time

import pytest
from sqlalchemy import Engine

from nightshift.states import JobState
from shared.db.engine import read, write
from shared.jobs import queries, transitions
from shared.jobs.models import AGEING_SECONDS
from shared.jobs.states import StopRequest
from shared.jobs.transitions import Claimer
from tests.support.factories import (
    LEASE_SECONDS,
    OWNER,
    claim_job,
    commit_checkpoint,
    expire_lease,
    job_in_state,
    let_wait,
    make_claimer,
    submit_job,
)


def claim(engine: Engine, claimer: Claimer | None = None) -> str | None:
    with write(engine) as conn:
        claimed = transitions.claim(conn, claimer or make_claimer(), LEASE_SECONDS)
    return claimed.lease.job_id if claimed else None


def test_a_claim_says_all_that_an_attempt_needs(engine: Engine) -> None:
    job_id = submit_job(engine, timeout_seconds=100.0, pinned={"dataset": "digits@1"}).job_id
    claimed = claim_job(engine, make_claimer(celery_task_id="task-1"))
    assert (claimed.lease.job_id, claimed.lease.fence, claimed.lease.seconds) == (job_id, 1, LEASE_SECONDS)
    assert (claimed.kind, claimed.owner_id, claimed.pinned) == ("train", OWNER, {"dataset": "digits@1"})
    assert claimed.checkpoints == []
    assert claimed.deadline_at is not None
    with read(engine) as conn:
        job = queries.job_view(queries.get_job(conn, job_id, OWNER))
        attempts = queries.attempts(conn, job_id)
        by_task = queries.job_by_task(conn, "task-1")
    assert (job["state"], job["attempt"], job["worker"], job["device"]) == ("running", 1, "cpu0@test", "cpu")
    assert [(attempt["attempt"], attempt["outcome"]) for attempt in attempts] == [(1, None)]
    assert by_task is not None
    assert (by_task["id"], by_task["attempt_fence"]) == (job_id, 1)


@pytest.mark.parametrize("state", [state for state in JobState if state is not JobState.QUEUED])
def test_only_queued_jobs_are_claimed(engine: Engine, state: JobState) -> None:
    if state is JobState.RUNNING:
        submit_job(engine)
        claim_job(engine)
    else:
        job_in_state(engine, state)
    assert claim(engine) is None


def test_not_before_its_time(engine: Engine) -> None:
    submit_job(engine, run_at=time.time() + 1000)
    assert claim(engine) is None


def test_a_run_at_long_gone_overtakes_no_job(engine: Engine) -> None:
    first = submit_job(engine).job_id
    submit_job(engine, run_at="1970-01-01T00:00:00Z")
    assert claim(engine) == first


def test_first_come_first_served_within_a_priority(engine: Engine) -> None:
    ids = [submit_job(engine).job_id for _ in range(5)]
    assert [claim(engine) for _ in range(5)] == ids


def test_higher_priority_first(engine: Engine) -> None:
    low, high, middle = (submit_job(engine, priority=priority).job_id for priority in (0, 9, 5))
    assert [claim(engine) for _ in range(3)] == [high, middle, low]


def test_waiting_raises_priority_so_that_nothing_starves(engine: Engine) -> None:
    """A level is worth AGEING_SECONDS of waiting: priority 0 passes a fresh 9 after nine times that."""
    patient, impatient = (submit_job(engine, priority=0).job_id for _ in range(2))
    urgent = submit_job(engine, priority=9).job_id
    let_wait(engine, patient, 9 * AGEING_SECONDS + 600)
    let_wait(engine, impatient, 9 * AGEING_SECONDS - 600)
    assert [claim(engine) for _ in range(3)] == [patient, urgent, impatient]


@pytest.mark.parametrize(
    ("wanted", "device", "fits"),
    [("auto", "cpu", True), ("auto", "gpu", True), ("cpu", "cpu", True), ("gpu", "gpu", True), ("gpu", "cpu", False),
        ("cpu", "gpu", False)],
)  # fmt: skip
def test_a_job_goes_to_the_device_it_asked_for(engine: Engine, wanted: str, device: str, fits: bool) -> None:
    job_id = submit_job(engine, resources={"device": wanted}).job_id
    assert claim(engine, make_claimer(device=device)) == (job_id if fits else None)


def test_a_worker_takes_only_frameworks_it_has(engine: Engine) -> None:
    model = {"family": "cnn", "preset": "mnist-1conv", "framework": "tensorflow"}
    job_id = submit_job(engine, model=model).job_id
    assert claim(engine, make_claimer(frameworks=frozenset({"torch"}))) is None
    assert claim(engine, make_claimer(frameworks=frozenset())) is None
    assert claim(engine, make_claimer(frameworks=frozenset({"tensorflow"}))) == job_id


@pytest.mark.usefixtures("long_database_timeouts")
def test_two_claims_at_once_never_take_one_job_twice(engine: Engine) -> None:
    ids = {submit_job(engine).job_id for _ in range(20)}
    taken: list[str | None] = []
    lock = threading.Lock()
    barrier = threading.Barrier(6)

    def take(number: int) -> None:
        barrier.wait()
        while True:
            job_id = claim(engine, make_claimer(f"cpu{number}@test"))
            with lock:
                taken.append(job_id)
            if job_id is None:
                return

    threads = [threading.Thread(target=take, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [job_id for job_id in taken if job_id is not None]
    # A Postgres claim may skip a row that another one holds and then see nothing: it never doubles, and none is left.
    assert len(found) == len(set(found))
    while (job_id := claim(engine)) is not None:
        found.append(job_id)
    assert set(found) == ids


def test_a_locked_best_job_does_not_hold_up_the_next_claim(postgres_url: str) -> None:
    from shared.db.engine import make_engine

    engine = make_engine(postgres_url)
    first, second = submit_job(engine).job_id, submit_job(engine).job_id
    with write(engine) as slow:
        assert transitions.claim(slow, make_claimer(), LEASE_SECONDS).lease.job_id == first  # type: ignore[union-attr]
        assert claim(engine) == second
    engine.dispose()


def test_the_next_attempt_gets_the_ready_checkpoints_newest_first(engine: Engine) -> None:
    submit_job(engine)
    lease = claim_job(engine).lease
    saved = [commit_checkpoint(engine, lease, step=step, is_best=step == 20) for step in (10, 20, 30)]
    with write(engine) as conn:
        transitions.delete_checkpoints(conn, lease, [saved[0].id])
    expire_lease(engine, lease.job_id)
    with write(engine) as conn:
        transitions.rescue(conn, job_id=lease.job_id, seen_fence=1, poison_limit=3)
    again = claim_job(engine)
    assert again.lease.fence == 2
    assert [(row.id, row.step, row.is_best) for row in again.checkpoints] == [
        (saved[2].id, 30, False),
        (saved[1].id, 20, True),
    ]


def test_a_finish_that_was_asked_before_is_handed_on(engine: Engine) -> None:
    submit_job(engine)
    lease = claim_job(engine).lease
    commit_checkpoint(engine, lease)
    with write(engine) as conn:
        transitions.request_stop(conn, lease.job_id, StopRequest.FINISH, OWNER)
    expire_lease(engine, lease.job_id)
    with write(engine) as conn:
        transitions.rescue(conn, job_id=lease.job_id, seen_fence=1, poison_limit=3)
    assert claim_job(engine).stop_requested is StopRequest.FINISH
