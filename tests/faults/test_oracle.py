"""The oracle sees devices that nobody works on or two attempts took, and trials that are lost or double."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Engine, update

from shared.db.engine import write
from shared.db.schema import devices, sweep_trials, sweeps
from shared.jobs import transitions
from shared.jobs.states import AttemptOutcome
from shared.settings import Settings
from tests.faults.oracle import (
    every_sweep_is_final_with_its_best,
    every_trial_has_one_job,
    look,
    no_device_is_held_by_an_attempt_that_has_ended,
    no_device_is_held_by_two,
)
from tests.support.factories import claim_job, make_claimer, register_device, submit_job
from tests.support.sweeps import make_sweep, sweep_of, trials_of, work
from worker.maintenance import sweeper


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


def wrong(engine: Engine, folder: Path) -> list[str]:
    facts = look(engine, folder, ())
    return [*every_trial_has_one_job(facts), *every_sweep_is_final_with_its_best(facts)]


def test_a_trial_that_is_lost_and_a_wrong_best_are_violations(engine: Engine, tmp_path: Path) -> None:
    sweep_id = make_sweep(engine, trials=3, concurrency=3)
    while sweep_of(engine, sweep_id).finished_at is None:
        sweeper.run_once(engine, Settings())
        work(engine)
    assert wrong(engine, tmp_path) == []
    best = sweep_of(engine, sweep_id).best
    with write(engine) as conn:
        conn.execute(update(sweeps).values(best=(best + 1) % 3))
    assert len(wrong(engine, tmp_path)) == 1
    lost = trials_of(engine, sweep_id)[2]
    with write(engine) as conn:
        conn.execute(sweep_trials.delete().where(sweep_trials.c.number == 2))
    assert f"sweep {sweep_id} has started 3 trials and has [0, 1]" in wrong(engine, tmp_path)
    assert f"sweep {sweep_id} has jobs without a trial: ['{lost.job_id}']" in wrong(engine, tmp_path)
