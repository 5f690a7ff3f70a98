"""RQ: functions are enqueued, and each job runs in a process forked for it."""

from __future__ import annotations

from functools import cache
from typing import Any

import redis
from rq import Queue

from benchmarks.queues import work


@cache
def _queue() -> Any:
    return Queue("bench", connection=redis.Redis.from_url(work.url()))


def send(name: str) -> None:
    """Enqueue a job."""
    _queue().enqueue(work.JOBS[name])
