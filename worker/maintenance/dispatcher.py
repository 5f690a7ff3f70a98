"""dispatcher: rings lost doorbells, and settles jobs that waited for others.

The job row is the job; messages may be lost (FLUSHALL, a killed Redis, a worker that died between message and claim).
Where a queue holds fewer doorbells than there are due jobs, the missing ones are rung again. One too many is harmless.
"""

from __future__ import annotations

from sqlalchemy import Engine

from shared.celery_app import queue_lengths, ring
from shared.db.engine import read, write
from shared.errors import BrokerUnavailable
from shared.events import emit
from shared.jobs import queries, transitions
from shared.settings import Settings
from worker.maintenance.service import Counts

#: Doorbells per queue and pass. Too low: a flushed backlog of short jobs starves idle workers until the next pass.
#: Too high: a long backlog is pushed into Redis to no purpose, since every busy worker claims without a bell.
BATCH = 200


def run_once(engine: Engine, settings: Settings) -> Counts:
    """{"queued", "failed": settled by their dependencies; "rung": doorbells}."""
    return _settle(engine) | {"rung": _ring_missing(engine)}


def _settle(engine: Engine) -> Counts:
    """Until nothing moves: one that fails fails those that wait for it."""
    total = {"queued": 0, "failed": 0}
    while True:
        with write(engine) as conn:
            moved = transitions.resolve_dependencies(conn)
        if not any(moved.values()):
            return total
        total = {name: count + moved[name] for name, count in total.items()}


def _ring_missing(engine: Engine) -> int:
    rung = 0
    try:
        for device, job_ids in _missing(engine).items():
            for job_id in job_ids:
                ring(device, job_id)
                rung += 1
    except BrokerUnavailable as error:
        emit("broker.unavailable", error=str(error))
    if rung:
        emit("doorbell.rung", count=rung)
    return rung


def _missing(engine: Engine) -> dict[str, list[str]]:
    """device -> due jobs for which its queue holds no doorbell."""
    with read(engine) as conn:
        due = queries.waiting_counts(conn)
        if not any(due.values()):
            return {}
        waiting = queue_lengths()
        lacking = {device: min(count, BATCH) - waiting[device] for device, count in due.items()}
        return {device: queries.due_ids(conn, device, count) for device, count in lacking.items() if count > 0}
