"""Keep a pooled connection for a request's single statements, instead of taking one from the pool for each.

Taking a connection, changing its isolation level and giving it back costs as much processor time as a statement.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine


class _Kept(threading.local):
    """The connection that the calling thread keeps."""

    engine: Engine | None = None
    conn: Connection | None = None
    is_used = False


_kept = _Kept()


@contextmanager
def keep(engine: Engine) -> Iterator[None]:
    """Let `connect` of this thread use one connection in this block."""
    _kept.engine = engine
    try:
        yield
    finally:
        _kept.engine = None
        give_back()


@contextmanager
def connect(engine: Engine) -> Iterator[Connection]:
    """Open a connection, or use the one that the thread keeps."""
    if _kept.engine is not engine or _kept.is_used:
        with engine.connect() as conn:
            yield conn
        return
    _kept.is_used = True
    try:
        if _kept.conn is None:
            _kept.conn = engine.connect()
        yield _kept.conn
    finally:
        _kept.is_used = False


def give_back() -> None:
    """Give the kept connection back to the pool, so that the thread never waits for another while it has this one."""
    if _kept.conn is not None and not _kept.is_used:
        conn, _kept.conn = _kept.conn, None
        conn.close()
