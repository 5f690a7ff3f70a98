"""urgent_ids, request_preemption: preemption of a running job of lower priority for an urgent one.

The victim gets a stop request, writes a checkpoint and is released. `makes_room_for` links the two jobs. It is unique
among running jobs, so an urgent job has at most one victim, also when several dispatchers decide at the same time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from functools import partial
from typing import Any

from sqlalchemy import Connection, exists, false, func, select

from shared.clock import db_now, read_clock
from shared.db.engine import on_commit
from shared.db.schema import attempts, jobs
from shared.events import emit
from shared.fleet.needs import Needs, Slot
from shared.jobs.eligibility import REQUIREMENTS, Row, ahead_of, can_run, online_workers, runnable_by
from shared.jobs.finishing import is_finishing
from shared.jobs.fronts import QUEUED
from shared.jobs.preemption import Holder, Rules, choose_victim
from shared.jobs.states import AttemptOutcome, StopRequest
from shared.jobs.transitions.statements import RUNNING, UNFINISHED, add_event, write_job

_victim = jobs.alias("victim")
#: Most jobs ahead whose needs are compared with the device. Too low: an urgent job preempts for another one's benefit.
_LOOKED_AT = 100
#: Requests that free a device soon.
_LEAVING = (StopRequest.CANCEL.value, StopRequest.PAUSE.value, StopRequest.DRAIN.value)


def urgent_ids(conn: Connection, rules: Rules, limit: int = 50) -> list[str]:
    """Return due jobs with `preempt` that have waited `patience_seconds` and have no victim yet."""
    waits = (jobs.c.state == QUEUED, jobs.c.preempts, jobs.c.run_at <= db_now() - rules.patience_seconds)
    found = select(jobs.c.id).where(*waits, ~_has_victim()).order_by(jobs.c.rank, jobs.c.id).limit(limit)
    return list(conn.scalars(found))


def _has_victim() -> Any:
    """Return the correlated SQL condition that a running job is being preempted for the job."""
    return exists(
        select(_victim.c.id)
        .where(_victim.c.makes_room_for == jobs.c.id, _victim.c.state == "running", _victim.c.finished_at.is_(None))
        .correlate(jobs)
    )


def request_preemption(conn: Connection, urgent_id: str, rules: Rules, lease_seconds: float) -> str | None:
    """Request the preemption of one running job; return its id, or None when none is needed or eligible."""
    urgent = conn.execute(
        select(jobs)
        .where(jobs.c.id == urgent_id, jobs.c.state == QUEUED, jobs.c.preempts, ~_has_victim())
        .with_for_update(skip_locked=True)
    ).one_or_none()
    if urgent is None:
        return None
    job = urgent._mapping
    suitable = {worker["name"]: worker for worker in online_workers(conn, lease_seconds) if can_run(job, worker)}
    held_by = {name: slot.holder for name, slot in _slots(suitable) if slot.holder is not None}
    holders = _holders(conn, sorted({*suitable, *held_by.values()}))
    held = held_by.keys() | {row.worker for row in holders}
    if _are_enough(job, suitable, held) or any(row.stop_requested in _LEAVING for row in holders):
        return None  # its devices are free, or will be soon
    now = read_clock(conn)
    candidates = [_holder(row) for row in holders if row.stop_requested is None]
    victim = choose_victim(job["priority"], candidates, now, rules)
    if victim is None:
        return None
    freed = suitable.get(victim.worker) or next(suitable[name] for name in held_by if held_by[name] == victim.worker)
    if _another_is_ahead(conn, job, freed):
        return None
    return _preempt(conn, victim, urgent_id)


def _slots(suitable: Mapping[str, Row]) -> list[tuple[str, Slot]]:
    return [(name, worker["slot"]) for name, worker in suitable.items() if worker["slot"] is not None]


def _are_enough(job: Row, suitable: Mapping[str, Row], held: Set[str]) -> bool:
    """Return whether enough devices of one host are free for the job: one, or all those of a gang."""
    wanted = Needs.parse(job["needs"]).devices
    slots = [worker["slot"] for name, worker in suitable.items() if name not in held]
    free = Counter((slot.host, slot.kind) if slot is not None else None for slot in slots)
    return any(count >= wanted for count in free.values())


def _holders(conn: Connection, names: list[str]) -> list[Any]:
    table = attempts.c
    preempted = (
        select(func.count())
        .where(table.job_id == jobs.c.id, table.outcome == AttemptOutcome.PREEMPTED.value)
        .correlate(jobs)
        .scalar_subquery()
    )
    current = (table.job_id == jobs.c.id) & (table.fence == jobs.c.fence)
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
        .join(attempts, current)
        .where(jobs.c.state == RUNNING, UNFINISHED, jobs.c.worker.in_(names))
        .where(~func.coalesce(is_finishing(), false()))
    )
    return list(rows)


def _holder(row: Any) -> Holder:
    return Holder(row.id, row.fence, row.worker, row.priority, row.started_at, row.times_preempted)


def _another_is_ahead(conn: Connection, job: Row, worker: Row) -> bool:
    """Return whether another job would get the device: it ranks first and has no victim of its own."""
    others = (ahead_of(job), runnable_by(worker), ~_has_victim())
    found = conn.execute(select(*REQUIREMENTS).where(*others).limit(_LOOKED_AT)).mappings()
    return any(can_run(other, worker) for other in found)


def _preempt(conn: Connection, victim: Holder, urgent_id: str) -> str | None:
    """Write the stop request, unless the victim has ended or got another request since it was read."""
    unchanged = (jobs.c.state == RUNNING, jobs.c.fence == victim.fence, jobs.c.stop_requested.is_(None))
    request = StopRequest.PREEMPT.value
    writes = {"stop_requested": request, "makes_room_for": urgent_id}
    row = write_job(conn, jobs.c.id == victim.job_id, *unchanged, **writes).one_or_none()
    if row is None:
        return None
    data = {"state": "running", "attempt": victim.fence, "stop_requested": request, "makes_room_for": urgent_id}
    add_event(conn, victim.job_id, row.event_seq, row.now, "stop_requested", victim.fence, data)
    on_commit(conn, partial(emit, "job.preempting", job_id=victim.job_id, urgent=urgent_id, worker=victim.worker))
    return victim.job_id
