"""Counts of jobs, attempts and workers, for the dispatcher and Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from nightshift.names import KINDS
from nightshift.states import JobState
from shared.clock import db_now
from shared.db.schema import attempts, deleted_attempts, deleted_jobs, jobs, workers
from shared.fleet.workers import DEVICE_FAILED, NOT_LISTENING
from shared.jobs.fronts import device_of, fronts, is_due
from shared.jobs.states import AttemptOutcome
from shared.jobs.transitions.statements import RUNNING, UNFINISHED


@dataclass(frozen=True)
class Due:
    """Number of jobs that wait for a worker, and the longest waiting time (seconds)."""

    device: str
    priority: int
    count: int
    oldest_seconds: float


@dataclass(frozen=True)
class Stats:
    """Counts for Prometheus."""

    jobs: dict[str, int]  # by state
    submitted: dict[str, int]  # by kind, deleted jobs too
    attempts: dict[str, int]  # ended, by outcome, those of deleted jobs too
    workers: dict[str, int]  # with a heartbeat within a lease, by state
    due: list[Due]
    expired_leases: int


def due_ids(conn: Connection) -> dict[str, str]:
    """Return the due job that is claimed first, of each requested device that has one: `{"auto": …}`."""
    found: dict[str, str] = {}
    for front in fronts(conn):
        found.setdefault(front.device, front.job_id)
    return found


def queue(conn: Connection) -> list[Due]:
    """Return the due queued jobs by requested device and priority, without empty groups."""
    rows = conn.execute(
        select(jobs.c.requires, jobs.c.priority, func.count(), db_now() - func.min(jobs.c.run_at))
        .where(is_due())
        .group_by(jobs.c.requires, jobs.c.priority)  # covered by an index, which by device it would not be
    )
    found: dict[tuple[str, int], Due] = {}
    for required, priority, count, oldest in rows:
        place = device_of(required), priority
        known = found.get(place, Due(*place, 0, 0.0))
        found[place] = Due(*place, known.count + count, max(known.oldest_seconds, oldest))
    return list(found.values())


def stats(conn: Connection, lease_seconds: float = 30.0) -> Stats:
    """What is true of all jobs, attempts and workers at this moment."""
    states: dict[str, int] = dict.fromkeys((state.value for state in JobState), 0)
    kinds: Counter[str] = Counter({str(kind): 0 for kind in KINDS})
    rows = conn.execute(select(jobs.c.state, jobs.c.kind, func.count()).group_by(jobs.c.state, jobs.c.kind))
    for state, kind, count in rows:
        states[state] += count
        kinds[kind] += count
    gone = deleted_jobs.c.kind
    kinds.update(_pairs(conn.execute(select(gone, func.count()).where(gone.is_not(None)).group_by(gone))))
    is_recent = workers.c.heartbeat_at >= db_now() - lease_seconds
    online = conn.execute(
        select(workers.c.state, func.count()).where(workers.c.state != "offline", is_recent).group_by(workers.c.state)
    )
    expired = conn.scalar(
        select(func.count()).select_from(jobs).where(jobs.c.state == RUNNING, UNFINISHED, jobs.c.lease_until < db_now())
    )
    return Stats(
        states,
        dict(kinds),
        _outcomes(conn),
        {"online": 0, "draining": 0, NOT_LISTENING: 0, DEVICE_FAILED: 0} | _pairs(online),
        queue(conn),
        expired or 0,
    )


def _outcomes(conn: Connection) -> dict[str, int]:
    found = Counter(dict.fromkeys((outcome.value for outcome in AttemptOutcome), 0))
    kept, gone = attempts.c.outcome, deleted_attempts.c
    found.update(_pairs(conn.execute(select(kept, func.count()).where(kept.is_not(None)).group_by(kept))))
    deleted = conn.execute(select(gone.outcome, func.sum(gone.attempts)).group_by(gone.outcome))
    found.update({outcome: int(count) for outcome, count in deleted})
    return dict(found)


def _pairs(rows: Iterable[Any]) -> dict[str, Any]:
    return {row[0]: row[1] for row in rows}
