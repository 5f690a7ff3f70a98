"""Gangs of one part of the queue do not wait for each other, and those that nobody can run hide no others."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, update

from shared.db.engine import read, write
from shared.db.schema import devices, jobs
from shared.fleet import ledger
from shared.fleet.plugins import InstalledPlugin
from shared.jobs import transitions
from shared.jobs.transitions import reserving
from tests.support.factories import (
    LEASE_SECONDS,
    claim_job,
    let_wait,
    make_claimer,
    register_device,
    submit_job,
)

PATIENCE = 600.0


def waiting_gang(engine: Engine, seconds: float = PATIENCE + 1, **resources: object) -> str:
    job_id = submit_job(engine, resources={"devices": 2, **resources}).job_id
    let_wait(engine, job_id, seconds)
    return job_id


def keep(engine: Engine) -> dict[str, str | None]:
    """Keep devices, and return for whom."""
    with write(engine) as conn:
        transitions.reserve(conn, PATIENCE)
    with read(engine) as conn:
        return {str(slot.worker): slot.reserved_for for slot in ledger.slots(conn)}


def claim(engine: Engine, worker: str) -> str | None:
    with read(engine) as conn:
        can = transitions.can_claim(conn, make_claimer(worker))
    with write(engine) as conn:
        claimed = transitions.claim(conn, make_claimer(worker), LEASE_SECONDS)
    assert can == (claimed is not None)
    return claimed.lease.job_id if claimed else None


def test_a_gang_whose_devices_are_free_does_not_wait_for_the_one_before_it(engine: Engine) -> None:
    for name in ("cpu0@a", "cpu1@a", "cpu0@b", "cpu1@b"):
        register_device(engine, name)
    for host in "ab":
        submit_job(engine, timeout_seconds=100.0)
        assert claim(engine, f"cpu0@{host}") is not None
    first = waiting_gang(engine, PATIENCE + 9)
    second = waiting_gang(engine)
    kept = keep(engine)
    assert set(kept.values()) == {first, second}
    host = next(worker[-1] for worker, gang in kept.items() if gang == second)
    with write(engine) as conn:  # the job there ends
        conn.execute(update(devices).where(devices.c.id == f"cpu0@{host}").values(job_id=None, fence=None, holder=None))
    assert claim(engine, f"cpu1@{host}") == second
    assert keep(engine) == {worker: first if gang == first else None for worker, gang in kept.items()}


@pytest.mark.parametrize("lacks", ["model", "plug-in", "version"])
def test_gangs_that_nobody_can_run_hide_none_that_somebody_can(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    monkeypatch.setattr(reserving, "MOST", 3)
    has = InstalledPlugin("program gbm", "gbm 2", record="new")
    for name in ("cpu0@a", "cpu1@a"):
        register_device(engine, name, plugins=[has])
    submit_job(engine, timeout_seconds=100.0)
    claim_job(engine, make_claimer("cpu0@a"))
    wanted = {"model": "A100"} if lacks == "model" else {}
    others = [waiting_gang(engine, PATIENCE + 9, **wanted) for _ in range(5)]
    if lacks != "model":
        plugin = "program other" if lacks == "plug-in" else "program gbm"
        pinned = {"plugin": plugin, "plugin_record": "old", "plugin_state": 1}
        with write(engine) as conn:
            conn.execute(update(jobs).where(jobs.c.id.in_(others)).values(**pinned))
    job_id = waiting_gang(engine)
    assert set(keep(engine).values()) == {job_id}
