"""An attempt's dealings with the storage: what it needs is brought, what it leaves is delivered, and a storage that
does not answer is waited for as long as somebody wants the attempt.

Where the storage is a folder everything is where it is needed, and nothing here takes any time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, TypeVar

from shared.errors import LeaseLost, StorageUnavailable
from shared.events import emit
from shared.jobs import transitions
from shared.jobs.states import AttemptOutcome, StopRequest
from shared.jobs.transitions import Claimed, LogRow
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

#: Between tries at a storage that does not answer, at most (seconds): a stop request is heard as late.
MOST_PATIENT_SECONDS = 5.0

T = TypeVar("T")


class AttemptStorage:
    def __init__(
        self,
        place: WorkerContext,
        claimed: Claimed,
        scribe: AttemptWriter,
        patience: DatabaseRetry,
        wake: SelfPipe,
        asked: Callable[[], set[StopRequest | None]],
        terminated: threading.Event,
        time_left: Callable[[], float | None],
    ) -> None:
        """`asked`: what this worker and SQL ask of the attempt now."""
        self._place, self._lease, self._scribe, self._patience = place, claimed.lease, scribe, patience
        self._asked, self._terminated, self._time_left = asked, terminated, time_left
        self._storage = storage_of(place.settings)
        self._told = False
        self.uploader = self._storage.uploader(claimed.lease.job_id, wake)
        self._luggage = InputFetcher(self._storage, claimed, patience, self._going)

    def close(self) -> None:
        self.uploader.close()
        self._luggage.close()

    # -- bring ------------------------------------------------------------------------------------

    def fetch(self, pinned: Mapping[str, Any]) -> None:
        """Raises StorageUnavailable, BadData."""
        self._luggage.fetch(pinned)

    def patiently(self, action: Callable[[], T]) -> T:
        """Again while the storage does not answer, for as long as a busy device would be waited for. Raises
        StorageUnavailable, LeaseLost, OutOfTime."""
        give_up, pause = monotonic() + self._place.settings.slot_wait_seconds, FIRST_WAIT
        while True:
            try:
                return action()
            except StorageUnavailable as trouble:
                self._tell(trouble)
                if monotonic() > give_up or not self.is_wanted() or self._terminated.wait(pause):
                    raise
                pause = min(MOST_PATIENT_SECONDS, 2 * pause)

    def is_wanted(self) -> bool:
        """Nobody has asked the attempt to leave. Raises LeaseLost, OutOfTime."""
        self._patience.check()
        return self._asked() <= {None, StopRequest.FINISH}

    def _going(self) -> None:
        """Between pieces of what is brought."""
        if not self.is_wanted():
            raise StorageUnavailable("the attempt was asked to leave while its data was brought")

    def fetch_champion(self, champion: Champion, found: Callable[[Champion], None]) -> None:
        """Returns at once; `found` gets it with its model here, or without one."""

        def bring() -> None:
            try:
                found(self.patiently(lambda: self._luggage.fetch_champion(champion)))
            except (LeaseLost, DrainTimeout, StorageUnavailable):
                found(champion.model_copy(update={"model_dir": None}))

        self._storage.apart(bring)

    def _tell(self, trouble: StorageUnavailable) -> None:
        """In the job's log once."""
        emit("storage.unavailable", job_id=self._lease.job_id, error=str(trouble))
        if not self._told:
            self._told = True
            logs = [LogRow("warning", f"the attempt waits for the storage: {trouble}")]
            self._patience.write(lambda conn: transitions.record(conn, self._lease, logs=logs))

    # -- deliver ----------------------------------------------------------------------------------

    def deliver(self, verdict: Verdict, heard: RunnerMessages, files: Mapping[str, str]) -> Verdict:
        """What the attempt leaves is in the storage; `files` (key to SHA-256) are those of a success."""
        return OutputUploader(self._storage, heard, self._instead, self._tell).complete(verdict, files)

    def _instead(self) -> Verdict | None:
        """What becomes of a success that cannot be stored in time. Raises LeaseLost, OutOfTime."""
        self._patience.check()
        if StopRequest.CANCEL in self._asked():
            return Released(AttemptOutcome.CANCELLED)
        deadline = self._scribe.renewal.deadline()
        if deadline is not None and monotonic() >= deadline:
            told = "the job ran longer than timeout_seconds allows: the storage did not take its result"
            return Fail(AttemptOutcome.TIMED_OUT, error(KillReason.TIMEOUT.value, told, retryable=False))
        time_left = self._time_left()
        return Released(AttemptOutcome.DRAINED) if time_left is not None and time_left <= 0 else None
