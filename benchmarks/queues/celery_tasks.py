"""Plain Celery: tasks as in its introduction."""

from __future__ import annotations

from celery import Celery

from benchmarks.queues import work

app = Celery("bench", broker=work.url())
TASKS = {name: app.task(name=f"bench.{name}", ignore_result=True)(job) for name, job in work.JOBS.items()}


def send(name: str) -> None:
    """Send a task."""
    TASKS[name].delay()
