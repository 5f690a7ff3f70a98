"""Every migration, up and down, of a database that has rows in every table: what has a place on both sides stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import JSON, Boolean, Connection, Engine, Float, Integer, MetaData, Table, insert, select, text

from nightshift.errors import ConfigurationError
from shared.db import migrate, schema
from shared.db.engine import make_engine, write
from shared.db.revision import MIGRATIONS, is_current, newest_revision
from tests.support import databases

pytestmark = pytest.mark.slow

#: What a check constraint wants; every other column gets a value of its type.
LEGAL: dict[tuple[str, str], Any] = {("jobs", "state"): "running", ("schedule_ticks", "outcome"): "submitted"}

#: Columns that name a row of another table without a foreign key: such rows are deleted in batches, after the one they
#: name.
NAMED = {
    **{(table, "job_id"): "jobs" for table in ("metrics", "job_logs", "job_events", "system_samples")},
    ("schedule_ticks", "schedule_id"): "schedules",
    ("webhook_deliveries", "webhook_id"): "webhooks",
}

#: table -> column -> its values, as texts, in order.
Rows = dict[str, dict[str, list[str]]]

REVISIONS = [
    script.revision for script in reversed(list(ScriptDirectory(str(MIGRATIONS)).walk_revisions("base", "head")))
]


@pytest.fixture(params=["sqlite", "postgres"])
def engine_of_nothing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        engine = make_engine(f"sqlite:///{tmp_path / 'data.db'}")
        yield engine
        engine.dispose()
        return
    with databases.postgres_database(request.getfixturevalue("postgres_server"), None) as url:
        engine = make_engine(url)
        yield engine
        engine.dispose()


def url_of(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


def tables_of(engine: Engine) -> dict[str, Table]:
    metadata = MetaData()
    metadata.reflect(engine)
    return {table.name: table for table in metadata.sorted_tables if table.name != "alembic_version"}


def fill(engine: Engine, tables: dict[str, Table]) -> None:
    """A row into every table that has none."""
    with write(engine) as conn:
        if engine.dialect.name == "postgresql":  # on a busy machine the next statement may be long in coming
            conn.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        for table in sorted(tables.values(), key=lambda table: table.name not in NAMED.values()):
            if conn.execute(select(table)).first() is None:
                conn.execute(insert(table).values(row_of(conn, table)))


def row_of(conn: Connection, table: Table) -> dict[str, Any]:
    return {column.name: value_of(conn, column) for column in table.columns if column.computed is None}


def value_of(conn: Connection, column: Any) -> Any:
    for key in column.foreign_keys:
        return conn.scalar(select(key.column))
    if parent := NAMED.get((column.table.name, column.name)):
        return conn.scalar(text(f"SELECT id FROM {parent}"))
    if (column.table.name, column.name) in LEGAL:
        return LEGAL[column.table.name, column.name]
    match column.type:
        case JSON():
            return {"a": [1, "b"]}
        case Boolean():
            return True
        case Float():
            return 1.5
        case Integer():
            return 1
    return f"{column.name} of {column.table.name}"[: column.type.length or 40]


def contents(engine: Engine, tables: dict[str, Table]) -> Rows:
    with (
        engine.connect() as conn
    ):  # no transaction that PostgreSQL could find idle while this process waits for its turn
        conn = conn.execution_options(isolation_level="AUTOCOMMIT")
        return {name: columns_of(conn, table) for name, table in tables.items()}


def columns_of(conn: Connection, table: Table) -> dict[str, list[str]]:
    """Return what is stored: a revision may compute a column otherwise."""
    rows = conn.execute(select(table)).mappings().all()
    stored = [column.name for column in table.columns if column.computed is None]
    return {name: sorted(repr(row[name]) for row in rows) for name in stored}


def assert_kept(before: Rows, after: Rows, step: str) -> None:
    for table in before.keys() & after.keys():
        for column in before[table].keys() & after[table].keys():
            assert after[table][column] == before[table][column], f"{step}: {table}.{column}"


def test_rows_survive_every_step_down_and_up_again(engine_of_nothing: Engine) -> None:
    engine, url = engine_of_nothing, url_of(engine_of_nothing)
    migrate.upgrade(url)
    tables = {REVISIONS[-1]: tables_of(engine)}
    fill(engine, tables[REVISIONS[-1]])
    before = contents(engine, tables[REVISIONS[-1]])
    assert set(before) == set(schema.metadata.tables)
    assert all(columns and all(columns.values()) for columns in before.values()), "a table without a row"
    for revision in reversed(["base", *REVISIONS[:-1]]):
        migrate.downgrade(url, revision)
        tables[revision] = tables_of(engine)
        after = contents(engine, tables[revision])
        assert_kept(before, after, f"down to {revision}")
        before = after
    assert before == {}
    for revision in REVISIONS:
        migrate.upgrade(url, revision)
        assert_kept(before, contents(engine, tables[revision]), f"up to {revision}")
        fill(engine, tables[revision])
        before = contents(engine, tables[revision])


def test_a_row_that_points_nowhere_stops_a_migration(sqlite_url: str) -> None:
    engine = make_engine(sqlite_url)
    with engine.connect() as conn:
        conn.connection.driver_connection.execute("PRAGMA foreign_keys=OFF")  # type: ignore[union-attr]
        with conn.begin():
            sql = "INSERT INTO job_dependencies (job_id, depends_on) VALUES ('gone', 'too')"
            conn.execute(text(sql))
    engine.dispose()
    with pytest.raises(ConfigurationError, match=r"job_dependencies.*row 1.*jobs"):
        migrate.downgrade(sqlite_url, "0017")
    assert is_current(engine), "nothing was changed"
    engine.dispose()


def test_migrations_refuse_a_connection_that_would_delete_children(sqlite_engine: Engine) -> None:
    """A batch move drops the table that it rebuilds: with foreign keys on, that deletes every row that points at it."""
    from alembic import command

    with pytest.raises(ConfigurationError, match="foreign keys are on"), write(sqlite_engine) as conn:
        command.downgrade(migrate.config(conn), "-1")


def test_the_newest_revision_is_that_of_the_last_migration() -> None:
    assert newest_revision() == REVISIONS[-1]
