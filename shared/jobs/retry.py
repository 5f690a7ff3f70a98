"""What becomes of a job after an attempt that did not succeed: pure decisions, written by `transitions`.

Two counts, kept apart. `retries`: errors the job reported itself and called retryable, up to `max_retries`.
`lost_streak`: attempts in a row that died (crash, memory, stall, lost lease) without a new checkpoint, up to the
poison limit; a checkpoint sets it back to 0, so a long run survives any number of crashes that let it get on.
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

    Too short: a broken dependency is hammered. Too long: a blip costs minutes. Jitter keeps a herd of jobs that failed
    together from coming back together.
    """

    first: float = 5.0
    factor: float = 2.0
    most: float = 600.0
    jitter: float = 0.2

    def delay(self, count: int, rand: Callable[[], float] = random.random) -> float:
        """Seconds before try number `count` (1 = the first retry); `rand` is uniform in [0, 1)."""
        plain = min(self.most, self.first * self.factor ** min(count - 1, 64))
        return plain * (1 + self.jitter * (2 * rand() - 1))


#: After an error that the job reported.
AFTER_ERROR = Backoff()
#: After the second death in a row; the first restarts at once, so that a lone crash costs only the work it lost.
AFTER_DEATH = Backoff(first=2.0, most=60.0)


@dataclass(frozen=True)
class RetryCounters:
    """What a job row says about earlier attempts."""

    retries: int
    max_retries: int
    lost_streak: int
    stop_requested: StopRequest | None


@dataclass(frozen=True)
class Decision:
    state: JobState
    retries: int
    lost_streak: int
    delay: float = 0.0
    poisoned: bool = False


def after_failure(
    outcome: AttemptOutcome,
    retryable: bool,
    tally: RetryCounters,
    *,
    poison_limit: int,
    backoff: Backoff | None = None,
    rand: Callable[[], float] = random.random,
) -> Decision:
    """`queued` (with a delay), `failed`, or what was asked of the job meanwhile: `cancelled`, `paused`."""
    decision = _by_outcome(outcome, retryable, tally, poison_limit, backoff, rand)
    if tally.stop_requested is StopRequest.CANCEL:
        return Decision(JobState.CANCELLED, decision.retries, decision.lost_streak)
    if tally.stop_requested is StopRequest.PAUSE and decision.state is JobState.QUEUED:
        return Decision(JobState.PAUSED, decision.retries, decision.lost_streak)
    return decision


def _by_outcome(
    outcome: AttemptOutcome,
    retryable: bool,
    tally: RetryCounters,
    poison_limit: int,
    backoff: Backoff | None,
    rand: Callable[[], float],
) -> Decision:
    if outcome in CRASH_OUTCOMES:
        streak = tally.lost_streak + 1
        if streak >= poison_limit:
            return Decision(JobState.FAILED, tally.retries, streak, poisoned=True)
        delay = (backoff or AFTER_DEATH).delay(streak - 1, rand) if streak > 1 else 0.0
        return Decision(JobState.QUEUED, tally.retries, streak, delay)
    if retryable and outcome is AttemptOutcome.JOB_ERROR and tally.retries < tally.max_retries:
        retries = tally.retries + 1
        return Decision(JobState.QUEUED, retries, tally.lost_streak, (backoff or AFTER_ERROR).delay(retries, rand))
    return Decision(JobState.FAILED, tally.retries, tally.lost_streak)
