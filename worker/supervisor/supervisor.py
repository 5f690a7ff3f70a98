"""Serves doorbells: claims the best waiting job and sees its attempt through, one at a time.

Runs in the Celery task's thread. Nothing a job does ends the worker: whatever is raised in here is told and survived.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from time import monotonic

from shared import tracing
from shared.db.engine import write
from shared.errors import DatabaseUnavailable
from shared.events import emit, log_context
from shared.jobs import transitions
from shared.jobs.transitions import Claimed, Claimer
from worker.supervisor.attempt import Attempt
from worker.supervisor.context import WorkerContext


class Supervisor:
    """Runs one attempt at a time; `drain` and `terminate` may come from any thread or signal handler."""

    def __init__(self, workplace: WorkerContext) -> None:
        self._workplace = workplace
        self._attempt: Attempt | None = None
        self._draining_since: float | None = None

    @property
    def job_id(self) -> str | None:
        attempt = self._attempt
        return attempt.lease.job_id if attempt else None

    @property
    def draining(self) -> bool:
        return self._draining_since is not None

    def drain(self) -> None:
        """Give the present job back after a checkpoint, and take no other."""
        if self._draining_since is None:
            self._draining_since = monotonic()
        if (attempt := self._attempt) is not None:
            attempt.wake()

    def terminate(self) -> None:
        """An operator ended the present attempt (`celery control terminate`): its job is cancelled, gracefully."""
        if (attempt := self._attempt) is not None:
            attempt.terminate()

    def run_one(self, celery_task_id: str | None) -> None:
        """Serve one doorbell. Never raises."""
        if self.draining:
            return
        try:
            claimed_at = monotonic()
            claimed = self._claim(celery_task_id)
            if claimed is None:
                return
            with log_context(job_id=claimed.lease.job_id, attempt=claimed.lease.fence), self._traced(claimed):
                self._attempt = Attempt(self._workplace, claimed, claimed_at, self._time_left)
                self._attempt.run()
        except DatabaseUnavailable as unavailable:
            emit("worker.cannot_claim", worker=self._workplace.name, error=str(unavailable))
        except BaseException as unexpected:  # MemoryError and SystemExit too: this thread must serve the next one
            emit("worker.survived", worker=self._workplace.name, error=repr(unexpected))
        finally:
            self._attempt = None
            self._workplace.runners.idle()

    def _traced(self, claimed: Claimed) -> AbstractContextManager[None]:
        place = self._workplace
        facts = {
            "nightshift.worker": place.name,
            "nightshift.device": place.device.name,
            "nightshift.kind": claimed.kind,
        }
        return tracing.attempt(claimed.lease.job_id, claimed.lease.fence, claimed.pinned, facts)

    def _claim(self, celery_task_id: str | None) -> Claimed | None:
        place = self._workplace
        claimer = Claimer(
            worker=place.name,
            device=place.device.kind,
            device_label=place.device.name,
            frameworks=place.runners.frameworks,
            celery_task_id=celery_task_id,
        )
        with write(place.engine) as conn:
            return transitions.claim(conn, claimer, place.settings.lease_seconds)

    def _time_left(self) -> float | None:
        """Seconds a draining worker still has; None: it does not drain."""
        if self._draining_since is None:
            return None
        return self._draining_since + self._workplace.settings.drain_seconds - monotonic()
