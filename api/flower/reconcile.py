"""Correct and complete Flower's own pages from SQL, where Celery's events are wrong or missing.

Celery reports every attempt that returned as a success and none whose worker died, and Flower loses its list when it is
restarted. So the event that ends a task is rewritten before Flower receives it, and every second Flower's list is
compared with the attempts in SQL: missing changes are added as events.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from celery import states
from flower.events import Events, EventsState
from sqlalchemy import Engine
from tornado import gen
from tornado.ioloop import IOLoop

from api.flower.attempts import OVERLAP_SECONDS, Attempt, by_task, started_since
from shared.celery_app import ATTEMPT_TASK
from shared.errors import DatabaseUnavailable
from shared.events import emit

#: Interval of comparisons (seconds). Too low: needless queries. Too high: the progress on the tasks page is old.
COMPARE_SECONDS = 1.0
#: Events at the end of a task, whatever the outcome of the attempt.
ENDINGS = frozenset({"task-succeeded", "task-failed"})
_FINAL_EVENT = {states.SUCCESS: "task-succeeded", states.FAILURE: "task-failed", states.REVOKED: "task-revoked"}

Event = dict[str, Any]


def synthesize_event(attempt: Attempt) -> Event:
    """Return the fields of an event that make Flower show this attempt's state."""
    about = attempt.description
    return {
        "uuid": attempt.task_id,
        "name": ATTEMPT_TASK,
        "owner_id": attempt.owner_id,  # for owner_view.py; Celery has no such field, so Flower does not show it
        "hostname": attempt.worker,
        "args": about.job,
        "kwargs": about.work,
        "result": about.status,
        # Not the current time: Flower would take that for a heartbeat of the worker.
        "local_received": None,
        "clock": 0,
    }


def beginning(attempt: Attempt) -> list[Event]:
    """Return the events of an attempt's start."""
    fields = synthesize_event(attempt) | {"timestamp": attempt.started_at, "retries": 0}
    return [fields | {"type": "task-received"}, fields | {"type": "task-started"}]


def ending(attempt: Attempt) -> Event:
    """Return the event of an attempt's end."""
    ended_at = attempt.ended_at or attempt.started_at
    runtime = max(0.0, ended_at - attempt.started_at)
    fields = synthesize_event(attempt) | {
        "type": _FINAL_EVENT[attempt.state],
        "timestamp": ended_at,
        "runtime": runtime,
    }
    return fields | {"exception": attempt.error} if attempt.state == states.FAILURE else fields


def corrected(event: Event, attempt: Attempt) -> Event | None:
    """Return the event to replace Celery's end of a task; None if the attempt still runs according to SQL.

    Such an attempt is rescued when its lease expires.
    """
    if attempt.state == states.STARTED:
        return None
    return event | ending(attempt) | {name: event[name] for name in ("local_received", "clock")}


def doorbell(event: Event) -> Event:
    """Describe a doorbell; its argument is a hint, not the job that will run."""
    return event | {"args": "", "kwargs": f"doorbell (job {event.get('args')})"}


def backdate(event: Event) -> Event:
    """Return a start event that arrives after SQL's; the description stays."""
    return {name: value for name, value in event.items() if name not in ("args", "kwargs")}


class ReconciledState(EventsState):  # type: ignore[misc]
    """Flower's state, with a way to add past events."""

    def __init__(self, *args: Any, **options: Any) -> None:
        #: Unfinished tasks, kept because a search of ten thousand tasks every second would cost too much.
        self._open: set[str] = set()
        super().__init__(*args, **options)

    def event(self, event: Event) -> None:
        """Handle an event."""
        super().event(event)
        self._note(event.get("uuid"))

    def restore(self, event: Event) -> None:
        """Handle an event from before this process started, which Flower's Prometheus metrics must not count."""
        evicted = self._eviction_candidate(event["uuid"])
        super(EventsState, self).event(event)
        self.counter[event["hostname"]][event["type"]] += 1
        self._index_task(self.tasks.data[event["uuid"]], evicted)
        self._note(event["uuid"])

    def _note(self, task_id: str | None) -> None:
        if task_id is None:
            return
        if self.is_final(task_id):
            self._open.discard(task_id)
        else:
            self._open.add(task_id)

    def unfinished(self) -> list[str]:
        """Return the ids of unfinished tasks."""
        self._open.intersection_update(self.tasks.data.keys())
        return list(self._open)

    def is_final(self, task_id: str) -> bool:
        """Return whether the task has ended."""
        task = self.tasks.data.get(task_id)
        return task is not None and bool(task.ready)

    def forget(self, task_id: str) -> None:
        """Remove a doorbell without an attempt; many of them would hide the attempts."""
        if self.tasks.pop(task_id, None) is not None:
            self.search_engine.remove(task_id)

    def describe(self, task: Any, attempt: Attempt) -> None:
        """Write the attempt's description and owner into Flower's task."""
        about, task.owner_id = attempt.description, attempt.owner_id
        if (task.args, task.kwargs, task.result) != (about.job, about.work, about.status):
            task.args, task.kwargs, task.result = about.job, about.work, about.status
            self.search_engine.upsert(task)


class ReconciledEvents(Events):  # type: ignore[misc]
    """Flower's event receiver. `on_event` runs in its thread, everything else in Tornado's loop."""

    def __init__(
        self, capp: Any, io_loop: IOLoop, engine: Engine, lease_seconds: float, max_tasks: int, **options: Any
    ) -> None:
        super().__init__(capp, io_loop, max_tasks_in_memory=max_tasks, **options)
        self.state = ReconciledState(max_tasks_in_memory=max_tasks)
        self._engine, self._lease_seconds = engine, lease_seconds
        #: Start time up to which attempts were read; None before the first comparison.
        self._mark: float | None = None
        #: Tasks whose end could not be checked because the database did not answer.
        self._unchecked: set[str] = set()
        #: Unfinished tasks without an attempt, and since when (this process's monotonic clock).
        self._silent: dict[str, float] = {}

    def start(self) -> None:
        """Start receiving events and comparing with SQL."""
        super().start()
        self.io_loop.spawn_callback(self._compare_regularly)

    # -- events from Celery -----------------------------------------------------------------------

    def on_event(self, event: Event) -> None:
        """Correct an event of one of our tasks before Flower handles it."""
        if not isinstance(event.get("uuid"), str):  # of a worker, or forged
            super().on_event(event)
        elif event["type"] == "task-received" and event.get("name") == ATTEMPT_TASK:
            super().on_event(backdate(event) if event["uuid"] in self.state.tasks.data else doorbell(event))
        elif event["type"] in ENDINGS and self._is_doorbell(event["uuid"]):
            self._on_ending(event)
        else:
            super().on_event(event)

    def _is_doorbell(self, task_id: str) -> bool:
        task = self.state.tasks.data.get(task_id)
        return task is None or task.name in (None, ATTEMPT_TASK)

    def _on_ending(self, event: Event) -> None:
        try:
            found = by_task(self._engine, [event["uuid"]])
        except DatabaseUnavailable:
            self._unchecked.add(event["uuid"])
            super().on_event(event)
            return
        checked = corrected(event, found[0]) if found else event
        if checked is not None:
            super().on_event(checked)
        if not found:
            self.io_loop.add_callback(self.state.forget, event["uuid"])

    # -- comparison with SQL ----------------------------------------------------------------------

    async def _compare_regularly(self) -> None:
        while True:
            try:
                await self.compare()
            except DatabaseUnavailable:
                pass  # our pages show it
            except Exception as error:
                emit("flower.cannot_compare", error=repr(error))
            await gen.sleep(COMPARE_SECONDS)

    async def compare(self) -> None:
        """Compare Flower's list with SQL and correct it."""
        unfinished = self.state.unfinished()
        first = self._mark is None
        found: list[Attempt] = await self.io_loop.run_in_executor(None, self._read, unfinished)
        for attempt in found:
            self._correct(attempt, first)
        self._forget_silent(set(unfinished) - {attempt.task_id for attempt in found})

    def _read(self, unfinished: Iterable[str]) -> list[Attempt]:
        """Return the attempts that Flower may show wrongly."""
        since = 0.0 if self._mark is None else self._mark - OVERLAP_SECONDS
        recent = started_since(self._engine, since)
        unchecked = set(self._unchecked)
        missed = {task_id for task_id, _ in recent if not self.state.is_final(task_id)}
        found = by_task(self._engine, sorted(missed | unchecked | set(unfinished)))
        self._mark = max([self._mark or 0.0, *(started_at for _, started_at in recent)])
        self._unchecked -= unchecked
        return found

    def _correct(self, attempt: Attempt, first: bool) -> None:
        handle = self.state.restore if first else self.state.event
        task = self.state.tasks.data.get(attempt.task_id)
        if task is None or task.name is None or task.state in (states.PENDING, states.RECEIVED):
            for event in beginning(attempt):
                handle(event)
            task = self.state.tasks.data[attempt.task_id]
        if attempt.state not in (states.STARTED, task.state):
            # A wrong final state would take precedence over the right one.
            task.state = states.PENDING
            handle(ending(attempt))
        self.state.describe(task, attempt)

    def _forget_silent(self, silent: set[str]) -> None:
        """Remove doorbells that were received but claimed no job, because their worker died. No job is lost."""
        now = time.monotonic()
        self._silent = {task_id: self._silent.get(task_id, now) for task_id in silent if self._is_doorbell(task_id)}
        for task_id, since in self._silent.items():
            if now - since > self._lease_seconds:
                self.state.forget(task_id)
