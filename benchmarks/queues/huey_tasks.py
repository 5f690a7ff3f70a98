"""huey: tasks on its Redis storage."""

from __future__ import annotations

from huey import RedisHuey

from benchmarks.queues import work

huey = RedisHuey("bench", url=work.url(), results=False)
TASKS = {name: huey.task(name=name)(job) for name, job in work.JOBS.items()}


def send(name: str) -> None:
    """Enqueue a task."""
    TASKS[name]()
