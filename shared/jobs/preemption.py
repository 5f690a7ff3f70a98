"""Which running job makes room for an urgent one: a pure decision, written by `transitions.preempting`.

Only a job of a priority that is lower by at least the gap: so nobody can ever be pushed out by a job that he pushed
out. Among those the lowest priority goes, then the one that was started last, which loses least. One that was pushed
out before is left alone for a while after each new start, for longer each time: it gets on, however many urgent jobs
come.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """See the settings `preempt_*`."""

    priority_gap: int
    patience_seconds: float
    quiet_seconds: float


@dataclass(frozen=True)
class Holder:
    """A running job on a worker that the urgent one could use."""

    job_id: str
    fence: int
    worker: str
    priority: int
    started_at: float  # its present attempt
    times_preempted: int


def choose_victim(urgent_priority: int, holders: Iterable[Holder], now: float, rules: Rules) -> Holder | None:
    """None: nobody has to go."""
    eligible = [
        holder
        for holder in holders
        if holder.priority + rules.priority_gap <= urgent_priority
        and now >= holder.started_at + holder.times_preempted * rules.quiet_seconds
    ]
    return min(eligible, key=lambda holder: (holder.priority, -holder.started_at, holder.job_id), default=None)
