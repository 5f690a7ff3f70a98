"""The oracle sees devices that nobody works on, and those that two attempts took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Engine, update

from shared.db.engine import write
from shared.db.schema import devices
from shared.jobs import transitions
from shared.jobs.states import AttemptOutcome
from tests.faults.oracle import (
    look,
    no_device_is_held_by_an_attempt_that_has_ended,
    no_device_is_held_by_two,
)
from tests.support.factories import claim_job, make_claimer, register_device, submit_job


def broken(engine: Engine, folder: Path) -> list[str]:
    facts = look(engine, folder, ())
    return [*no_device_is_held_by_an_attempt_that_has_ended(facts), *no_device_is_held_by_two(facts)]


def let(engine: Engine, device: str, **values: Any) -> None:
    with write(engine) as conn:
        conn.execute(update(devices).where(devices.c.id == device).values(**values))


def test_a_device_that_an_ended_attempt_holds_is_a_violation(engine: Engine, tmp_path: Path) -> None:
    register_device(engine, "cpu0@a")
    job_id = submit_job(engine).job_id
    lease = claim_job(engine, make_claimer("cpu0@a")).lease
    assert broken(engine, tmp_path) == []
    with write(engine) as conn:
        transitions.release(conn, lease, outcome=AttemptOutcome.DRAINED)
    assert broken(engine, tmp_path) == []
    let(engine, "cpu0@a", job_id=job_id, fence=1)
    assert broken(engine, tmp_path) == [f"cpu0@a is held by attempt 1 of {job_id}, which is queued with fence 1"]
    let(engine, "cpu0@a", job_id="0" * 16)
    assert broken(engine, tmp_path) == [f"cpu0@a is held by attempt 1 of {'0' * 16}, which is not there"]


def test_a_device_that_a_second_attempt_took_from_a_gang_is_a_violation(engine: Engine, tmp_path: Path) -> None:
    for name in ("cpu0@a", "cpu1@a"):
        register_device(engine, name)
    first = submit_job(engine, resources={"devices": 2}).job_id
    claim_job(engine, make_claimer("cpu0@a"))
    assert broken(engine, tmp_path) == []
    let(engine, "cpu1@a", job_id=None, fence=None)
    submit_job(engine)
    claim_job(engine, make_claimer("cpu1@a"))
    assert broken(engine, tmp_path) == [f"attempt 1 of {first} holds 1 of its 2 devices"]
