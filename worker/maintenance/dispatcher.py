"""dispatcher: replace lost doorbells, resolve jobs that waited for others, and keep shards in step with their jobs.

The database row is the job; messages may be lost (FLUSHALL, a killed Redis, a worker killed between message and claim).
If a queue holds no doorbell although a job is due, one is sent. An extra doorbell is harmless.
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


def run_once(engine: Engine, settings: Settings) -> Counts:
    """Return {"queued", "failed": jobs resolved by their dependencies, "rung": doorbells sent}."""
    found = _resolve(engine)
    _align_shards(engine)
    return found | {"rung": _ring_missing(engine)}


def _resolve(engine: Engine) -> Counts:
    """Resolve dependencies until nothing changes: a failed job fails the jobs that depend on it."""
    total = {"queued": 0, "failed": 0}
    while True:
        with write(engine) as conn:
            resolved = transitions.resolve_dependencies(conn)
        if not any(resolved.values()):
            return total
        total = {name: count + resolved[name] for name, count in total.items()}


def _align_shards(engine: Engine) -> None:
    with read(engine) as conn:
        if not transitions.sharding.strays(conn):
            return
    with write(engine) as conn:
        transitions.align_shards(conn)


def _ring_missing(engine: Engine) -> int:
    rung = 0
    try:
        for device, job_id in _missing(engine).items():
            ring(device, job_id)
            rung += 1
    except BrokerUnavailable as error:
        emit("broker.unavailable", error=str(error))
    if rung:
        emit("doorbell.rung", count=rung)
    return rung


def _missing(engine: Engine) -> dict[str, str]:
    """Return a due job of each device whose queue holds no doorbell."""
    with read(engine) as conn:
        due = queries.due_ids(conn)
    if not due:
        return {}
    waiting = queue_lengths()
    return {device: job_id for device, job_id in due.items() if not waiting[device]}
