"""Queues of any length, and the work that a statement does in the database, whatever the machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, event, insert, select, text, update

from shared.clock import db_now
from shared.db.engine import read, write
from shared.db.schema import jobs
from tests.support.factories import submit_job

#: SQLite reports its progress after this many instructions.
EVERY = 10


def lengthen(engine: Engine, count: int, spec: Mapping[str, Any], columns: Mapping[str, Any] | None = None) -> None:
    """Add copies of one submitted job; `columns` are set as no submission would.

    A `run_at` of None is one in an hour: at priority 9 such a job ranks before a due one of priority 5.
    """
    first = submit_job(engine, **spec).job_id
    with write(engine) as conn:
        if columns:
            soon = {"run_at": db_now() + 3_600} if columns.get("run_at", ...) is None else {}
            conn.execute(update(jobs).where(jobs.c.id == first).values({**columns, **soon}))
        row = dict(conn.execute(select(jobs).where(jobs.c.id == first)).mappings().one())
        row = {name: value for name, value in row.items() if jobs.c[name].computed is None}
        conn.execute(insert(jobs), [{**row, "id": f"{number:016x}"} for number in _numbers(conn, count)])


def _numbers(conn: Connection, count: int) -> range:
    there = len(conn.scalars(select(jobs.c.id)).all())
    return range(there * 1_000, there * 1_000 + count)


@contextmanager
def analyzed(engine: Engine) -> Iterator[None]:
    """Let PostgreSQL's planner know how long the queue is."""
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            conn.execute(text("VACUUM ANALYZE jobs"))
    yield


def work_of(engine: Engine, call: Callable[[Connection], object]) -> int:
    """Return how much the database does in a call: instructions of SQLite, rows of `jobs` that PostgreSQL reads."""
    return _instructions(engine, call) if engine.dialect.name == "sqlite" else _rows_read(engine, call)


def _instructions(engine: Engine, call: Callable[[Connection], object]) -> int:
    done = 0

    def count() -> int:
        nonlocal done
        done += EVERY
        return 0

    with read(engine) as conn:
        raw: Any = conn.connection.driver_connection
        call(conn)  # compiles and plans the statements
        raw.set_progress_handler(count, EVERY)
        try:
            call(conn)
        finally:
            raw.set_progress_handler(None, 0)
    return done


def _rows_read(engine: Engine, call: Callable[[Connection], object]) -> int:
    statements: list[tuple[str, Any]] = []

    def note(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    with read(engine) as conn:
        event.listen(engine, "before_cursor_execute", note)
        try:
            call(conn)
        finally:
            event.remove(engine, "before_cursor_execute", note)
        return sum(_rows_of(conn, *one) for one in statements if one[0].lstrip().startswith(("SELECT", "WITH")))


def _rows_of(conn: Connection, statement: str, parameters: Any) -> int:
    found = conn.exec_driver_sql(f"EXPLAIN (ANALYZE, TIMING off, FORMAT json) {statement}", parameters).scalar_one()
    document = json.loads(found) if isinstance(found, str) else found
    return sum(_rows_in(node["Plan"]) for node in document)


def _rows_in(node: Mapping[str, Any]) -> int:
    own = 0
    if node.get("Relation Name") == "jobs":
        removed = sum(node.get(name, 0) for name in ("Rows Removed by Filter", "Rows Removed by Index Recheck"))
        own = round((node["Actual Rows"] + removed) * node["Actual Loops"])
    return own + sum(_rows_in(inner) for inner in node.get("Plans", ()))
