"""Notify workers of queued jobs.

A message is a doorbell, never the job itself: it may be lost (the dispatcher rings again), duplicated (the second finds
nothing to claim) or forged (it carries only a job id, for reading logs). So nothing here retries or waits for long.

A queue that holds a message gets no other: whoever receives it looks into SQL afterwards, and so finds every job whose
COMMIT came before. The list itself says whether one is there, so that losing all Redis data loses no more than that
message. A worker that has claimed a job or ended an attempt rings again while more jobs are due.
"""

from __future__ import annotations

import atexit
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout

from shared.celery_app import ATTEMPT_QUEUES, ATTEMPT_TASK, BROKER_SECONDS, get_app, holds_message
from shared.errors import BrokerUnavailable


class _Notifier:
    """A publishing thread, so that a hung Redis does not block callers. It starts at the first ring."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        #: Device -> job id and result of the ring that the thread has not begun. Later ones join it.
        self._pending: dict[str, tuple[str, Future[None]]] = {}
        self._publishing = False
        self._thread: threading.Thread | None = None

    def ring(self, device: str, job_id: str) -> Future[None]:
        with self._changed:
            _, future = self._pending.setdefault(device, (job_id, Future()))
            self._start()
            self._changed.notify_all()
        return future

    def flush(self, timeout: float) -> None:
        """Wait at exit for pending messages, so that a command that submits a job and exits still rings."""
        with self._changed:
            self._changed.wait_for(lambda: not self._pending and not self._publishing, timeout)

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)
            self._thread.start()
            atexit.register(self.flush, BROKER_SECONDS)

    def _run(self) -> None:
        while True:
            device, job_id, future = self._next()
            try:
                _publish(device, job_id)
            except Exception as error:
                self._refuse(future, error)
            else:
                future.set_result(None)

    def _next(self) -> tuple[str, str, Future[None]]:
        """Take a ring. From now on another one for the device is pending again: it may be for a later COMMIT."""
        with self._changed:
            self._publishing = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._pending)
            self._publishing = True
            device = next(iter(self._pending))
            return device, *self._pending.pop(device)

    def _refuse(self, future: Future[None], error: Exception) -> None:
        """Fail this and all pending rings: each would wait for a timeout, and the dispatcher rings again."""
        with self._changed:
            pending, self._pending = self._pending, {}
        future.set_exception(BrokerUnavailable(f"the broker does not answer: {error}"))
        for _, other in pending.values():
            other.set_exception(BrokerUnavailable("the broker does not answer"))


_notifier = _Notifier()


def _publish(device: str, job_id: str) -> None:
    """Send a message, unless the queue holds one."""
    if not holds_message(device):
        get_app().send_task(ATTEMPT_TASK, args=(job_id,), queue=ATTEMPT_QUEUES[device], argsrepr=job_id)


def ring(device: str, job_id: str) -> None:
    """Notify workers of a due job. Raises BrokerUnavailable within BROKER_SECONDS if Redis does not accept it."""
    future = _notifier.ring(device, job_id)
    try:
        future.result(BROKER_SECONDS)
    except FutureTimeout:
        raise BrokerUnavailable(f"the broker did not accept a message within {BROKER_SECONDS} s") from None


def ring_later(device: str, job_id: str) -> None:
    """Ring from a background thread: never blocks, never raises. The dispatcher repeats lost rings."""
    _notifier.ring(device, job_id)
