"""Choice of the running job to preempt for an urgent one: a pure decision, written by `transitions.preempting`.

The victim's priority must be lower by `priority_gap`, so two jobs cannot preempt each other. The lowest priority is
chosen, then the latest start, which loses the least work. A job that was preempted before has a cool-down after each
restart, multiplied by its preemption count, so it makes progress however many urgent jobs are submitted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """The settings `preempt_*`."""

    priority_gap: int
    patience_seconds: float
    quiet_seconds: float


@dataclass(frozen=True)
class Holder:
    """A running job on a worker that the urgent job could use."""

    job_id: str
    fence: int
    worker: str
    priority: int
    started_at: float  # of its current attempt
    times_preempted: int


def choose_victim(urgent_priority: int, holders: Iterable[Holder], now: float, rules: Rules) -> Holder | None:
    """Return the running job to preempt, or None when none is eligible."""
    eligible = [
        holder
        for holder in holders
        if holder.priority + rules.priority_gap <= urgent_priority
        and now >= holder.started_at + holder.times_preempted * rules.quiet_seconds
    ]
    return min(eligible, key=lambda holder: (holder.priority, -holder.started_at, holder.job_id), default=None)
