"""The states of a job."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """The state of a job."""

    #: Waits for other jobs. The dispatcher moves it to QUEUED when all of `after` succeeded, to FAILED if one did not.
    WAITING = "waiting"
    #: Waits for a worker, from `run_at` on. A claim moves it out; cancel and pause do so at once.
    QUEUED = "queued"
    #: An attempt holds the lease. The attempt moves it out; after a crash, the rescuer does when the lease has expired.
    RUNNING = "running"
    #: Stopped at a checkpoint by request. Only resume and cancel move it out.
    PAUSED = "paused"
    #: Final: `result` is stored.
    SUCCEEDED = "succeeded"
    #: Final: `error` has the reason.
    FAILED = "failed"
    #: Final: stopped by request; no result is stored.
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the state never changes again."""
        return self in FINAL_STATES


FINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
