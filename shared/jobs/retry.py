"""Retry policy after an attempt that did not succeed: pure decisions, written by `transitions`.

Two separate counts. `retries`: retryable errors that the job itself reported, up to `max_retries`. `lost_streak`:
consecutive attempts that died (crash, memory, stall, lost lease) without a new checkpoint, up to the poison limit. A
checkpoint resets it to 0, so a long run survives any number of crashes with progress in between. A device that failed
counts for neither: its worker leaves it, so no job meets it twice.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from nightshift.states import JobState
from shared.jobs.states import CRASH_OUTCOMES, AttemptOutcome, StopRequest


@dataclass(frozen=True)
class Backoff:
    """Exponential: `first`, `first * factor`, … up to `most` (seconds), each ± `jitter` of itself.

    Too short: a broken dependency is overloaded. Too long: a brief failure costs minutes. Jitter keeps jobs that
    failed together from retrying together.
    """

    first: float = 5.0
    factor: float = 2.0
    most: float = 600.0
    jitter: float = 0.2

    def delay(self, count: int, rand: Callable[[], float] = random.random) -> float:
        """Return the seconds before retry number `count` (1 = the first); `rand` is uniform in [0, 1)."""
        plain = min(self.most, self.first * self.factor ** min(count - 1, 64))
        return plain * (1 + self.jitter * (2 * rand() - 1))


#: After an error that the job reported.
AFTER_ERROR = Backoff()
#: From the second consecutive death on; the first restarts at once, so a lone crash costs only the lost work.
AFTER_DEATH = Backoff(first=2.0, most=60.0)


@dataclass(frozen=True)
class RetryCounters:
    """Counts of a job row about earlier attempts, and its pending stop request."""

    retries: int
    max_retries: int
    lost_streak: int
    stop_requested: StopRequest | None


@dataclass(frozen=True)
class Decision:
    """The next state of a job and its new counts; `delay` is in seconds."""

    state: JobState
    retries: int
    lost_streak: int
    delay: float = 0.0
    poisoned: bool = False


def after_failure(outcome: AttemptOutcome, retryable: bool, counters: RetryCounters, *, poison_limit: int) -> Decision:
    """Decide between `queued` (with a delay), `failed`, and a requested `cancelled` or `paused`."""
    decision = _by_outcome(outcome, retryable, counters, poison_limit)
    if counters.stop_requested is StopRequest.CANCEL:
        return Decision(JobState.CANCELLED, decision.retries, decision.lost_streak)
    if counters.stop_requested is StopRequest.PAUSE and decision.state is JobState.QUEUED:
        return Decision(JobState.PAUSED, decision.retries, decision.lost_streak)
    return decision


def _by_outcome(outcome: AttemptOutcome, retryable: bool, counters: RetryCounters, poison_limit: int) -> Decision:
    if outcome in CRASH_OUTCOMES:
        streak = counters.lost_streak + 1
        if streak >= poison_limit:
            return Decision(JobState.FAILED, counters.retries, streak, poisoned=True)
        delay = AFTER_DEATH.delay(streak - 1) if streak > 1 else 0.0
        return Decision(JobState.QUEUED, counters.retries, streak, delay)
    if outcome is AttemptOutcome.DEVICE_FAILED:
        return Decision(JobState.QUEUED, counters.retries, counters.lost_streak)
    if retryable and outcome is AttemptOutcome.JOB_ERROR and counters.retries < counters.max_retries:
        retries = counters.retries + 1
        return Decision(JobState.QUEUED, retries, counters.lost_streak, AFTER_ERROR.delay(retries))
    return Decision(JobState.FAILED, counters.retries, counters.lost_streak)
