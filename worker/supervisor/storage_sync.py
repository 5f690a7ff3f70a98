"""Downloads inputs and uploads outputs; retries while the storage is down and the attempt is wanted.

With local storage everything is already in place, and nothing here takes any time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any, TypeVar

from shared.errors import LeaseLost, StorageUnavailable
from shared.events import emit
from shared.jobs import transitions
from shared.jobs.states import AttemptOutcome, StopRequest
from shared.jobs.transitions import CheckpointRecord, Claimed, LogRow
from shared.storage import storage_of
from shared.storage.uploader import FIRST_WAIT
from worker.runners.messages import Champion
from worker.supervisor.attempt_writer import AttemptWriter
from worker.supervisor.context import WorkerContext
from worker.supervisor.db_retry import DatabaseRetry, DrainTimeout
from worker.supervisor.inputs import InputFetcher
from worker.supervisor.outcomes import Fail, KillReason, Released, Verdict, error
from worker.supervisor.outputs import OutputUploader
from worker.supervisor.runner_messages import RunnerMessages
from worker.supervisor.self_pipe import SelfPipe

#: Most seconds between two retries, and so the latest that a stop request is noticed.
MAX_RETRY_SECONDS = 5.0

T = TypeVar("T")


class AttemptStorage:
    """The storage as one attempt uses it."""

    def __init__(
        self,
        context: WorkerContext,
        claimed: Claimed,
        writer: AttemptWriter,
        database: DatabaseRetry,
        wake: SelfPipe,
        stop_requests: Callable[[], set[StopRequest | None]],
        terminated: threading.Event,
        time_left: Callable[[], float | None],
    ) -> None:
        """Create the storage of an attempt. `stop_requests` returns those of this worker and of the database."""
        self._context, self._lease, self._writer, self._database = context, claimed.lease, writer, database
        self._stop_requests, self._terminated, self._time_left = stop_requests, terminated, time_left
        self._storage = storage_of(context.settings)
        self._reported = False
        self.uploader = self._storage.uploader(claimed.lease.job_id, wake)
        self._inputs = InputFetcher(self._storage, claimed, database, self._check_wanted)

    def close(self) -> None:
        """Close the uploader and release the inputs."""
        self.uploader.close()
        self._inputs.close()

    # -- inputs -----------------------------------------------------------------------------------

    def fetch(self, pinned: Mapping[str, Any], shards: Mapping[str, Sequence[CheckpointRecord]]) -> None:
        """Fetch the inputs. Raises StorageUnavailable, BadData."""
        self._inputs.fetch(pinned, shards)

    def patiently(self, action: Callable[[], T]) -> T:
        """Retry while the storage is down, for at most as long as an attempt waits for a busy device.

        Raises StorageUnavailable, LeaseLost, DrainTimeout.
        """
        give_up, pause = monotonic() + self._context.settings.slot_wait_seconds, FIRST_WAIT
        while True:
            try:
                return action()
            except StorageUnavailable as trouble:
                self._report(trouble)
                if monotonic() > give_up or not self.is_wanted() or self._terminated.wait(pause):
                    raise
                pause = min(MAX_RETRY_SECONDS, 2 * pause)

    def is_wanted(self) -> bool:
        """Return whether no stop was requested (FINISH is none). Raises LeaseLost, DrainTimeout."""
        self._database.check()
        return self._stop_requests() <= {None, StopRequest.FINISH}

    def _check_wanted(self) -> None:
        """Raise StorageUnavailable if the attempt was asked to stop. Called between chunks of a transfer."""
        if not self.is_wanted():
            raise StorageUnavailable("the attempt was asked to stop while its inputs were fetched")

    def fetch_champion(self, champion: Champion, found: Callable[[Champion], None]) -> None:
        """Fetch the champion in the background, then call `found` with it (without its model if that failed)."""

        def fetch() -> None:
            try:
                found(self.patiently(lambda: self._inputs.fetch_champion(champion)))
            except (LeaseLost, DrainTimeout, StorageUnavailable):
                found(champion.model_copy(update={"model_dir": None}))

        self._storage.run_in_background(fetch)

    def _report(self, trouble: StorageUnavailable) -> None:
        """Log that the attempt waits for the storage; once in the job's log."""
        emit("storage.unavailable", job_id=self._lease.job_id, error=str(trouble))
        if not self._reported:
            self._reported = True
            logs = [LogRow("warning", f"the attempt waits for the storage: {trouble}")]
            self._database.write(lambda conn: transitions.record(conn, self._lease, logs=logs))

    # -- outputs ----------------------------------------------------------------------------------

    def deliver(self, verdict: Verdict, messages: RunnerMessages, files: Mapping[str, str]) -> Verdict:
        """Complete the uploads. `files` maps keys to SHA-256 of the artifacts of a success."""
        return OutputUploader(self._storage, messages, self._give_up, self._report).complete(verdict, files)

    def _give_up(self) -> Verdict | None:
        """Return the verdict of a success that cannot be stored in time, or None while there is time.

        Raises LeaseLost, DrainTimeout.
        """
        self._database.check()
        if StopRequest.CANCEL in self._stop_requests():
            return Released(AttemptOutcome.CANCELLED)
        deadline = self._writer.renewal.deadline()
        if deadline is not None and monotonic() >= deadline:
            message = "the job ran longer than timeout_seconds allows: the storage did not take its result"
            return Fail(AttemptOutcome.TIMED_OUT, error(KillReason.TIMEOUT.value, message, retryable=False))
        time_left = self._time_left()
        return Released(AttemptOutcome.DRAINED) if time_left is not None and time_left <= 0 else None
