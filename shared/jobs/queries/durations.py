"""Durations of finished jobs as the buckets of a histogram, counted by the database.

Deleted jobs stay counted (`deleted_jobs` keeps their times), so counters never decrease and every process exports the
same values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Connection, Select, Table, case, cast, func, select, union_all

from shared.db.schema import deleted_jobs, jobs

#: Upper edges of the buckets (seconds), from a batch of predictions to two days of training.
EDGES = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 43_200.0, 172_800.0)


@dataclass(frozen=True)
class Durations:
    """Times from the first claim to the end, of the jobs of one kind and final state."""

    kind: str
    state: str
    #: Number of jobs that took at most `EDGES[i]` seconds; the last entry counts all jobs.
    at_most: tuple[int, ...]
    seconds: float


def durations(conn: Connection) -> list[Durations]:
    """Count the jobs that ran; a job cancelled in the queue has no duration."""
    both = union_all(_of(jobs), _of(deleted_jobs)).subquery()
    kind, state, *numbers = both.c
    totals = [func.sum(number) for number in numbers]
    rows = conn.execute(select(kind, state, *totals).group_by(kind, state).order_by(kind, state))
    return [
        Durations(kind, state, (*map(int, counts), int(count)), int(milliseconds) / 1000)
        for kind, state, milliseconds, count, *counts in rows
    ]


def _of(table: Table) -> Select[Any]:
    took: Any = case((table.c.finished_at > table.c.started_at, table.c.finished_at - table.c.started_at), else_=0.0)
    # Integers: a sum of fractions depends on their order, and Prometheus takes a counter that decreases for a reset.
    milliseconds = func.sum(cast(func.round(took * 1000), BigInteger))
    within = [func.sum(case((took <= edge, 1), else_=0)).label(f"within_{number}") for number, edge in enumerate(EDGES)]
    return (
        select(table.c.kind, table.c.state, milliseconds.label("milliseconds"), func.count().label("count"), *within)
        .where(table.c.finished_at.is_not(None), table.c.started_at.is_not(None), table.c.kind.is_not(None))
        .group_by(table.c.kind, table.c.state)
    )
