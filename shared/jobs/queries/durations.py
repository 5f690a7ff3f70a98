"""Durations of finished jobs as the buckets of a histogram.

Deleted jobs stay counted (`deleted_jobs` keeps their times), so counters never decrease and every process exports the
same values.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from sqlalchemy import Connection

from shared.db.counters import EDGES, SECONDS, counted


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
    within: dict[tuple[str, str], list[int]] = {}
    milliseconds: dict[tuple[str, str], int] = {}
    for row in counted(conn, SECONDS, "label", "detail", "position"):
        key = row.label, row.detail
        within.setdefault(key, [0] * (len(EDGES) + 1))[row.position] = row.n
        milliseconds[key] = milliseconds.get(key, 0) + row.amount
    return [Durations(*key, tuple(accumulate(counts)), milliseconds[key] / 1000) for key, counts in within.items()]
