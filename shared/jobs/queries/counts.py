"""Counts of jobs, attempts and workers, for the dispatcher and Prometheus."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import Connection, and_, func, select

from nightshift.names import KINDS, SHARD
from nightshift.states import JobState
from shared.clock import db_now, read_clock
from shared.db.counters import ARCHIVED, ATTEMPTS, DELETED, JOBS, QUEUED, counted
from shared.db.schema import counters, jobs, workers
from shared.fleet.workers import AWAY, NOT_LISTENING
from shared.jobs.fronts import device_of, fronts
from shared.jobs.queue_parts import due_parts
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

    jobs: dict[str, int]  # by state, without shards
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
    """Return the due queued jobs by requested device and priority, without empty groups.

    The counters say how many became due before this second; those of this second are looked up, and so is the longest
    waiting job of each part of the queue.
    """
    second = int(read_clock(conn))
    found: dict[tuple[str, int], Due] = {}
    for part in due_parts(conn, since=second):
        place = device_of(part.requires), part.priority
        known = found.get(place, Due(*place, 0, 0.0))
        found[place] = Due(*place, known.count + part.count, max(known.oldest_seconds, part.oldest_seconds))
    is_before = and_(counters.c.owner_id == "", counters.c.position < second)
    for row in counted(conn, QUEUED, "label", "detail", where=is_before):
        place = row.label, int(row.detail)
        known = found.get(place, Due(*place, 0, 0.0))
        found[place] = Due(*place, known.count + row.n, known.oldest_seconds)
    return [due for due in found.values() if due.count]


def stats(conn: Connection, lease_seconds: float = 30.0) -> Stats:
    """What is true of all jobs, attempts and workers at this moment."""
    states: dict[str, int] = dict.fromkeys((state.value for state in JobState), 0)
    kinds: Counter[str] = Counter({str(kind): 0 for kind in KINDS})
    ended = dict.fromkeys((outcome.value for outcome in AttemptOutcome), 0)
    for row in counted(conn, (JOBS, ARCHIVED, DELETED, ATTEMPTS), "measure", "label", "detail"):
        if row.measure == ATTEMPTS:
            ended[row.label] = row.n
        else:
            kinds[row.detail] += row.n
        if row.measure in (JOBS, ARCHIVED) and row.detail != SHARD:
            states[row.label] += row.n
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
        ended,
        dict.fromkeys(("online", "draining", NOT_LISTENING, *AWAY), 0) | {row[0]: row[1] for row in online},
        queue(conn),
        expired or 0,
    )
