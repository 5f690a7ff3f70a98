"""Notify workers of queued jobs.

A message is a doorbell, never the job itself: it may be lost (the dispatcher rings again), duplicated (the second finds
nothing to claim) or forged (it carries only a job id, for reading logs). So nothing here retries or waits for long.
"""

from __future__ import annotations

import atexit
import queue
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout

from shared.celery_app import ATTEMPT_QUEUES, ATTEMPT_TASK, BROKER_SECONDS, get_app
from shared.errors import BrokerUnavailable

#: Doorbells that wait for the publishing thread. New ones beyond it are dropped; the dispatcher rings again.
PENDING_RINGS = 1_000


class _Notifier:
    """A publishing thread, so that a hung Redis does not block callers. It starts at the first ring."""

    def __init__(self) -> None:
        self._pending: queue.Queue[tuple[str, str, Future[None]]] = queue.Queue(PENDING_RINGS)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def ring(self, device: str, job_id: str) -> Future[None]:
        future: Future[None] = Future()
        self._start()
        try:
            self._pending.put_nowait((device, job_id, future))
        except queue.Full:
            future.set_exception(BrokerUnavailable("too many messages are waiting for the broker"))
        return future

    def flush(self, timeout: float) -> None:
        """Wait at exit for pending messages, so that a command that submits a job and exits still rings."""
        thread = self._thread
        if thread is None or not thread.is_alive() or self._pending.empty():
            return
        future: Future[None] = Future()
        try:
            self._pending.put_nowait(("", "", future))
            future.exception(timeout)
        except (queue.Full, FutureTimeout):
            return

    def _start(self) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)
                self._thread.start()
                atexit.register(self.flush, BROKER_SECONDS)

    def _run(self) -> None:
        while True:
            device, job_id, future = self._pending.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                if device:
                    _publish(device, job_id)
                future.set_result(None)
            except Exception as error:
                future.set_exception(BrokerUnavailable(f"the broker does not answer: {error}"))
                self._drop_pending()

    def _drop_pending(self) -> None:
        """Drop all pending messages after a failure: each would wait for a timeout, and the dispatcher rings again."""
        while True:
            try:
                _, _, future = self._pending.get_nowait()
            except queue.Empty:
                return
            if future.set_running_or_notify_cancel():
                future.set_exception(BrokerUnavailable("the broker does not answer"))


_notifier = _Notifier()


def _publish(device: str, job_id: str) -> None:
    get_app().send_task(ATTEMPT_TASK, args=(job_id,), queue=ATTEMPT_QUEUES[device], argsrepr=job_id)


def ring(device: str, job_id: str) -> None:
    """Notify workers of a queued job. Raises BrokerUnavailable within BROKER_SECONDS if Redis does not accept it."""
    future = _notifier.ring(device, job_id)
    try:
        future.result(BROKER_SECONDS)
    except FutureTimeout:
        future.cancel()
        raise BrokerUnavailable(f"the broker did not accept a message within {BROKER_SECONDS} s") from None


def ring_later(device: str, job_id: str) -> None:
    """Ring from a background thread: never blocks, never raises. The dispatcher repeats lost rings."""
    _notifier.ring(device, job_id)
