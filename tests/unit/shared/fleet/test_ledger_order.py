"""Transactions on PostgreSQL lock rows of several devices in one order, so that no two of them wait for each other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, select, text

from shared.db import schema
from shared.db.engine import make_engine, read, write
from shared.db.schema import devices
from shared.fleet import ledger, workers
from shared.fleet.workers import Usage, WorkerInfo
from shared.jobs import transitions
from shared.jobs.states import AttemptOutcome
from tests.support.factories import claim_job, let_wait, make_claimer, register_device, submit_job
from tests.support.stack import eventually
from worker.hardware.heartbeat import Activity, WorkerHeartbeat

FIRST, LAST = "cpu0@a", "cpu1@a"
_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@pytest.fixture
def engine(postgres_url: str) -> Any:
    """SQLite has one lock for all rows. The rows lie in the table in the opposite order."""
    engine = make_engine(postgres_url)
    for name in (LAST, FIRST):
        register_device(engine, name)
    yield engine
    engine.dispose()


def waits(engine: Engine) -> bool:
    with read(engine) as conn:
        return bool(conn.execute(text(_WAITING)).scalar())


def assert_in_order(engine: Engine, act: Callable[[Connection], Any]) -> None:
    """While the first device is locked, `act` waits for it and holds no other."""

    def acts() -> None:
        with write(engine) as conn:
            act(conn)

    thread = threading.Thread(target=acts)
    try:
        with write(engine) as conn:
            conn.execute(select(devices).where(devices.c.id == FIRST).with_for_update())
            thread.start()
            eventually("it waits for the first device", lambda: waits(engine))
            conn.execute(select(devices).where(devices.c.id == LAST).with_for_update(nowait=True))
    finally:
        thread.join()


def test_an_ending_frees_the_devices_of_a_gang_in_order(engine: Engine) -> None:
    submit_job(engine, resources={"devices": 2})
    lease = claim_job(engine, make_claimer(FIRST)).lease
    assert_in_order(engine, lambda conn: transitions.release(conn, lease, outcome=AttemptOutcome.DRAINED))


def test_a_cordon_of_a_host_marks_its_devices_in_order(engine: Engine) -> None:
    assert_in_order(engine, lambda conn: ledger.cordon(conn, "a"))


def test_a_host_that_is_gone_is_forgotten_in_order(engine: Engine) -> None:
    with write(engine) as conn:
        for name in (FIRST, LAST):
            workers.deregister(conn, name)
    assert_in_order(engine, lambda conn: ledger.forget(conn, "a", 30.0))
    with read(engine) as conn:
        assert ledger.slots(conn) == []


def test_a_worker_that_registers_locks_its_row_after_its_device_as_one_who_forgets_it(engine: Engine) -> None:
    worker = WorkerInfo(FIRST, "a", 1, "cpu", device_name="Test cpu")
    heartbeat = WorkerHeartbeat(engine, lambda: worker, 1000.0, Activity, Usage)
    try:
        with write(engine) as conn:
            conn.execute(select(devices).where(devices.c.id == FIRST).with_for_update())
            heartbeat.start()
            eventually("it waits for the device", lambda: waits(engine))
            conn.execute(select(schema.workers).where(schema.workers.c.name == FIRST).with_for_update(nowait=True))
    finally:
        heartbeat.stop()


def test_the_reserver_keeps_devices_in_order(engine: Engine) -> None:
    register_device(engine, "cpu2@a")
    let_wait(engine, submit_job(engine, resources={"devices": 3}).job_id, 601)
    assert_in_order(engine, lambda conn: transitions.reserve(conn, 600.0))


def test_a_worker_that_got_another_device_leaves_the_old_one_in_order(engine: Engine) -> None:
    """Here it serves the last one and gets the first."""
    worker = WorkerInfo(LAST, "a", 1, "cpu", device_uuid=FIRST, device_name="Test cpu")
    assert_in_order(engine, lambda conn: ledger.register(conn, worker))


def test_a_claim_of_a_gang_waits_for_no_device_that_is_kept_for_it(engine: Engine) -> None:
    """It holds its own device; the one that it does not take is given up later."""
    register_device(engine, "cpu2@a")
    gang = submit_job(engine, resources={"devices": 2}).job_id
    with write(engine) as conn:
        conn.execute(devices.update().values(reserved_for=gang))
    with write(engine) as other:
        other.execute(select(devices).where(devices.c.id == FIRST).with_for_update())
        assert claim_job(engine, make_claimer(LAST)).lease.job_id == gang
    with read(engine) as conn:
        kept = {row.id: row.reserved_for for row in conn.execute(select(devices))}
    assert kept == {FIRST: gang, LAST: None, "cpu2@a": None}
    with write(engine) as conn:
        transitions.reserve(conn, 600.0)
    with read(engine) as conn:
        assert set(conn.scalars(select(devices.c.reserved_for))) == {None}
