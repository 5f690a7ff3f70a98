"""Named events: code emits them, `logging.py` turns them into log lines.

`emit("job.claimed", job_id=…, worker=…)`. Names are `noun.past_participle`. Emitting is cheap and never raises, because
a failing subscriber must not fail a job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

Subscriber = Callable[[str, dict[str, Any]], None]

_subscribers: list[Subscriber] = []
_context: ContextVar[Mapping[str, Any]] = ContextVar("log_context", default=MappingProxyType({}))


@contextmanager
def log_context(**facts: Any) -> Iterator[None]:
    """Add facts such as `job_id` and `attempt` to every log line of the block, including those of libraries.

    Threads started inside do not inherit them; run them in `contextvars.copy_context()`.
    """
    token = _context.set({**_context.get(), **facts})
    try:
        yield
    finally:
        _context.reset(token)


def current_context() -> Mapping[str, Any]:
    """Return the facts of all enclosing `log_context` blocks."""
    return _context.get()


def emit(event: str, /, **fields: Any) -> None:
    """Pass an event to all subscribers; their exceptions are ignored."""
    for subscriber in _subscribers:
        try:
            subscriber(event, fields)
        except Exception:
            continue


def subscribe(subscriber: Subscriber) -> Callable[[], None]:
    """Subscribe to all events; return the function that ends the subscription."""
    _subscribers.append(subscriber)
    return lambda: _subscribers.remove(subscriber)
