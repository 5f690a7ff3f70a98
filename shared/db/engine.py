"""Connections to the SQL database: one engine per process, `read()` and `write()` transactions.

SQLite: WAL, `synchronous=FULL` (a 2xx must survive a power cut), and every write begins with BEGIN IMMEDIATE: deferred
read-then-write transactions fail with SQLITE_BUSY regardless of the timeout. PostgreSQL: server-side timeouts, so that
a frozen client cannot hold a row lock forever.
"""

from __future__ import annotations

import json
import math
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import lru_cache
from importlib.util import find_spec
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
    TimeoutError,
)
from sqlalchemy.sql.dml import Insert as AnyInsert

from nightshift.errors import ConfigurationError, InvalidRequest
from shared import failpoints
from shared.clock import sqlite_clock
from shared.db import kept_connection, pool_check
from shared.db.write_lock import WriteLock
from shared.errors import DatabaseLocked, DatabaseUnavailable
from shared.settings import get_settings

#: Timeout of a writer for this process's lock, and again for SQLite's write lock (seconds). Too low: bursts of writers
#: fail. Too high: the API hangs behind a stuck writer instead of answering 503.
SQLITE_BUSY_SECONDS = 5.0
#: Time after which a client frozen inside a transaction loses its locks (milliseconds); half a lease.
IDLE_IN_TRANSACTION_MS = 15_000
#: Longest wait for one row lock (milliseconds).
LOCK_TIMEOUT_MS = 10_000
#: Longest single statement (milliseconds); normal ones take milliseconds.
STATEMENT_TIMEOUT_MS = 30_000
#: Longest wait for a connection of the pool (seconds).
POOL_TIMEOUT_SECONDS = 5.0
_POOL: dict[str, Any] = {"pool_size": 8, "max_overflow": 32, "pool_timeout": POOL_TIMEOUT_SECONDS}

_WRITE = "nightshift_write"
_AFTER_COMMIT = "nightshift_after_commit"


def make_engine(url: str) -> Engine:
    """Create the engine of a database. Raises ConfigurationError unless it is a URL of SQLite or PostgreSQL."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # its message may contain a password
        raise ConfigurationError(
            "NIGHTSHIFT_DATABASE_URL is not a database URL: "
            "use sqlite:////absolute/path.db or postgresql://user:password@host/name"
        ) from None
    match parsed.get_backend_name():
        case "sqlite":
            return _sqlite_engine(parsed)
        case "postgresql" | "postgres":
            return _postgres_engine(parsed)
        case other:
            raise ConfigurationError(f"NIGHTSHIFT_DATABASE_URL: use sqlite:///… or postgresql://…, not {other}")


@lru_cache
def get_engine() -> Engine:
    """Return this process's engine, from the settings."""
    return make_engine(get_settings().sql_url)


def _sqlite_engine(url: URL) -> Engine:
    engine = create_engine(
        url,
        connect_args={"timeout": SQLITE_BUSY_SECONDS, "check_same_thread": False},
        json_serializer=dump_json,
        **_POOL,
    )

    @event.listens_for(engine, "connect")
    def _prepare(dbapi_connection: Any, _record: Any) -> None:
        dbapi_connection.isolation_level = None  # transactions begin in `_begin`, not in the driver
        dbapi_connection.create_function("nightshift_now", 0, sqlite_clock.now)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-16000"):
            dbapi_connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(conn: Connection) -> None:
        conn.exec_driver_sql("BEGIN IMMEDIATE" if conn.get_execution_options().get(_WRITE) else "BEGIN")

    event.listen(engine, "handle_error", _refuse_unstorable)
    return engine


def _postgres_engine(url: URL) -> Engine:
    options = {
        "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_MS,
        "lock_timeout": LOCK_TIMEOUT_MS,
        "statement_timeout": STATEMENT_TIMEOUT_MS,
        # Of the statements that are transactions by themselves, whatever the database's default is.
        "default_transaction_isolation": r"read\ committed",
    }
    if find_spec("psycopg") is None:
        raise ConfigurationError("the PostgreSQL driver is not installed: pip install 'nightshift[server]'")
    keepalives = {"keepalives": 1, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args={
            "connect_timeout": 5,
            "tcp_user_timeout": 20_000,
            "application_name": "nightshift",
            "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
            **keepalives,
        },
        isolation_level="READ COMMITTED",
        json_serializer=dump_json,
        **_POOL,
    )
    pool_check.install(engine)
    event.listen(engine, "connect", _refuse_encoding, insert=True)  # before SQLAlchemy asks for the version
    event.listen(engine, "handle_error", _refuse_unstorable)
    return engine


def _refuse_encoding(connection: Any, _record: Any) -> None:
    """Raise ConfigurationError unless the database uses UTF-8; others cannot store all text."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise ConfigurationError(
            f"the database {connection.info.dbname} has the encoding {encoding}, but Nightshift needs UTF8: create one "
            "(CREATE DATABASE nightshift ENCODING 'UTF8' TEMPLATE template0) and set NIGHTSHIFT_DATABASE_URL to it"
        )


def _refuse_unstorable(context: ExceptionContext) -> None:
    """Raise InvalidRequest for values that a column cannot hold: NUL, a lone surrogate, an integer of 70 bits."""
    if isinstance(context.sqlalchemy_exception, DataError) or isinstance(
        context.original_exception, OverflowError | UnicodeEncodeError
    ):
        raise InvalidRequest("A value is out of range or contains a character that cannot be stored.")


@contextmanager
def read(engine: Engine) -> Iterator[Connection]:
    """Open a read transaction. Raises DatabaseUnavailable; InvalidRequest for values that cannot be stored."""
    kept_connection.give_back()
    with _mapped_errors(), engine.connect() as conn:
        yield conn


@contextmanager
def read_one(engine: Engine) -> Iterator[Connection]:
    """Open a connection for one statement, which needs no transaction: PostgreSQL is asked once, not three times.

    In a block of `kept_connection.keep` all have the same connection. Raises the errors of `read`.
    """
    with _mapped_errors(), kept_connection.connect(engine) as conn:
        if engine.dialect.name == "postgresql" and not commits_each(conn):
            conn.execution_options(isolation_level="AUTOCOMMIT")
        yield conn


@contextmanager
def write(engine: Engine) -> Iterator[Connection]:
    """Open a write transaction: committed on exit, rolled back after an exception. Raises the errors of `read`."""
    after: list[Callable[[], None]] = []
    kept_connection.give_back()
    with _turn(engine), _mapped_errors(), engine.connect() as plain:
        conn = plain.execution_options(**{_WRITE: True, _AFTER_COMMIT: after})
        with conn.begin():
            yield conn
    for call in after:
        call()


@contextmanager
def write_one(engine: Engine) -> Iterator[Connection]:
    """Open a connection for one writing statement on PostgreSQL, which is a transaction without BEGIN and COMMIT.

    Other statements may read, but not lock. Raises the errors of `read`.
    """
    after: list[Callable[[], None]] = []
    with read_one(engine) as conn:
        yield conn.execution_options(**{_AFTER_COMMIT: after})
    for call in after:
        call()


_turns: WeakKeyDictionary[Engine, WriteLock] = WeakKeyDictionary()
_turns_guard = threading.Lock()


def write_lock_of(engine: Engine) -> WriteLock:
    """Return the lock of this process's writers."""
    with _turns_guard:
        return _turns.setdefault(engine, WriteLock())


def _turn(engine: Engine) -> AbstractContextManager[None]:
    """Take turns with the other writers of this process: on SQLite, and where a failpoint may suspend the process."""
    turns = engine.dialect.name == "sqlite" or failpoints.may_stop()
    return write_lock_of(engine).take(SQLITE_BUSY_SECONDS) if turns else nullcontext()


@contextmanager
def _no_other_writer() -> Iterator[None]:
    """Hold the locks of this process's writers, except those that the calling thread holds already."""
    with ExitStack() as held:
        for lock in list(_turns.values()):
            if not lock.is_mine():
                held.enter_context(lock.take(None))
        yield


failpoints.hold_while_stopped(_no_other_writer)


def commits_each(conn: Connection) -> bool:
    """Return whether each statement is a transaction: the connection is one of `write_one` or `read_one`."""
    return conn.get_execution_options().get("isolation_level") == "AUTOCOMMIT"


def on_commit(conn: Connection, call: Callable[[], None]) -> None:
    """Register a call for after the commit of the transaction of `write()`; a rollback drops it."""
    after = conn.get_execution_options().get(_AFTER_COMMIT)
    if after is None:
        raise RuntimeError("transitions need a connection of shared.db.engine.write()")
    after.append(call)


@contextmanager
def _mapped_errors() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, TimeoutError) as error:
        kind = DatabaseLocked if _is_locked(error) else DatabaseUnavailable
        raise kind(f"the database does not answer: {error}") from error
    except DBAPIError as error:
        if error.connection_invalidated or getattr(error.orig, "sqlstate", None) in _LOST_CONNECTION:
            raise DatabaseUnavailable(f"the database ended the connection: {error}") from error
        raise


def _is_locked(error: SQLAlchemyError) -> bool:
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", None)
    return code is not None and code & 0xFF == sqlite3.SQLITE_BUSY  # the low byte; the rest says which kind of busy


#: SQLSTATEs that psycopg does not raise as OperationalError: idle-in-transaction timeout, transaction timeout.
_LOST_CONNECTION = frozenset({"25P03", "25P04"})


def insert(conn: Connection, table: Any) -> Any:
    """Return the dialect's INSERT, which has `on_conflict_do_update` and `on_conflict_do_nothing`."""
    return insert_of(conn.dialect.name, table)


def insert_of(dialect: str, table: Any) -> Any:
    """Return `insert` for the dialect of this name."""
    construct: AnyInsert
    if dialect == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as sqlite_insert

        construct = sqlite_insert(table)
    else:
        from sqlalchemy.dialects.postgresql import insert as postgres_insert

        construct = postgres_insert(table)
    return construct


#: Built once: building it takes as long as encoding a small value.
_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


def dump_json(value: Any) -> str:
    """Return JSON that every database accepts: NaN and infinities become null."""
    try:
        return _ENCODER.encode(value)
    except ValueError:
        return _ENCODER.encode(_finite(value))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
