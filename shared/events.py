"""Named events: code says *what happened*, `observability.py` decides how it is told.

`emit("job.claimed", job_id=…, worker=…)`. Names are `noun.past_participle`. Emitting is cheap and never raises: a
subscriber that fails must not fail a job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

Subscriber = Callable[[str, dict[str, Any]], None]

_subscribers: list[Subscriber] = []
_about: ContextVar[Mapping[str, Any]] = ContextVar("about", default=MappingProxyType({}))


@contextmanager
def log_context(**facts: Any) -> Iterator[None]:
    """What this work is about, such as `job_id` and `attempt`: on every log line of the block, a library's too.

    A thread that is started inside starts without it; run it in `contextvars.copy_context()`.
    """
    token = _about.set({**_about.get(), **facts})
    try:
        yield
    finally:
        _about.reset(token)


def current_context() -> Mapping[str, Any]:
    """The facts of the blocks this work is in."""
    return _about.get()


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
