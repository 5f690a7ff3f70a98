"""dramatiq: actors on its Redis broker."""

from __future__ import annotations

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.queues import work

dramatiq.set_broker(RedisBroker(url=work.url()))
ACTORS = {name: dramatiq.actor(job, actor_name=name) for name, job in work.JOBS.items()}


def send(name: str) -> None:
    """Send a message to an actor."""
    ACTORS[name].send()
