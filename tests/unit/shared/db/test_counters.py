"""Counters agree with the rows, whatever happened to them; on both databases."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, func, insert, select, update

from api.commands.doctor import counters_of
from nightshift.states import JobState
from shared.db import counters
from shared.db.counters import QUEUED, counted
from shared.db.engine import make_engine, read, write
from shared.db.schema import counters as table
from shared.db.schema import jobs, webhook_deliveries
from shared.jobs import transitions
from shared.jobs.states import AttemptOutcome
from shared.settings import Settings
from tests.support.factories import ERROR, OWNER, claim_job, job_in_state, submit_job
from worker.maintenance import counter

#: What may happen to a job, by its number.
STEPS = ("submit", "submit later", "claim", "fail", "succeed", "archive", "unarchive", "delete", "edit", "fold")


def agree(engine: Engine) -> None:
    with read(engine) as conn:
        assert counters.differences(conn) == []


def sums(engine: Engine) -> dict[tuple[Any, ...], int]:
    """Return what all counters say, without the seconds of queued jobs."""
    with read(engine) as conn:
        names = conn.scalars(select(table.c.measure).distinct()).all()
        return {(name, *row[:3]): row.n for name in names for row in counted(conn, name, "owner_id", "label", "detail")}


@pytest.mark.parametrize("state", JobState)
def test_every_state_is_counted(engine: Engine, state: JobState) -> None:
    job_in_state(engine, state)
    agree(engine)
    assert sums(engine)["jobs", OWNER, state.value, "train"] == 1


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 5)), max_size=25))
def test_counters_agree_after_any_history(sqlite_engine: Engine, steps: list[tuple[str, int]]) -> None:
    for step, number in steps:
        _do(sqlite_engine, step, number)
    agree(sqlite_engine)


HISTORY = [(step, number) for number in range(4) for step in (*STEPS, "submit", "claim", "succeed")]


def test_counters_agree_after_a_history_with_everything(engine: Engine) -> None:
    for step, number in HISTORY:
        _do(engine, step, number)
        agree(engine)
    assert {key[0] for key in sums(engine)} >= {"jobs", "queued", "datasets", "seconds", "deleted", "attempts"}


def _do(engine: Engine, step: str, number: int) -> None:
    match step:
        case "submit":
            device = "gpu" if number % 2 else "auto"
            submit_job(engine, priority=number, resources={"device": device})
        case "submit later":
            submit_job(engine, run_at=4e9 + number)
        case "claim":
            _claim(engine)
        case "fold":
            counter.run_once(engine, Settings())
        case _:
            _change(engine, step, number)


def _claim(engine: Engine) -> None:
    with read(engine) as conn:
        queued = jobs.c.state == "queued"
        is_due = conn.scalar(select(func.count()).where(queued, jobs.c.device == "auto", jobs.c.run_at < 3e9))
    if is_due:
        claim_job(engine)


def _change(engine: Engine, step: str, number: int) -> None:
    with read(engine) as conn:
        # By age, because ids are random: a step then finds the same job each time.
        rows = conn.execute(select(jobs.c.id, jobs.c.fence, jobs.c.state).order_by(jobs.c.created_at, jobs.c.id)).all()
    if not rows:
        return
    row = rows[number % len(rows)]
    with write(engine) as conn:
        lease = transitions.Lease(row.id, row.fence, "cpu0@test")
        is_final = JobState(row.state).is_final
        if step == "edit":
            conn.execute(update(jobs).where(jobs.c.id == row.id).values(priority=number, dataset="mnist@2"))
        elif step == "succeed" and row.state == "running":
            transitions.succeed(conn, lease, result={}, artifacts=[])
        elif step == "fail" and row.state == "running":
            transitions.fail(conn, lease, outcome=AttemptOutcome.JOB_ERROR, error=ERROR)
        elif step == "archive" and is_final:
            transitions.archive(conn, row.id, OWNER)
        elif step == "unarchive":
            transitions.unarchive(conn, row.id, OWNER)
        elif step == "delete" and is_final:
            transitions.delete_job(conn, row.id, OWNER)


def test_a_transaction_that_fails_counts_nothing(engine: Engine) -> None:
    submit_job(engine)
    before = sums(engine)

    def submit_and_fail() -> None:
        with write(engine) as conn:
            conn.execute(update(jobs).values(state="paused"))
            raise KeyError

    with pytest.raises(KeyError):
        submit_and_fail()
    assert sums(engine) == before
    agree(engine)


def test_deliveries_are_counted(engine: Engine) -> None:
    row = {"webhook_id": "w", "event_type": "job.started", "body": "{}", "attempts": 0, "attempts_before": 0}
    times = {"next_at": 1.0, "created_at": 1.0}
    with write(engine) as conn:
        for number, state in enumerate(("pending", "pending", "dead")):
            one = {"id": str(number), "event_id": str(number), "state": state}
            conn.execute(insert(webhook_deliveries).values(**row, **times, **one))
        conn.execute(update(webhook_deliveries).where(webhook_deliveries.c.id == "0").values(state="delivered"))
        conn.execute(delete(webhook_deliveries).where(webhook_deliveries.c.id == "1"))
    agree(engine)
    assert {key[2]: n for key, n in sums(engine).items()} == {"delivered": 1, "dead": 1}


def test_folding_leaves_one_row_for_each_counter(engine: Engine) -> None:
    for number in range(6):
        submit_job(engine, priority=number % 2)
    with write(engine) as conn:
        conn.execute(update(jobs).values(run_at=jobs.c.run_at - 1_000))
    before = sums(engine)
    assert counter.run_once(engine, Settings())["folded"] > 0
    assert sums(engine) == before
    agree(engine)
    with read(engine) as conn:
        rows = conn.execute(select(table).where(table.c.measure == QUEUED)).all()
        assert {(row.position, row.detail, row.change, row.n) for row in rows} == {(0, "0", 0, 3), (0, "1", 0, 3)}
        assert not counters.can_fold(conn)
    assert counter.run_once(engine, Settings()) == {"folded": 0}
    claim_job(engine)
    assert sums(engine)["queued", "", "auto", "1"] == 2
    agree(engine)


@pytest.fixture
def postgres_engine(postgres_url: str) -> Iterator[Engine]:
    engine = make_engine(postgres_url)
    yield engine
    engine.dispose()


def test_no_transaction_waits_for_the_counters_of_another(postgres_engine: Engine) -> None:
    """Both change the same counters, and each ends after the other has begun."""
    with write(postgres_engine) as first:
        transitions.submit(first, _new())
        with write(postgres_engine) as second:
            transitions.submit(second, _new())
        with write(postgres_engine) as other:
            assert counters.fold(other) > 0, "rows of a transaction that has not ended are left"
    agree(postgres_engine)
    assert sums(postgres_engine)["jobs", OWNER, "queued", "train"] == 2


def _new() -> Any:
    from tests.support.factories import make_spec

    return transitions.NewJob(owner_id=OWNER, spec=make_spec())


def test_two_that_fold_at_once_count_nothing_twice(postgres_engine: Engine) -> None:
    for _ in range(4):
        submit_job(postgres_engine)
    with write(postgres_engine) as first:
        assert counters.fold(first) > 0
        with write(postgres_engine) as second:
            assert counters.fold(second) == 0
    agree(postgres_engine)


def test_counting_anew_waits_for_transactions_that_have_changed_a_counter(postgres_engine: Engine) -> None:
    def recount() -> None:
        with write(postgres_engine) as conn:
            counters.recount(conn)

    with write(postgres_engine) as conn:
        transitions.submit(conn, _new())
        thread = threading.Thread(target=recount)
        thread.start()
        _wait_for_lock(postgres_engine)
    thread.join()
    agree(postgres_engine)
    assert sums(postgres_engine)["jobs", OWNER, "queued", "train"] == 1


def _wait_for_lock(engine: Engine) -> None:
    from tests.support.stack import eventually

    def is_waiting() -> bool:
        with read(engine) as conn:
            return bool(conn.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE NOT granted").scalar())

    eventually("counting anew waits for the lock", is_waiting)


def test_a_wrong_counter_is_found_and_put_right(engine: Engine) -> None:
    submit_job(engine)
    with write(engine) as conn:
        conn.execute(update(table).where(table.c.measure == "jobs").values(n=7))
        conn.execute(delete(table).where(table.c.measure == "queued"))
    finding = counters_of(engine)
    assert finding.level == "fails"
    assert finding.detail == f"jobs {OWNER} queued train 7, but there are 1; queued auto 5 0, but there are 1"
    assert "--recount" in finding.advice
    with write(engine) as conn:
        counters.recount(conn)
    assert counters_of(engine).level == "ok"
    assert sums(engine)["jobs", OWNER, "queued", "train"] == 1


def test_deleted_jobs_and_others_are_counted_anew_together(engine: Engine) -> None:
    for is_deleted in (True, False):
        job_id = job_in_state(engine, JobState.SUCCEEDED)
        if is_deleted:
            with write(engine) as conn:
                transitions.delete_job(conn, job_id, OWNER)
    before = sums(engine)
    with write(engine) as conn:
        counters.recount(conn)
    agree(engine)
    assert sums(engine) == before


def test_the_first_count_is_of_the_rows_that_are_there(engine: Engine) -> None:
    """A database of the version before, with jobs in it."""
    from shared.db import migrate

    for step, number in HISTORY:
        _do(engine, step, number)
    before = sums(engine)
    url = engine.url.render_as_string(hide_password=False)
    engine.dispose()
    migrate.downgrade(url, "0025")
    migrate.upgrade(url)
    agree(engine)
    assert sums(engine) == before


def test_a_copied_database_is_counted_once(sqlite_engine: Engine, postgres_url: str) -> None:
    from shared.db.transfer import transfer

    for step, number in HISTORY:
        _do(sqlite_engine, step, number)
    url = sqlite_engine.url.render_as_string(hide_password=False)
    for replace in (False, True):
        transfer(url, postgres_url, lease_seconds=1.0, replace=replace, while_running=True)
        engine = make_engine(postgres_url)
        agree(engine)
        assert sums(engine) == sums(sqlite_engine)
        engine.dispose()
