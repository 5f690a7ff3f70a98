"""Sweeps without workers: their jobs are claimed and ended by the test."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, select, update

from nightshift.metrics import sense
from shared.db.engine import read, write
from shared.db.schema import jobs, sweep_trials, sweeps
from shared.jobs import transitions as job_transitions
from shared.jobs.transitions import Claimed, MetricRow
from shared.specs.sweeps import SweepSpec
from shared.sweeps import transitions
from shared.sweeps.transitions import NewSweep
from tests.support.factories import OWNER, make_claimer, make_spec

#: A space of one number.
RATE = {"training.learning_rate": {"low": 0.001, "high": 0.1, "log": True}}
PRUNED_BY = {"metric": "val_accuracy", "direction": "max"}


def make_sweep(engine: Engine, owner: str = OWNER, **fields: Any) -> str:
    """Create a sweep as the API would. `job` are fields of a spec, `curve` is what a pruner watches."""
    job = make_spec(**fields.pop("job", {})).model_dump(mode="json")
    pruner = fields.pop("pruner", {"name": "none"})
    watched = fields.pop("curve", PRUNED_BY)
    curve = watched if pruner["name"] != "none" else {}
    body: dict[str, Any] = {"trials": 4, "sampler": "random", "space": RATE, **fields}
    spec = SweepSpec.model_validate({"job": job, "objective": {"metric": "test_accuracy"}, "pruner": pruner, **body})
    values = spec.model_dump(mode="json", exclude={"objective"})
    direction = sense(spec.objective.metric)
    values |= {"metric": spec.objective.metric, "direction": direction, "pinned": {}}
    values["pruner"] |= curve
    with write(engine) as conn:
        return transitions.create(conn, NewSweep(owner, "hash", secrets.token_hex(4), values))


def sweep_of(engine: Engine, sweep_id: str) -> Any:
    with read(engine) as conn:
        return conn.execute(select(sweeps).where(sweeps.c.id == sweep_id)).one()


def trials_of(engine: Engine, sweep_id: str) -> list[Any]:
    with read(engine) as conn:
        mine = select(sweep_trials).where(sweep_trials.c.sweep_id == sweep_id)
        return list(conn.execute(mine.order_by(sweep_trials.c.number)))


def job_ids(engine: Engine) -> list[str]:
    with read(engine) as conn:
        return list(conn.scalars(select(jobs.c.id).order_by(jobs.c.created_at, jobs.c.id)))


def claim(engine: Engine) -> Claimed | None:
    with write(engine) as conn:
        return job_transitions.claim(conn, make_claimer(f"{secrets.token_hex(2)}@test"), 30.0)


def succeed(engine: Engine, claimed: Claimed, value: float) -> None:
    with write(engine) as conn:
        job_transitions.succeed(conn, claimed.lease, result={"metrics": {"test_accuracy": value}}, artifacts=[])


def score(claimed: Claimed) -> float:
    """Return a value that is best where the learning rate is 0.01."""
    rate = claimed.spec["training"]["learning_rate"]
    return float(1.0 - abs(rate - 0.01) * 10)


def work(engine: Engine, measured: Callable[[Claimed], float] = score) -> int:
    """Run every job that is queued; return how many."""
    done = 0
    while (claimed := claim(engine)) is not None:
        succeed(engine, claimed, measured(claimed))
        done += 1
    return done


def log_curve(engine: Engine, claimed: Claimed, *values: float, first: int = 1) -> None:
    """Record points of the curve that the pruner watches."""
    points = [
        MetricRow("val_accuracy", step=place * 10, epoch=place, value=value)
        for place, value in enumerate(values, first)
    ]
    with write(engine) as conn:
        job_transitions.record(conn, claimed.lease, metrics=points)


def poison(engine: Engine, sweep_id: str) -> None:
    """Make the jobs of further trials invalid."""
    with write(engine) as conn:
        conn.execute(update(sweeps).where(sweeps.c.id == sweep_id).values(job={"kind": "train"}))
