"""Transfer of an installation to another database: all tables, in the order of their foreign keys.

The source is not changed; the target is written in one transaction. Files are not copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, func, select, text
from sqlalchemy.exc import DBAPIError

from nightshift.errors import ConfigurationError, InvalidRequest
from shared.clock import db_now
from shared.db import migrate, revision
from shared.db.counters import recount, stop_counting
from shared.db.engine import make_engine, read, write
from shared.db.schema import counters, jobs, metadata, workers

#: Rows per batch. Too low: many round trips. Too high: long logs fill memory.
CHUNK = 2_000
_OFFLINE, _RUNNING = "offline", "running"


@dataclass(frozen=True)
class TransferReport:
    """Number of rows copied to a table."""

    table: str
    rows: int


def url_of(given: str) -> str:
    """Return the database URL of a data folder or SQLite file; a URL is returned unchanged."""
    if "://" in given:
        return given
    path = Path(given)
    return f"sqlite:///{(path / 'nightshift.db' if path.is_dir() else path).resolve()}"


def transfer(
    source_url: str, target_url: str, *, lease_seconds: float, replace: bool = False, while_running: bool = False
) -> list[TransferReport]:
    """Copy all tables. Raises ConfigurationError if that is unsafe or fails, with instructions."""
    source = _existing(source_url)
    target = make_engine(target_url)
    try:
        if source.url.set(drivername="") == target.url.set(drivername=""):
            raise ConfigurationError("--from is the database in NIGHTSHIFT_DATABASE_URL: there is nothing to copy")
        if not revision.is_current(source):
            hidden = source.url.render_as_string()
            raise ConfigurationError(
                f"the schema of {hidden} is not up to date: run NIGHTSHIFT_DATABASE_URL={hidden} nightshift migrate"
            )
        migrate.upgrade(target_url)
        with _held(source, while_running) as from_, write(target) as to:
            _take_time(to)
            if not while_running:
                _refuse_running(from_, lease_seconds)
            stop_counting(to)
            _empty_target(to, replace)
            copied = [_copied(table, from_, to) for table in _copied_tables()]
            recount(to)
            return copied
    finally:
        source.dispose()
        target.dispose()


def _existing(url: str) -> Engine:
    """Return the engine of a database; refuse a missing SQLite file, which connecting would create."""
    engine = make_engine(url)
    if engine.dialect.name == "sqlite" and not Path(engine.url.database or "").is_file():
        raise ConfigurationError(f"--from: there is no file {engine.url.database}")
    return engine


@contextmanager
def _held(source: Engine, while_running: bool) -> Iterator[Connection]:
    """Open a snapshot of all tables; SQLite's write lock keeps others from writing rows that would not be copied."""
    if source.dialect.name == "sqlite" and not while_running:
        with write(source) as conn:
            yield conn
    else:
        with read(source) as conn:
            if source.dialect.name == "postgresql":
                conn.execution_options(isolation_level="REPEATABLE READ")
            yield conn


def _refuse_running(conn: Connection, lease_seconds: float) -> None:
    is_recent = workers.c.heartbeat_at > db_now() - lease_seconds
    alive = conn.scalars(select(workers.c.name).where(workers.c.state != _OFFLINE, is_recent)).all()
    leased = conn.scalars(select(jobs.c.id).where(jobs.c.state == _RUNNING, jobs.c.lease_until > db_now())).all()
    if alive or leased:
        who = ", ".join([*alive, *(f"job {job_id}" for job_id in leased)][:5])
        raise ConfigurationError(
            f"the source is in use ({who}): stop it, because later changes would not be copied. After a crash, wait "
            f"{lease_seconds:.0f} s. Or copy with --while-running: running jobs then resume from their last checkpoint"
        )


def _take_time(conn: Connection) -> None:
    """Disable PostgreSQL's statement timeout: a transfer may count or delete millions of rows."""
    if conn.dialect.name == "postgresql":
        conn.execute(text("SET LOCAL statement_timeout = 0"))


def _empty_target(conn: Connection, replace: bool) -> None:
    filled = {table.name: count for table in _copied_tables() if (count := _count(conn, table))}
    if filled and not replace:
        found = ", ".join(f"{name} {count:,}" for name, count in list(filled.items())[:5])
        raise ConfigurationError(
            f"the target is not empty ({found}): use an empty database, or delete everything in it with --replace"
        )
    for table in reversed(_copied_tables()):
        if table.name in filled:
            conn.execute(table.delete())


def _copied_tables() -> list[Table]:
    """Return all tables but the counters: the target counts anew."""
    return [table for table in metadata.sorted_tables if table is not counters]


def _count(conn: Connection, table: Table) -> int:
    return conn.scalar(select(func.count()).select_from(table)) or 0


def _copied(table: Table, from_: Connection, to: Connection) -> TransferReport:
    """Copy a table, read it back and compare digests."""
    sent, wanted = 0, 0
    try:
        for rows in _chunks(from_, table):
            to.execute(table.insert(), [dict(row._mapping) for row in rows])
            sent, wanted = sent + len(rows), wanted + _digest(rows)
    except (DBAPIError, InvalidRequest) as error:
        raise ConfigurationError(f"table {table.name}, after {sent:,} rows: {_first_line(error)}") from None
    _count_on(to, table)
    found, arrived = 0, 0
    for rows in _chunks(to, table):
        found, arrived = found + len(rows), arrived + _digest(rows)
    if (found, arrived) != (sent, wanted):
        raise ConfigurationError(
            f"table {table.name}: {sent:,} rows were copied, but the {found:,} rows read back differ"
        )
    return TransferReport(table.name, sent)


def _chunks(conn: Connection, table: Table) -> Iterator[Sequence[Any]]:
    brought = [column for column in table.columns if column.computed is None]
    return conn.execute(select(*brought).execution_options(yield_per=CHUNK)).partitions()


def _digest(rows: Sequence[Any]) -> int:
    """Return a digest that does not depend on the order, because databases sort text differently."""
    return sum(int.from_bytes(blake2b(repr(tuple(row)).encode(), digest_size=16).digest()) for row in rows)


def _count_on(conn: Connection, table: Table) -> None:
    """Advance PostgreSQL's sequence past the ids of the copied rows."""
    numbered = table.autoincrement_column
    if numbered is None or conn.dialect.name != "postgresql":
        return
    highest = conn.scalar(select(func.max(numbered)))
    if highest is not None:
        sequence = func.pg_get_serial_sequence(table.name, numbered.name)
        conn.execute(select(func.setval(sequence, highest)))


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]
