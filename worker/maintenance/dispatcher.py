"""dispatcher: replace lost doorbells, and resolve jobs that waited for others.

The database row is the job; messages may be lost (FLUSHALL, a killed Redis, a worker killed between message and claim).
If a queue holds fewer doorbells than there are due jobs, the missing ones are sent again. An extra doorbell is
harmless.
"""

from __future__ import annotations

from sqlalchemy import Engine

from shared.celery_app import queue_lengths
from shared.db.engine import read, write
from shared.doorbell import ring
from shared.errors import BrokerUnavailable
from shared.events import emit
from shared.jobs import queries, transitions
from shared.settings import Settings
from worker.maintenance.service import Counts

#: Doorbells per queue and pass. Too low: after a flush, idle workers wait for the next pass. Too high: Redis fills with
#: doorbells of a long backlog, although busy workers claim their next job without one.
BATCH = 200


def run_once(engine: Engine, settings: Settings) -> Counts:
    """Return {"queued", "failed": jobs resolved by their dependencies, "rung": doorbells sent}."""
    return _resolve(engine) | {"rung": _ring_missing(engine)}


def _resolve(engine: Engine) -> Counts:
    """Resolve dependencies until nothing changes: a failed job fails the jobs that depend on it."""
    total = {"queued": 0, "failed": 0}
    while True:
        with write(engine) as conn:
            resolved = transitions.resolve_dependencies(conn)
        if not any(resolved.values()):
            return total
        total = {name: count + resolved[name] for name, count in total.items()}


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
    """Return the due jobs by device for which the queue holds no doorbell."""
    with read(engine) as conn:
        due = queries.waiting_counts(conn)
        if not any(due.values()):
            return {}
        waiting = queue_lengths()
        lacking = {device: min(count, BATCH) - waiting[device] for device, count in due.items()}
        return {device: queries.due_ids(conn, device, count) for device, count in lacking.items() if count > 0}
