"""urgent_ids, make_room: a running job of lower priority gives its device to an urgent one.

The victim is asked to stop, like by anybody else; it writes a checkpoint and is released. `makes_room_for` ties the
two: unique among running jobs, so that an urgent job never has two victims at a time, whoever decides at once.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy import Connection, exists, func, select, update

from shared.clock import db_now
from shared.db.engine import on_commit
from shared.db.schema import attempts, jobs
from shared.events import emit
from shared.jobs.eligibility import Row, ahead_of, can_run, online_workers, runnable_on
from shared.jobs.preemption import Holder, Rules, choose_victim
from shared.jobs.states import AttemptOutcome, StopRequest
from shared.jobs.transitions.statements import QUEUED, RUNNING, UNFINISHED, add_event

_victim = jobs.alias("victim")
#: Requests that free a device soon.
_LEAVING = (StopRequest.CANCEL.value, StopRequest.PAUSE.value)


def urgent_ids(conn: Connection, rules: Rules, limit: int = 50) -> list[str]:
    """Due jobs that may push others out, have waited so long that no free worker took them, and have no victim yet."""
    waits = (jobs.c.state == QUEUED, jobs.c.preempts, jobs.c.run_at <= db_now() - rules.patience_seconds)
    found = select(jobs.c.id).where(*waits, ~_has_victim()).order_by(jobs.c.rank, jobs.c.id).limit(limit)
    return list(conn.scalars(found))


def _has_victim() -> Any:
    """Correlated: somebody is making room for the job."""
    return exists(
        select(_victim.c.id)
        .where(_victim.c.makes_room_for == jobs.c.id, _victim.c.state == "running", _victim.c.finished_at.is_(None))
        .correlate(jobs)
    )


def request_preemption(conn: Connection, urgent_id: str, rules: Rules, lease_seconds: float) -> str | None:
    """Ask one running job to make room for this one. None: nobody has to, or nobody may be asked."""
    urgent = conn.execute(
        select(jobs)
        .where(jobs.c.id == urgent_id, jobs.c.state == QUEUED, jobs.c.preempts, ~_has_victim())
        .with_for_update(skip_locked=True)
    ).one_or_none()
    if urgent is None:
        return None
    job = urgent._mapping
    fitting = {worker["name"]: worker for worker in online_workers(conn, lease_seconds) if can_run(job, worker)}
    holders = _holders(conn, list(fitting))
    if len(holders) < len(fitting) or any(row.stop_requested in _LEAVING for row in holders):
        return None  # a worker is free, or will be at once
    now = conn.scalars(select(db_now())).one()
    possible = [_holder(row) for row in holders if row.stop_requested is None]
    victim = choose_victim(job["priority"], possible, now, rules)
    if victim is None or _somebody_is_ahead(conn, job, fitting[victim.worker]):
        return None
    return _ask(conn, victim, urgent_id)


def _holders(conn: Connection, names: list[str]) -> list[Any]:
    table = attempts.c
    preempted = (
        select(func.count())
        .where(table.job_id == jobs.c.id, table.outcome == AttemptOutcome.PREEMPTED.value)
        .correlate(jobs)
        .scalar_subquery()
    )
    present = (table.job_id == jobs.c.id) & (table.fence == jobs.c.fence)
    rows = conn.execute(
        select(
            jobs.c.id,
            jobs.c.fence,
            jobs.c.worker,
            jobs.c.priority,
            jobs.c.stop_requested,
            table.started_at,
            preempted.label("times_preempted"),
        )
        .join(attempts, present)
        .where(jobs.c.state == RUNNING, UNFINISHED, jobs.c.worker.in_(names))
    )
    return list(rows)


def _holder(row: Any) -> Holder:
    return Holder(row.id, row.fence, row.worker, row.priority, row.started_at, row.times_preempted)


def _somebody_is_ahead(conn: Connection, job: Row, worker: Row) -> bool:
    """Another job would get the device: it has waited longer, and nobody makes room for it elsewhere."""
    others = (ahead_of(job), runnable_on(worker["device"], worker["frameworks"]), ~_has_victim())
    return conn.execute(select(jobs.c.id).where(*others).limit(1)).one_or_none() is not None


def _ask(conn: Connection, victim: Holder, urgent_id: str) -> str | None:
    """The victim's own state is the guard: it may have ended, or been asked for something else, since we looked."""
    still = (jobs.c.state == RUNNING, jobs.c.fence == victim.fence, jobs.c.stop_requested.is_(None))
    request = StopRequest.PREEMPT.value
    asked = conn.execute(
        update(jobs)
        .where(jobs.c.id == victim.job_id, *still)
        .values(stop_requested=request, makes_room_for=urgent_id, event_seq=jobs.c.event_seq + 1)
        .returning(jobs.c.event_seq, db_now().label("now"))
    ).one_or_none()
    if asked is None:
        return None
    data = {"state": "running", "attempt": victim.fence, "stop_requested": request, "makes_room_for": urgent_id}
    add_event(conn, victim.job_id, asked.event_seq, asked.now, "stop_requested", victim.fence, data)
    on_commit(conn, partial(emit, "job.preempting", job_id=victim.job_id, urgent=urgent_id, worker=victim.worker))
    return victim.job_id
