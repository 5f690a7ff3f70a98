"""What has many rows is deleted at once for everybody who looks, and in short transactions for everybody who writes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, func, insert, select

from nightshift.errors import NotFound
from shared import failpoints
from shared.clock import db_now
from shared.db import removals
from shared.db.engine import read, write
from shared.db.removals import LEFT, Kind
from shared.db.schema import metadata, schedule_ticks, webhook_deliveries
from shared.failpoints import FailpointError
from shared.jobs import queries, transitions
from shared.jobs.transitions import LogRow, MetricRow
from shared.schedules import queries as schedule_queries
from shared.schedules import transitions as schedules
from shared.settings import Settings
from shared.specs.schedules import ScheduleSpec
from shared.specs.webhooks import WebhookSpec
from shared.webhooks import deliveries, subscriptions
from tests.support.factories import OWNER, make_spec, running_job
from worker.maintenance import remover, service
from worker.maintenance.remover import BATCHES

SETTINGS = Settings()
BATCH = 10
#: Rows of each long table; more than a few batches.
POINTS, LINES = 35, 12


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(removals, "BATCH", BATCH)
    monkeypatch.setattr(remover, "sleep", lambda seconds: None)
    yield
    failpoints.arm("")


def long_job(engine: Engine) -> str:
    """A job that succeeded, with more rows than a batch."""
    lease = running_job(engine)
    points = [MetricRow("loss", step, 0, 0.5) for step in range(POINTS)]
    with write(engine) as conn:
        transitions.record(conn, lease, metrics=points, logs=[LogRow("info", f"line {n}") for n in range(LINES)])
    with write(engine) as conn:
        transitions.succeed(conn, lease, result={"metrics": {}}, artifacts=[])
    return lease.job_id


def delete(engine: Engine, job_id: str) -> None:
    with write(engine) as conn:
        transitions.delete_job(conn, job_id, OWNER)


def rows_left(engine: Engine, kind: Kind, removed_id: str) -> int:
    with read(engine) as conn:
        counts = [select(func.count()).where(table.c[column] == removed_id) for table, column in LEFT[kind]]
        return sum(conn.scalar(count) or 0 for count in counts)


def clear_all(engine: Engine) -> None:
    while remover.run_once(engine, SETTINGS)["rows"]:
        pass
    with read(engine) as conn:
        assert removals.pending(conn, 1) == []


def test_no_table_that_may_be_long_hangs_on_a_row_that_is_deleted() -> None:
    """And whatever does is meant to be short."""
    cascading = {
        table.name for table in metadata.tables.values() for key in table.foreign_keys if key.ondelete == "CASCADE"
    }
    assert cascading == {
        "job_dependencies",
        "attempts",
        "deleted_attempts",
        "curve_summaries",
        "checkpoints",
        "artifacts",
        "dataset_versions",
        "sweep_trials",  # a thousand at most
        "sweep_events",  # a few for each trial
    }


def test_a_deleted_job_goes_in_short_transactions(sqlite_engine: Engine) -> None:
    """Counted by the driver, so with what foreign keys delete."""
    changed: list[int] = []
    begun: dict[int, int] = {}

    def note_begin(conn: Connection) -> None:
        begun[id(conn.connection.dbapi_connection)] = conn.connection.dbapi_connection.total_changes  # type: ignore[union-attr]

    def note_commit(conn: Connection) -> None:
        driver: Any = conn.connection.dbapi_connection
        changed.append(driver.total_changes - begun[id(driver)])

    job_id = long_job(sqlite_engine)
    event.listen(sqlite_engine, "begin", note_begin)
    event.listen(sqlite_engine, "commit", note_commit)
    delete(sqlite_engine, job_id)
    clear_all(sqlite_engine)
    assert rows_left(sqlite_engine, Kind.JOB, job_id) == 0
    assert sum(changed) > POINTS + LINES
    own, *batches = changed
    assert max(batches) == BATCH
    assert own < 2 * BATCH, "the job's own row, what foreign keys delete, and the counters"


def test_a_deleted_job_is_gone_at_once(engine: Engine) -> None:
    job_id, other = long_job(engine), long_job(engine)
    delete(engine, job_id)
    assert rows_left(engine, Kind.JOB, job_id) > BATCH
    with read(engine) as conn, pytest.raises(NotFound):
        queries.get_job(conn, job_id, None)
    before = rows_left(engine, Kind.JOB, other)
    clear_all(engine)
    assert rows_left(engine, Kind.JOB, job_id) == 0
    assert rows_left(engine, Kind.JOB, other) == before


@pytest.mark.parametrize("point", ["removal.before_commit", "removal.batch_deleted"])
def test_a_removal_that_fails_between_batches_is_continued(engine: Engine, point: str) -> None:
    job_id = long_job(engine)
    delete(engine, job_id)
    failpoints.arm(f"{point}:raise@2")
    with pytest.raises(FailpointError):
        remover.run_once(engine, SETTINGS)
    assert 0 < rows_left(engine, Kind.JOB, job_id) < POINTS + LINES
    with read(engine) as conn, pytest.raises(NotFound):
        queries.get_job(conn, job_id, None)
    failpoints.arm("")
    clear_all(engine)
    assert rows_left(engine, Kind.JOB, job_id) == 0


def test_others_write_between_two_batches(sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = long_job(sqlite_engine)
    delete(sqlite_engine, job_id)
    written: list[int] = []

    def write_meanwhile(seconds: float) -> None:
        other = sqlite3.connect(str(sqlite_engine.url.database), timeout=0, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        other.close()
        written.append(rows_left(sqlite_engine, Kind.JOB, job_id))

    monkeypatch.setattr(remover, "sleep", write_meanwhile)
    remover.run_once(sqlite_engine, SETTINGS)
    assert sum(count > 0 for count in written) >= 3, "while there was more to delete"


def test_one_pass_ends_however_much_there_is(sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removals, "BATCH", 1)
    delete(sqlite_engine, long_job(sqlite_engine))
    assert remover.run_once(sqlite_engine, SETTINGS) == {"rows": BATCHES}


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)  # SQLite has one writer anyway
def test_what_another_process_is_at_is_left_to_it(engine: Engine) -> None:
    job_id = long_job(engine)
    delete(engine, job_id)
    with write(engine) as first:
        assert removals.clear(first, Kind.JOB, job_id, BATCH) == BATCH
        with write(engine) as second:
            assert removals.clear(second, Kind.JOB, job_id, BATCH) == 0
    clear_all(engine)
    assert rows_left(engine, Kind.JOB, job_id) == 0


def test_ticks_of_a_deleted_schedule_follow_it(engine: Engine) -> None:
    job = make_spec().model_dump(mode="json")
    with write(engine) as conn:
        spec = ScheduleSpec.model_validate({"name": "nightly", "cron": "0 3 * * *", "timezone": "UTC", "job": job})
        schedule = schedules.create(conn, OWNER, spec)
        common = {"schedule_id": schedule, "manual": False, "decided_at": 0.0}
        outcomes = ["waiting", "missed"] * BATCH
        conn.execute(insert(schedule_ticks), [common | {"due_at": n, "outcome": o} for n, o in enumerate(outcomes)])
    with write(engine) as conn:
        schedules.delete_schedule(conn, schedule, OWNER)
    with read(engine) as conn:
        assert schedule_queries.waiting_ids(conn) == []
    clear_all(engine)
    assert rows_left(engine, Kind.SCHEDULE, schedule) == 0


def test_deliveries_of_a_deleted_webhook_follow_it_and_are_not_sent(engine: Engine) -> None:
    with write(engine) as conn:
        spec = WebhookSpec.model_validate({"name": "chat", "url": "https://example.com/hook"})
        webhook = subscriptions.create(conn, OWNER, spec, allow_private=True)[0]
        row = {"webhook_id": webhook, "event_type": "job.failed", "body": "{}", "next_at": 0.0, "created_at": db_now()}
        for number in range(2 * BATCH):
            conn.execute(insert(webhook_deliveries).values(id=f"{number:016x}", event_id=str(number), **row))
    with read(engine) as conn:
        assert deliveries.count_due(conn, 100) == 2 * BATCH
    with write(engine) as conn:
        subscriptions.remove(conn, webhook, OWNER)
    with write(engine) as conn:
        assert deliveries.count_due(conn, 100) == 0
        assert deliveries.claim(conn) is None
    clear_all(engine)
    assert rows_left(engine, Kind.WEBHOOK, webhook) == 0


def test_maintenance_removes(sqlite_engine: Engine) -> None:
    from worker.maintenance import SERVICES

    job_id = long_job(sqlite_engine)
    delete(sqlite_engine, job_id)
    (mine,) = [one for one in SERVICES if one.name == "remover"]
    assert service.Service(mine.name, mine.run_once).run(sqlite_engine, SETTINGS)
    assert rows_left(sqlite_engine, Kind.JOB, job_id) == 0
