"""Keeps a worker on its own queues, even if Celery was told otherwise through Redis.

Any client of Redis can send `cancel_consumer` and `add_consumer`, and Celery remembers them over lost connections. A
worker without its queue would look healthy and take no job. Therefore each change is reported (`on_change`, shown in
the fleet table), and undone after `restore_seconds`. A worker that left its device leaves its queues too (`leave`),
because it would take doorbells that others can serve.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery, bootsteps
from celery.worker.consumer import Consumer, Tasks

from shared.events import emit


def _nothing(complete: bool) -> None:
    return None


#: Called with False when a queue was lost, with True when all are back. A global because Celery creates the step.
on_change: Callable[[bool], None] = _nothing
#: Seconds until a wrong set of queues is restored: one maintenance interval.
restore_seconds = 5.0
#: Whether the worker left its queues on purpose.
has_left = False
_guards: set[QueueGuard] = set()


def leave(is_away: bool) -> None:
    """Leave all queues, or take them again, in Celery's loop soon. Callable from any thread."""
    global has_left
    has_left = is_away
    for guard in _guards:
        guard.apply_soon()


def make_worker(app: Celery, name: str, queues: list[str], pool: Any, restore_after: float) -> Any:
    """Return a Celery worker of one thread that keeps its queues."""
    install(app, restore_after)
    return app.Worker(
        hostname=name,
        pool_cls=pool,
        concurrency=1,
        queues=queues,
        task_events=True,  # for Flower
        without_mingle=True,  # unneeded, since our tasks are not revoked, and takes a second at start
        without_gossip=True,
        quiet=True,
    )


def install(app: Celery, seconds: float) -> None:
    """Keep the queues of this app's Celery workers; a wrong set is restored after `seconds`."""
    global restore_seconds
    restore_seconds = seconds
    app.steps["consumer"].add(QueueGuard)
    app.conf.worker_consumer = f"{__name__}:Listener"


class Listener(Consumer):  # type: ignore[misc]
    """Celery's consumer, which also reports changes of its queues to `QueueGuard`."""

    own_queues: QueueGuard

    def add_task_queue(self, queue: str, *args: Any, **options: Any) -> None:
        super().add_task_queue(queue, *args, **options)
        self.own_queues.changed(self)

    def cancel_task_queue(self, queue: str) -> None:
        super().cancel_task_queue(queue)
        self.own_queues.changed(self)


class QueueGuard(bootsteps.StartStopStep):  # type: ignore[misc]
    """Keeps a `Listener` on the queues it was started with. All methods run in Celery's loop."""

    requires = (Tasks,)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        consumer.own_queues = self
        self._consumer = consumer
        self._own = frozenset(consumer.app.amqp.queues.consume_from)
        self._complete = True
        _guards.add(self)

    @property
    def _wanted(self) -> frozenset[str]:
        return frozenset() if has_left else self._own

    def apply_soon(self) -> None:
        """Set the queues in Celery's loop."""
        self._consumer.timer.call_after(0, self._restore, (self._consumer,))

    def start(self, consumer: Any) -> None:
        """Restore the queues after each connection.

        A lost connection removes Celery's timers but not its memory of wrong queues.
        """
        self._restore(consumer)

    def stop(self, consumer: Any) -> None:
        return None

    def changed(self, consumer: Any) -> None:
        """Report and schedule the restoration of a wrong set of queues."""
        consumed = self._consumed(consumer)
        complete = self._wanted <= consumed
        if complete != self._complete:
            self._complete = complete
            on_change(complete)
        if consumed != self._wanted:
            consumer.timer.call_after(restore_seconds, self._restore, (consumer,))

    def _restore(self, consumer: Any) -> None:
        consumed = self._consumed(consumer)
        lost, extra = sorted(self._wanted - consumed), sorted(consumed - self._wanted)
        if not lost and not extra:
            return
        for queue in extra:
            consumer.cancel_task_queue(queue)
        for queue in lost:
            consumer.add_task_queue(queue)
        emit("worker.queues_restored", worker=consumer.hostname, taken_back=lost, dropped=extra)

    @staticmethod
    def _consumed(consumer: Any) -> frozenset[str]:
        return frozenset(queue.name for queue in consumer.task_consumer.queues)
