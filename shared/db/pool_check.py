"""Check a pooled connection to PostgreSQL before its use, without asking the server at each use.

SQLAlchemy's `pool_pre_ping` asks at each use, a round trip that a submission would pay three times. A server that ends
a connection says so and closes it, so its socket has something to read; a network that is gone says nothing, so a
connection that was idle for long is asked, too.
"""

from __future__ import annotations

import select
import time
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.exc import InvalidatePoolError

#: Idle time after which a connection is asked (seconds). Too low: more round trips. Too high: a request after the loss
#: of the network waits for the limit of TCP and is refused, instead of finding out and connecting again.
IDLE_SECONDS = 5.0

_SINCE = "nightshift_idle_since"


def install(engine: Engine) -> None:
    """Check the connections of this engine."""

    @event.listens_for(engine, "checkin")
    def _returned(_connection: Any, record: Any) -> None:
        record.info[_SINCE] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _taken(connection: Any, record: Any, _proxy: Any) -> None:
        idle_since = record.info.pop(_SINCE, None)
        if idle_since is not None and _may_be_lost(connection, idle_since) and not _answers(engine, connection):
            raise InvalidatePoolError  # the pool closes all, and connects again


def _may_be_lost(connection: Any, idle_since: float) -> bool:
    return connection.closed or time.monotonic() - idle_since > IDLE_SECONDS or _is_readable(connection.fileno())


def _is_readable(socket: int) -> bool:
    poll = select.poll()
    poll.register(socket, select.POLLIN)
    return bool(poll.poll(0))


def _answers(engine: Engine, connection: Any) -> bool:
    try:
        return bool(engine.dialect.do_ping(connection))
    except connection.Error:
        return False
