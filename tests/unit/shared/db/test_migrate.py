"""The migrations make exactly the tables that the models describe, on both databases."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, insert, inspect, select, text

from nightshift.errors import ConfigurationError
from shared.db import migrate, schema
from shared.db.engine import make_engine, write
from shared.db.migrate import upgrade
from shared.db.revision import is_current
from shared.settings import Settings
from tests.support import databases
from tests.support.factories import submit_job


def test_models_and_migrations_agree(engine: Engine) -> None:
    with engine.connect() as conn:
        context = MigrationContext.configure(conn, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []


def test_check_constraints_agree_too(engine: Engine) -> None:
    """Alembic does not compare them; the lease's is a promise."""
    for table in schema.metadata.tables.values():
        declared = sum(type(item).__name__ == "CheckConstraint" for item in table.constraints)
        assert len(inspect(engine).get_check_constraints(table.name)) == declared, table.name


def test_a_migrated_database_is_current(engine: Engine) -> None:
    assert is_current(engine)


def test_a_new_table_of_a_model_is_noticed(sqlite_engine: Engine) -> None:
    with write(sqlite_engine) as conn:
        conn.exec_driver_sql("DROP TABLE job_logs")
    with sqlite_engine.connect() as conn:
        assert compare_metadata(MigrationContext.configure(conn), schema.metadata)


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'new folder' / 'empty.db'}"
        return
    with databases.postgres_database(request.getfixturevalue("postgres_server"), None) as url:
        yield url


@pytest.mark.usefixtures("long_database_timeouts")
def test_two_migrations_at_once_do_no_harm(empty_url: str) -> None:
    upgrade(empty_url, "base")  # makes the folder
    errors: list[BaseException] = []

    def run() -> None:
        try:
            upgrade(empty_url)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    engine = make_engine(empty_url)
    assert is_current(engine)
    engine.dispose()


def test_the_command_goes_back_to_an_older_schema(
    sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(database_url=sqlite_engine.url.render_as_string())
    monkeypatch.setattr(migrate, "get_settings", lambda: settings)
    monkeypatch.setattr("sys.argv", ["migrate", "--down-to", "0017"])
    assert migrate.main() == 0
    assert "the schema is at 0017" in capsys.readouterr().out
    assert "model_descriptions" not in inspect(sqlite_engine).get_table_names()
    monkeypatch.setattr("sys.argv", ["migrate", "--down-to", "0000"])
    with pytest.raises(ConfigurationError, match="cannot be downgraded to 0000"):
        migrate.main()


def test_a_database_of_a_newer_version_is_refused_with_the_way_out(sqlite_url: str) -> None:
    engine = make_engine(sqlite_url)
    with write(engine) as conn:
        conn.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(ConfigurationError, match="a newer version of Nightshift"):
        upgrade(sqlite_url)


def test_long_tables_lose_and_regain_their_foreign_keys_with_their_rows(empty_url: str) -> None:
    """On SQLite in place. Rows whose job was deleted cannot go back below the key."""
    upgrade(empty_url)
    engine = make_engine(empty_url)
    kept = submit_job(engine).job_id
    line = {"seq": 1, "at": 0.0, "fence": 1, "level": "info", "message": "said"}
    with write(engine) as conn:
        conn.execute(insert(schema.job_logs), [line | {"job_id": kept}, line | {"job_id": "deleted"}])
    for revision, keys in (("0018", 1), ("0020", 0)):
        (migrate.downgrade if keys else upgrade)(empty_url, revision)
        engine.dispose()  # a connection that was there before may show the old schema
        for table in ("metrics", "job_logs", "job_events", "system_samples", "schedule_ticks", "webhook_deliveries"):
            assert len(inspect(engine).get_foreign_keys(table)) == keys, table
        with engine.connect() as conn:
            assert list(conn.scalars(select(schema.job_logs.c.job_id))) == [kept]
    if engine.dialect.name == "sqlite":
        with engine.connect() as conn:
            assert conn.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    engine.dispose()
