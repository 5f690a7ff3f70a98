"""taskiq: tasks on a Redis stream, the broker that its documentation recommends where no message may be lost."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

from taskiq_redis import RedisStreamBroker

from benchmarks.queues import work

#: `consumer_id`: a worker that starts later reads what was sent before, too.
broker = RedisStreamBroker(url=work.url(), consumer_id="0")
TASKS = {name: broker.task(task_name=name)(job) for name, job in work.JOBS.items()}


@cache
def _loop() -> Any:
    """Return the event loop of the sender, with the broker started in it."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(broker.startup())
    return loop


def send(name: str) -> None:
    """Send a task."""
    _loop().run_until_complete(TASKS[name].kiq())
