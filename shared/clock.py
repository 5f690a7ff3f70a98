"""Time: leases, `run_at` and deadlines are compared only on the database's clock, in seconds since the epoch.

`db_now()` is an SQL expression for that clock. On SQLite it calls `nightshift_now()`, a function that the engine
registers on every connection (SQLite's clock *is* the host's), and that tests may shift with `FakeClock`.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Float, ScalarSelect, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class db_now(FunctionElement[float]):
    """The database's clock: seconds since 1970-01-01 UTC, sub-millisecond resolution, advancing in a transaction."""

    type = Float(53)
    inherit_cache = True
    name = "db_now"


@compiles(db_now, "sqlite")
def _sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    return "nightshift_now()"


@compiles(db_now, "postgresql")
def _postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)"


def now_once() -> ScalarSelect[float]:
    """Return `db_now()` as a value of the whole statement, which an index can be searched for.

    PostgreSQL evaluates its advancing clock anew for each row, and so would read every row.
    """
    return select(db_now()).scalar_subquery()


def read_clock(conn: Connection) -> float:
    """Return the time of the database's clock."""
    return conn.scalars(select(db_now())).one()


class _Clock:
    offset: float = 0.0

    def now(self) -> float:
        return time.time() + self.offset


#: The clock of SQLite's `nightshift_now()`. Only tests set `offset` (seconds).
sqlite_clock = _Clock()


def iso(seconds: float | None) -> str | None:
    """Format a time as in the API: RFC 3339 in UTC with milliseconds."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_duration(seconds: float) -> str:
    """Format a duration for text: `0.4 s`, `42 s`, `12 min`, `3 h 20 min`, `4 days`."""
    seconds = max(0.0, seconds)
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} days"
