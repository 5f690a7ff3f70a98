"""The states of a job and their legal transitions, outcomes of attempts, and stop requests.

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
WAITING ⇄ PAUSED by pause / resume of a job whose shards have not ended
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from nightshift.states import JobState

#: source state -> states a transition may move it to. A test checks `shared.jobs.transitions` against it.
TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.WAITING: frozenset({JobState.QUEUED, JobState.FAILED, JobState.CANCELLED, JobState.PAUSED}),
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.PAUSED, JobState.CANCELLED, JobState.FAILED}),
    JobState.RUNNING: frozenset(
        {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.PAUSED, JobState.QUEUED}
    ),
    JobState.PAUSED: frozenset({JobState.QUEUED, JobState.CANCELLED, JobState.WAITING}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}

#: The phase of a running job whose device is free for the next one: its model is final, or its rows are computed.
FINISHING = "finishing"
#: Phase of a runner that has computed all and writes its result: the device is free soon.
WRITING = "write"


class StopRequest(StrEnum):
    """A request to a running job: a column, not a state. The runner receives it at the next step boundary.

    Ordered from the strongest: a request replaces a weaker one and never a stronger one.
    """

    #: Stop without saving. Durable once the API has answered 202.
    CANCEL = "cancel"
    #: Stop now and keep the best model as the result.
    FINISH = "finish"
    #: Checkpoint, free the device, wait for resume.
    PAUSE = "pause"
    #: Checkpoint and return to the queue: a more urgent job needs the device. No retry is charged.
    PREEMPT = "preempt"
    #: Checkpoint and return to the queue: the worker is shutting down. No retry is charged.
    DRAIN = "drain"

    def outranks(self, other: StopRequest | None) -> bool:
        """Return whether this request replaces `other`; no request replaces itself."""
        order = list(StopRequest)
        return other is None or order.index(self) < order.index(other)


def strongest(requests: Iterable[StopRequest | None]) -> StopRequest | None:
    """Return the request that outranks the others; None without any."""
    return min(filter(None, requests), key=list(StopRequest).index, default=None)


class AttemptOutcome(StrEnum):
    """How an attempt ended; null while it runs. Each is counted separately."""

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
    DEVICE_FAILED = "device_failed"  # the device works no more; the worker left it, and the job is not charged
    LOST = "lost"  # the lease expired: the worker died, froze or lost its network


#: Outcomes that count towards the poison limit when no checkpoint was written (`poison_limit` in a row fail the job).
CRASH_OUTCOMES = frozenset(
    {AttemptOutcome.CRASHED, AttemptOutcome.OUT_OF_MEMORY, AttemptOutcome.LOST, AttemptOutcome.STALLED}
)
