"""Moving to another database: all of it or nothing, both ways, and no surprise for what goes on there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import JSON, BigInteger, Boolean, Engine, Float, Integer, Table, create_engine, func, select, text

from nightshift.errors import ConfigurationError
from shared.db import transfer
from shared.db.counters import differences
from shared.db.engine import make_engine, read, write
from shared.db.migrate import upgrade
from shared.db.schema import api_keys, counters, metadata, metrics, model_changes, workers
from shared.fleet.workers import WorkerInfo, register
from tests.support.factories import claim_job, running_job, submit_job

ROWS = 7
#: All but the counters: the target counts anew.
COPIED = [table for table in metadata.sorted_tables if table is not counters]


def fill(engine: Engine) -> None:
    """Some rows in every table, with everything a column may hold."""
    with write(engine) as conn:
        for table in COPIED:
            conn.execute(table.insert(), [row(table, number) for number in range(1, ROWS + 1)])


#: What the tables' own checks, and a stopped installation, ask for.
LEGAL: dict[str, Callable[[int], dict[str, Any]]] = {
    "jobs": lambda number: {"state": "queued", "lease_until": None},
    "workers": lambda number: {"state": "offline"},
    "schedules": lambda number: {"enabled": True},
    "schedule_ticks": lambda number: {"outcome": "skipped" if number % 2 else "submitted"},
}


def row(table: Table, number: int) -> dict[str, Any]:
    values = {column.name: value(column, number) for column in table.columns if column.computed is None}
    return values | LEGAL.get(table.name, lambda number: {})(number)


def value(column: Any, number: int) -> Any:
    if column.foreign_keys:
        (parent,) = column.foreign_keys
        return value(parent.column, number)
    if column.nullable and number % 2:
        return None
    match column.type:
        case JSON():
            return {"ünïcödé": [number, None, 0.1 + number, True], "z": {}, "a": "\\u0001 ☾"}
        case Boolean():
            return bool(number % 2)
        case BigInteger():
            return 2**40 + number
        case Integer():
            return number
        case Float():
            return number / 3 * 1e-5
        case _:
            return f"{number}☾{column.name}"[: column.type.length or 100]


def everything(engine: Engine) -> dict[str, list[Any]]:
    with read(engine) as conn:
        return {table.name: sorted((tuple(row) for row in conn.execute(select(table))), key=repr) for table in COPIED}


def go(source: str, target: str, **options: Any) -> list[transfer.TransferReport]:
    return transfer.transfer(source, target, lease_seconds=30.0, **options)


@pytest.fixture
def there(sqlite_engine: Engine) -> str:
    """An installation with something in every table, on SQLite."""
    fill(sqlite_engine)
    return str(sqlite_engine.url)


def test_everything_arrives_and_returns(there: str, postgres_url: str, tmp_path: Path) -> None:
    """SQLite to PostgreSQL and on to another SQLite."""
    home = f"sqlite:///{tmp_path / 'new' / 'home.db'}"
    before = everything(make_engine(there))
    assert all(len(rows) == ROWS for rows in before.values())
    assert [(one.table, one.rows) for one in go(there, postgres_url)] == [(table.name, ROWS) for table in COPIED]
    go(postgres_url, home)
    for url in (postgres_url, home, there):
        engine = make_engine(url)
        assert everything(engine) == before
        with read(engine) as conn:
            assert differences(conn) == []
        engine.dispose()


def test_numbering_goes_on_behind_what_came_along(there: str, postgres_url: str) -> None:
    go(there, postgres_url)
    engine = make_engine(postgres_url)
    with write(engine) as conn:
        new = row(model_changes, 1)
        del new["id"]
        conn.execute(model_changes.insert(), new)
        assert conn.scalar(select(func.max(model_changes.c.id))) == ROWS + 1
    engine.dispose()


def test_it_takes_more_than_one_chunk(
    sqlite_engine: Engine, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "CHUNK", 10)
    job_id = submit_job(sqlite_engine).job_id
    points = {"job_id": job_id, "name": "loss", "epoch": 0, "value": 0.5, "at": 1.0, "fence": 1}
    with write(sqlite_engine) as conn:
        conn.execute(metrics.insert(), [points | {"step": step, "seq": step} for step in range(35)])
    moved = {one.table: one.rows for one in go(str(sqlite_engine.url), postgres_url)}
    assert (moved["jobs"], moved["metrics"]) == (1, 35)


def test_a_second_time_is_refused_and_changes_nothing(there: str, postgres_url: str) -> None:
    go(there, postgres_url)
    engine = make_engine(postgres_url)
    with write(engine) as conn:
        conn.execute(api_keys.update().values(name="changed here"))
    before = everything(engine)
    with pytest.raises(ConfigurationError, match=r"not empty .*--replace"):
        go(there, postgres_url)
    assert everything(engine) == before
    go(there, postgres_url, replace=True)
    assert everything(engine) == everything(make_engine(there))
    engine.dispose()


def test_the_same_database_is_refused(there: str) -> None:
    with pytest.raises(ConfigurationError, match="nothing to copy"):
        go(there, there)


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path, sqlite_url: str) -> None:
    with pytest.raises(ConfigurationError, match="there is no file"):
        go(transfer.url_of(str(tmp_path / "oops.db")), sqlite_url)
    assert not (tmp_path / "oops.db").exists()


def test_an_old_schema_is_to_be_migrated_first(tmp_path: Path, sqlite_url: str) -> None:
    old = f"sqlite:///{tmp_path / 'old.db'}"
    upgrade(old, "0004")
    with pytest.raises(ConfigurationError, match="nightshift migrate"):
        go(old, sqlite_url)


def test_an_installation_at_work_is_refused(sqlite_engine: Engine, tmp_path: Path) -> None:
    here, target = str(sqlite_engine.url), f"sqlite:///{tmp_path / 'target.db'}"
    with write(sqlite_engine) as conn:
        register(conn, WorkerInfo("gpu0@host", "host", 1, "gpu", "a device"))
    with pytest.raises(ConfigurationError, match=r"in use \(gpu0@host\).*--while-running"):
        go(here, target)
    with write(sqlite_engine) as conn:
        conn.execute(workers.update().values(state="offline"))
    lease = running_job(sqlite_engine)
    with pytest.raises(ConfigurationError, match=f"in use .job {lease.job_id}"):
        go(here, target)
    assert {one.table: one.rows for one in go(here, target, while_running=True)}["jobs"] == 1


def test_a_job_goes_on_in_the_new_database(sqlite_engine: Engine, postgres_url: str) -> None:
    job_id = submit_job(sqlite_engine).job_id
    go(str(sqlite_engine.url), postgres_url)
    engine = make_engine(postgres_url)
    assert claim_job(engine).lease.job_id == job_id
    engine.dispose()


def test_what_does_not_fit_leaves_the_target_empty(there: str, postgres_url: str) -> None:
    """SQLite keeps text longer than its column; PostgreSQL does not."""
    raw = create_engine(there)
    with raw.begin() as conn:
        conn.execute(text("UPDATE webhooks SET url = :long"), {"long": "x" * 3_000})
    raw.dispose()
    with pytest.raises(ConfigurationError, match="table webhooks"):
        go(there, postgres_url)
    engine = make_engine(postgres_url)
    assert not any(everything(engine).values())
    engine.dispose()


def test_what_arrives_otherwise_is_noticed(there: str, tmp_path: Path) -> None:
    target = f"sqlite:///{tmp_path / 'target.db'}"
    upgrade(target)
    with write(make_engine(target)) as conn:
        conn.execute(
            text("CREATE TRIGGER meddle AFTER INSERT ON datasets BEGIN UPDATE datasets SET kind = 'other'; END")
        )
    with pytest.raises(ConfigurationError, match="table datasets: 7 rows were copied, but the"):
        go(there, target)
    assert not any(everything(make_engine(target)).values())


def test_the_command_says_what_it_moved_and_why_it_does_not(there: str, tmp_path: Path) -> None:
    def nightshift_migrate(*arguments: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "NIGHTSHIFT_DATABASE_URL": f"sqlite:///{tmp_path / 'target.db'}"}
        argv = [sys.executable, "-m", "nightshift.cli.app", "migrate", *arguments]
        return subprocess.run(argv, env=env, capture_output=True, text=True, check=False)

    moved = nightshift_migrate("--from", str(tmp_path))  # its folder: nightshift.db lies there
    assert moved.returncode == 0, moved.stderr
    assert f"{ROWS}  job_events" in moved.stdout
    again = nightshift_migrate("--from", there)
    assert again.returncode == 1
    assert "not empty" in again.stderr
