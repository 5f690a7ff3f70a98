"""durations: how long finished jobs took, as the buckets of a histogram, counted by the database.

Job rows are never deleted, so every count only grows, and every process that is asked gives the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, case, func, select

from shared.db.schema import jobs

#: Upper edges (seconds), from a batch of predictions to two days of training.
EDGES = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 43_200.0, 172_800.0)


@dataclass(frozen=True)
class Durations:
    """From the first claim to the end, of the jobs of one kind that ended in one way."""

    kind: str
    state: str
    #: Jobs that took at most `EDGES[i]` seconds; the last counts all of them.
    at_most: tuple[int, ...]
    seconds: float


def durations(conn: Connection) -> list[Durations]:
    """Of jobs that ran; one that was cancelled in the queue has no duration."""
    took: Any = jobs.c.finished_at - jobs.c.started_at
    within = [func.sum(case((took <= edge, 1), else_=0)) for edge in EDGES]
    rows = conn.execute(
        select(jobs.c.kind, jobs.c.state, func.sum(took), func.count(), *within)
        .where(jobs.c.finished_at.is_not(None), jobs.c.started_at.is_not(None))
        .group_by(jobs.c.kind, jobs.c.state)
        .order_by(jobs.c.kind, jobs.c.state)
    )
    return [
        Durations(kind, state, (*map(int, counts), int(count)), max(0.0, float(seconds)))
        for kind, state, seconds, count, *counts in rows
    ]
