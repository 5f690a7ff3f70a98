"""Serves doorbells: claims the best queued job and runs its attempt.

Runs in the thread of the Celery task. One attempt uses the device; one that has left it is finishing in its own thread
meanwhile. No error ends the worker: all are caught and logged.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from time import monotonic

from shared import doorbell, tracing
from shared.db.engine import read, write
from shared.errors import DatabaseUnavailable
from shared.events import emit, log_context
from shared.failpoints import failpoint
from shared.fleet import ledger
from shared.jobs import queries, transitions
from shared.jobs.transitions import Claimed, Claimer
from worker.hardware.disk import DiskSpace
from worker.supervisor.attempt import Attempt
from worker.supervisor.context import WorkerContext

#: Seconds between two looks at a device that a gang of another worker has. Too low: many reads of the database. Too
#: high: the device idles after the gang.
LENT_SECONDS = 0.5


def _nothing() -> None:
    return None


class Supervisor:
    """Runs attempts, of which one uses the device.

    `drain` and `terminate` may be called in any thread or signal handler. All others are called in the thread of an
    attempt.
    """

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self.disk = DiskSpace(context.name, context.settings.storage_root)
        #: By the thread that runs it.
        self._attempts: dict[int, Attempt] = {}
        self._on_device: Attempt | None = None
        self._draining_since: float | None = None
        self._drains = threading.Event()
        #: Number of doorbells that are served now.
        self._served, self._changed = 0, threading.Condition()
        #: Called in the thread of an attempt that has left the device.
        self.on_device_free: Callable[[], None] = _nothing

    @property
    def job_id(self) -> str | None:
        """Id of the job that uses the device."""
        attempt = self._on_device
        return attempt.lease.job_id if attempt else None

    @property
    def draining(self) -> bool:
        """Whether the worker claims no more jobs."""
        return self._draining_since is not None

    def drain(self) -> None:
        """Release the present job after a checkpoint, and claim no other."""
        if self._draining_since is None:
            self._draining_since = monotonic()
        self._drains.set()
        self._wake_all()

    def terminate(self, thread: int) -> None:
        """Cancel the job of the attempt in a thread gracefully (`celery control terminate`)."""
        if (attempt := self._attempts.get(thread)) is not None:
            attempt.terminate()

    def _wake_all(self) -> None:
        for attempt in tuple(self._attempts.values()):
            attempt.wake()

    def wait_idle(self) -> None:
        """Wait until no doorbell is served. A worker that drains claims no job after that."""
        with self._changed:
            self._changed.wait_for(lambda: self._served == 0)

    @contextmanager
    def _serving(self) -> Iterator[None]:
        with self._changed:
            self._served += 1
        try:
            yield
        finally:
            with self._changed:
                self._served -= 1
                self._changed.notify_all()

    def run_one(self, celery_task_id: str | None) -> None:
        """Serve one doorbell. Never raises."""
        with self._serving():
            self._run_one(celery_task_id)

    def _run_one(self, celery_task_id: str | None) -> None:
        if self.draining or not self._context.runners.frameworks or self.disk.is_full():
            self._ring_for_others()  # it has left its queues, or is about to: what it heard is for another worker
            return
        claimed = None
        try:
            failpoint("doorbell.heard")
            claimed_at, claimed = monotonic(), self._claim(celery_task_id)
            while claimed is None and self._awaits_lent_device():
                claimed_at, claimed = monotonic(), self._claim(celery_task_id)
            if claimed is None:
                return
            self._ring_for_others()
            with log_context(job_id=claimed.lease.job_id, attempt=claimed.lease.fence), self._traced(claimed):
                self._on_device = Attempt(self._context, claimed, claimed_at, self)
                self._attempts[threading.get_native_id()] = self._on_device
                self._on_device.run()
        except DatabaseUnavailable as unavailable:
            emit("worker.cannot_claim", worker=self._context.name, error=str(unavailable))
        except BaseException as unexpected:  # MemoryError and SystemExit too: this thread must serve the next doorbell
            emit("worker.survived", worker=self._context.name, error=repr(unexpected))
        finally:
            attempt = self._attempts.pop(threading.get_native_id(), None)
            if attempt is self._on_device:  # also without any
                self._free_device()
            if claimed is not None:
                self._wake_all()  # one may wait for the model that this attempt has promoted
                self._ring_for_others()

    def _traced(self, claimed: Claimed) -> AbstractContextManager[None]:
        context = self._context
        facts = {
            "nightshift.worker": context.name,
            "nightshift.device": context.device.name,
            "nightshift.kind": claimed.kind,
        }
        return tracing.attempt(claimed.lease.job_id, claimed.lease.fence, claimed.pinned, facts)

    def _claim(self, celery_task_id: str | None) -> Claimed | None:
        context = self._context
        claimer = Claimer(
            worker=context.name,
            device=context.device.kind,
            device_label=context.device.name,
            frameworks=context.runners.frameworks,
            celery_task_id=celery_task_id,
            plugins=context.plugins,
            takes_auto=context.takes_auto,
        )
        with read(context.engine) as conn:
            if not transitions.can_claim(conn, claimer, context.settings.lease_seconds):
                return None
        with write(context.engine) as conn:
            return transitions.claim(conn, claimer, context.settings.lease_seconds)

    def _awaits_lent_device(self) -> bool:
        """Wait while a gang of another worker has this worker's device.

        Return False if none has had it, or this worker is leaving. The doorbell is for others meanwhile, and this
        worker takes no further one: no message tells it that the gang has left.
        """
        if not self._is_lent():
            return False
        self._ring_for_others()
        while not self._drains.wait(LENT_SECONDS) and self._is_lent():
            continue
        return not self.draining and bool(self._context.runners.frameworks)

    def _is_lent(self) -> bool:
        with read(self._context.engine) as conn:
            slot = ledger.own(conn, self._context.name)
        return slot is not None and slot.job_id is not None and slot.holder != self._context.name

    def _ring_for_others(self) -> None:
        """Ring for the jobs that are still due in this worker's queues.

        A queue has one doorbell, and this worker has received it: after its claim the next one wakes another worker, or
        waits for the end of the attempt; after the attempt it is for the job that has come back meanwhile. No doorbell
        follows one that led to no claim, because two workers that cannot run a job would send it to and fro.
        """
        context = self._context
        try:
            with read(context.engine) as conn:
                due = queries.due_ids(conn)
        except Exception as error:  # the dispatcher rings instead
            emit("worker.cannot_ring", worker=context.name, error=str(error))
            return
        for device in ("auto", context.device.kind):
            if device in due:
                doorbell.ring_later(device, due[device])

    def _free_device(self) -> None:
        self._on_device = None
        self._context.runners.idle()

    # -- asked by attempts --------------------------------------------------------------------------

    def leave_device(self) -> None:
        """Let the worker take the next job while the attempt in this thread goes on without the device."""
        self._free_device()
        self.on_device_free()
        self._ring_for_others()  # those who heard a doorbell while a gang had their devices could not serve it

    def others_are_finishing(self) -> bool:
        """Return whether an attempt of another thread has left the device and is not settled."""
        mine = threading.get_native_id()
        return any(thread != mine for thread in self._attempts)

    def time_left(self) -> float | None:
        """Return the seconds that a draining worker has left, or None if it does not drain."""
        if self._draining_since is None:
            return None
        return self._draining_since + self._context.settings.drain_seconds - monotonic()
