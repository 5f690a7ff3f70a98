"""Facts of the queue, found part by part (see `shared.jobs.fronts`), so that its length does not matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, case, func, select, union_all

from shared.clock import now_once, read_clock
from shared.db.schema import jobs
from shared.jobs.eligibility import is_before
from shared.jobs.fronts import QUEUED, is_due, queue_parts, with_needs
from shared.jobs.models import AGEING_SECONDS


@dataclass(frozen=True)
class DuePart:
    """The due jobs of a part of the queue: how many since a time, and the longest waiting time (seconds)."""

    requires: str
    priority: int
    count: int
    oldest_seconds: float


def due_parts(conn: Connection, since: float) -> list[DuePart]:
    """Return the parts of the queue that have due jobs, with the number of those whose `run_at` is not before."""
    rows = conn.execute(_due_parts(), {"since": since})
    return [DuePart(row[0], row[1], row[2], row[4] - row[3]) for row in rows if row[3] is not None]


@cache
def _due_parts() -> Select[Any]:
    part = queue_parts()
    within = (jobs.c.requires == part.c.requires, jobs.c.priority == part.c.priority, is_due())
    count = select(func.count()).select_from(jobs).where(*within, jobs.c.run_at >= bindparam("since"))
    first = select(func.min(jobs.c.run_at)).where(*within)
    return select(
        part.c.requires,
        part.c.priority,
        count.correlate(part).scalar_subquery(),
        first.correlate(part).scalar_subquery(),
        now_once(),
    ).select_from(part)


def parts_with_needs(conn: Connection) -> list[str]:
    """Return the requirements of queued jobs that need more than any one device."""
    part = queue_parts()
    found: Sequence[str] = conn.scalars(select(part.c.requires).where(with_needs(part), part.c.priority == 0)).all()
    return list(found)


def first_ids(conn: Connection, limit: int, *, due: bool) -> list[str]:
    """Return the first queued jobs: due ones in the order of the claim, or those with a later `run_at` by time."""
    when = jobs.c.run_at <= now_once() if due else jobs.c.run_at > now_once()
    parts = conn.execute(_parts_with(when)).all()
    place = jobs.c.rank if due else jobs.c.run_at
    found: list[Any] = []
    for start in range(0, len(parts), _TOGETHER):
        some = parts[start : start + _TOGETHER]
        selections = [_first_of(part.requires, part.priority, when, place, limit) for part in some]
        found += conn.execute(union_all(*selections)).all()
    return [job_id for _, job_id in sorted(tuple(row) for row in found)[:limit]]


#: Parts in one statement; SQLite takes 500 and 999 parameters.
_TOGETHER = 50


def _parts_with(when: ColumnElement[bool]) -> Select[Any]:
    """Return the parts that have a queued job with such a `run_at`."""
    part = queue_parts()
    within = (jobs.c.requires == part.c.requires, jobs.c.priority == part.c.priority, jobs.c.state == QUEUED, when)
    first = select(func.min(jobs.c.run_at)).where(*within).correlate(part).scalar_subquery()
    return select(part.c.requires, part.c.priority).select_from(part).where(first.is_not(None))


def _first_of(part: str, priority: int, when: ColumnElement[bool], place: Any, limit: int) -> Select[Any]:
    """Select from one part, in which the order of `run_at` is that of the claim."""
    within = (jobs.c.requires == part, jobs.c.priority == priority, jobs.c.state == QUEUED, when)
    first = select(place.label("place"), jobs.c.id.label("id")).where(*within).order_by(jobs.c.run_at, jobs.c.id)
    few = first.limit(limit).subquery()
    return select(few.c.place, few.c.id)


def count_ahead(
    conn: Connection, job: Mapping[Any, Any], parts: Sequence[str], runnable: ColumnElement[bool], limit: int
) -> int:
    """Count the due jobs of these parts that a claim takes before the job, up to `limit`."""
    part = queue_parts()
    # By one limit of `run_at`, which the index has: the second more is for rounding, `is_before` decides.
    latest, now = job["rank"] + AGEING_SECONDS * part.c.priority + 1, read_clock(conn)
    within = (jobs.c.requires == part.c.requires, jobs.c.priority == part.c.priority, jobs.c.state == QUEUED)
    is_early = jobs.c.run_at <= case((latest < now, latest), else_=now)
    ahead = select(jobs.c.id).where(*within, is_early, is_before(job), runnable).limit(limit).correlate(part)
    count = select(func.count()).select_from(ahead.subquery()).scalar_subquery()
    counts: Sequence[int] = conn.scalars(select(count).select_from(part).where(part.c.requires.in_(parts))).all()
    return min(limit, sum(counts))
