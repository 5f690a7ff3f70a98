"""The states of a job."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    #: For other jobs. The dispatcher moves it to QUEUED when all of `after` succeeded, to FAILED when one did not.
    WAITING = "waiting"
    #: For a worker, from `run_at` on. A claim moves it out; so do cancel and pause, at once.
    QUEUED = "queued"
    #: An attempt holds the lease. The attempt moves it out; after a crash the rescuer does, when the lease has expired.
    RUNNING = "running"
    #: By request, progress kept. Only resume and cancel move it out.
    PAUSED = "paused"
    #: Final: the result is written.
    SUCCEEDED = "succeeded"
    #: Final: `error` says why.
    FAILED = "failed"
    #: Final: nothing of it is committed any more.
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in FINAL_STATES


FINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
