"""The reserver frees what ended attempts hold, and keeps devices for gangs."""

from __future__ import annotations

from sqlalchemy import Engine, select, update

from shared.db.engine import read, write
from shared.db.schema import devices, jobs
from shared.settings import Settings
from tests.support.factories import claim_job, let_wait, make_claimer, register_device, submit_job
from worker.maintenance import reserver


def test_a_pass_frees_what_is_left_and_keeps_it_for_a_gang(engine: Engine) -> None:
    settings = Settings(gang_patience_seconds=60)
    for name in ("cpu0@a", "cpu1@a"):
        register_device(engine, name)
    gang = submit_job(engine, resources={"devices": 2}).job_id
    claim_job(engine, make_claimer("cpu0@a"))
    assert reserver.run_once(engine, settings) == {"freed": 0, "reserved": 0, "asked": 0}
    with write(engine) as conn:  # as a process of an older version ends an attempt
        conn.execute(update(jobs).where(jobs.c.id == gang).values(state="queued", worker=None, lease_until=None))
    let_wait(engine, gang, 61)
    assert reserver.run_once(engine, settings) == {"freed": 1, "reserved": 2, "asked": 0}
    with read(engine) as conn:
        rows = conn.execute(select(devices.c.job_id, devices.c.reserved_for)).all()
    assert [tuple(row) for row in rows] == [(None, gang)] * 2
