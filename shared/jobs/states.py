"""The states of a job, how an attempt can end, what can be asked of a running job, and the legal moves.

          submit                       submit (after: …)
            │                               │
            ▼        dependencies done      ▼
    ┌──▶ QUEUED ◀────────────────────── WAITING ───────┐
    │       │ claim (fence + 1, lease)      │ cancel   │ a dependency failed
    │       ▼                               ▼          ▼
    ├── RUNNING ──succeed──▶ SUCCEEDED   CANCELLED   FAILED
    │     │ │ └────fail / rescue (poison) / deadline──▶ FAILED
    │     │ └──────cancel seen──────────▶ CANCELLED
    │     │ pause seen
    │     ▼
    └── PAUSED ────cancel──▶ CANCELLED          (QUEUED ⇄ PAUSED by pause / resume at once)
  resume
RUNNING ──▶ QUEUED also by: retryable failure with retries left, rescue of an expired lease, release (drain, preempt)
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from nightshift.states import JobState

#: source state -> states a transition may move it to. A test walks it against transitions.py.
TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.WAITING: frozenset({JobState.QUEUED, JobState.FAILED, JobState.CANCELLED}),
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.PAUSED, JobState.CANCELLED, JobState.FAILED}),
    JobState.RUNNING: frozenset(
        {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.PAUSED, JobState.QUEUED}
    ),
    JobState.PAUSED: frozenset({JobState.QUEUED, JobState.CANCELLED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}


class StopRequest(StrEnum):
    """What a running job can be asked to do; a column, not a state. The runner hears it at the next step boundary.

    The strongest comes first: a request replaces a weaker one and never a stronger one.
    """

    #: Stop, keep nothing more. Durable at 202.
    CANCEL = "cancel"
    #: Stop now and keep the best model as the result.
    FINISH = "finish"
    #: Checkpoint, give the device back, wait for resume.
    PAUSE = "pause"
    #: Checkpoint and go back to the queue: a more urgent job needs the device. Nothing is charged.
    PREEMPT = "preempt"
    #: Checkpoint and go back to the queue: the worker is shutting down. Nothing is charged.
    DRAIN = "drain"

    def outranks(self, other: StopRequest | None) -> bool:
        """Return whether this request replaces `other`; no request replaces itself."""
        order = list(StopRequest)
        return other is None or order.index(self) < order.index(other)


def strongest(requests: Iterable[StopRequest | None]) -> StopRequest | None:
    """Return the request that outranks the others; None without any."""
    found: StopRequest | None = None
    for request in requests:
        if request is not None and request.outranks(found):
            found = request
    return found


class AttemptOutcome(StrEnum):
    """How an attempt ended; null while it runs. Each is counted apart."""

    SUCCEEDED = "succeeded"
    JOB_ERROR = "job_error"  # the runner reported a typed error
    OUT_OF_MEMORY = "out_of_memory"  # host or device memory
    CRASHED = "crashed"  # the runner died by a signal or exited without a result
    STALLED = "stalled"  # no progress for longer than the watchdog allows
    TIMED_OUT = "timed_out"  # timeout_seconds
    PREEMPTED = "preempted"
    DRAINED = "drained"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    LOST = "lost"  # the lease expired: worker gone, frozen or cut off


#: Endings without checkpoint progress that count towards the poison limit (three in a row end the job).
CRASH_OUTCOMES = frozenset(
    {AttemptOutcome.CRASHED, AttemptOutcome.OUT_OF_MEMORY, AttemptOutcome.LOST, AttemptOutcome.STALLED}
)
