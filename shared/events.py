"""Named events: code says *what happened*, `observability.py` decides how it is told.

`emit("job.claimed", job_id=…, worker=…)`. Names are `noun.past_participle`. Emitting is cheap and never raises: a
subscriber that fails must not fail a job.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Subscriber = Callable[[str, dict[str, Any]], None]

_subscribers: list[Subscriber] = []


def emit(event: str, /, **fields: Any) -> None:
    for subscriber in _subscribers:
        try:
            subscriber(event, fields)
        except Exception:
            continue


def subscribe(subscriber: Subscriber) -> Callable[[], None]:
    """Returns the function that ends the subscription."""
    _subscribers.append(subscriber)
    return lambda: _subscribers.remove(subscriber)
