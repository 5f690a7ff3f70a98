"""The queues a worker consumes: its own, whatever Celery was told through Redis.

`cancel_consumer` and `add_consumer` come from anybody who reaches Redis, and Celery remembers them over lost
connections. A worker without its queue would look well and take no job. So each change is told (presence.py says it to
the fleet table), and undone when `restore_seconds` have passed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery, bootsteps
from celery.worker.consumer import Consumer, Tasks

from shared.events import emit


def _nothing(complete: bool) -> None:
    return None


#: Told when it lost one of its queues (False), and when it has them all again. Celery creates the step, so it is told
#: here.
on_change: Callable[[bool], None] = _nothing
#: How long a wrong set of queues lasts (seconds): one maintenance interval.
restore_seconds = 5.0


def install(app: Celery, seconds: float) -> None:
    """Celery workers of this app keep the queues they are made with; a wrong set lasts so long at most."""
    global restore_seconds
    restore_seconds = seconds
    app.steps["consumer"].add(QueueGuard)
    app.conf.worker_consumer = f"{__name__}:Listener"


class Listener(Consumer):  # type: ignore[misc]
    """Celery's consumer; it also tells the step below when it was given a queue or lost one."""

    own_queues: QueueGuard

    def add_task_queue(self, queue: str, *args: Any, **options: Any) -> None:
        super().add_task_queue(queue, *args, **options)
        self.own_queues.changed(self)

    def cancel_task_queue(self, queue: str) -> None:
        super().cancel_task_queue(queue)
        self.own_queues.changed(self)


class QueueGuard(bootsteps.StartStopStep):  # type: ignore[misc]
    """Keeps a `Listener` at the queues it was started with. Everything here runs in Celery's loop."""

    requires = (Tasks,)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        consumer.own_queues = self
        self._own = frozenset(consumer.app.amqp.queues.consume_from)
        self._complete = True

    def start(self, consumer: Any) -> None:
        """After each connection: a lost one takes Celery's timers with it, and its memory of wrong queues stays."""
        self._restore(consumer)

    def stop(self, consumer: Any) -> None:
        return None

    def changed(self, consumer: Any) -> None:
        consumed = self._consumed(consumer)
        complete = self._own <= consumed
        if complete != self._complete:
            self._complete = complete
            on_change(complete)
        if consumed != self._own:
            consumer.timer.call_after(restore_seconds, self._restore, (consumer,))

    def _restore(self, consumer: Any) -> None:
        consumed = self._consumed(consumer)
        lost, foreign = sorted(self._own - consumed), sorted(consumed - self._own)
        if not lost and not foreign:
            return
        for queue in foreign:
            consumer.cancel_task_queue(queue)
        for queue in lost:
            consumer.add_task_queue(queue)
        emit("worker.queues_restored", worker=consumer.hostname, taken_back=lost, dropped=foreign)

    @staticmethod
    def _consumed(consumer: Any) -> frozenset[str]:
        return frozenset(queue.name for queue in consumer.task_consumer.queues)
