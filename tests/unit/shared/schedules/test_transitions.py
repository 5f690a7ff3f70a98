"""Schedules: one tick makes exactly one job, whatever dies, races or jumps; missed ticks follow the stated policy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select, text

from nightshift.errors import Conflict, InvalidRequest, NotFound
from shared import failpoints
from shared.clock import sqlite_clock
from shared.db.engine import make_engine, read, write
from shared.db.schema import jobs, schedule_ticks, schedules
from shared.jobs import queries as job_queries
from shared.jobs import transitions as job_transitions
from shared.jobs.states import StopRequest
from shared.schedules import cron, queries, transitions
from shared.schedules.models import CatchUp
from shared.schedules.policy import ON_TIME_SECONDS, Policy, decide
from shared.settings import Settings
from shared.specs.schedules import SchedulePatch, ScheduleSpec
from tests.support.factories import OWNER, make_spec
from tests.support.paths import ROOT
from tests.support.stack import eventually
from worker.maintenance import remover, scheduler

HOUSE = Settings()
DAY = 86_400.0
#: Once a year: nothing becomes due by itself while a test runs.
RARELY = "0 0 1 1 *"


def make_schedule(engine: Engine, **fields: Any) -> str:
    job = make_spec().model_dump(mode="json") | fields.pop("job", {})
    body = {"name": "nightly", "cron": "0 2 * * *", "overlap": "cancel_running", "job": job, **fields}
    with write(engine) as conn:
        return transitions.create(conn, OWNER, ScheduleSpec.model_validate(body))


def let_be_due(engine: Engine, schedule_id: str, seconds_ago: float, n: int = 1) -> float:
    """Set the schedule back to the last tick that was due `seconds_ago` or earlier, and return that tick."""
    with write(engine) as conn:
        row = conn.execute(select(schedules).where(schedules.c.id == schedule_id)).one()
        now = conn.scalar(text("SELECT nightshift_now()" if conn.dialect.name == "sqlite" else _POSTGRES_NOW))
        checked = cron.parse(row.cron, row.timezone)
        start, window = now - seconds_ago, 60.0
        while len(earlier := [t for t in checked.preview(start - window, 10_000) if t <= start]) < n:
            window *= 4
        conn.execute(schedules.update().where(schedules.c.id == schedule_id).values(next_at=earlier[-n]))
    return float(earlier[-n])


_POSTGRES_NOW = "SELECT EXTRACT(EPOCH FROM clock_timestamp())::float8"


def ticks_of(engine: Engine, schedule_id: str) -> list[Any]:
    with read(engine) as conn:
        statement = select(schedule_ticks).where(schedule_ticks.c.schedule_id == schedule_id)
        return list(conn.execute(statement.order_by(schedule_ticks.c.due_at)))


def outcomes(engine: Engine, schedule_id: str) -> list[str]:
    return [tick.outcome for tick in ticks_of(engine, schedule_id)]


def count_jobs(engine: Engine) -> int:
    with read(engine) as conn:
        return len(conn.execute(select(jobs.c.id)).all())


# -- one tick, one job ----------------------------------------------------------------------------


def test_a_tick_that_is_due_makes_its_job_with_the_template_filled_in(engine: Engine) -> None:
    template = {"name": "digits {date}", "tags": {"tick": "{tick}", "team": "vision"}}
    schedule_id = make_schedule(engine, cron=RARELY, timezone="Asia/Tokyo", job=template)
    due_at = let_be_due(engine, schedule_id, 0)
    counts = scheduler.run_once(engine, HOUSE)
    assert {name: count for name, count in counts.items() if count} == {"submitted": 1}
    (tick,) = ticks_of(engine, schedule_id)
    with read(engine) as conn:
        job = job_queries.job_view(job_queries.get_job(conn, tick.job_id, OWNER))
        shown = queries.schedule_view(queries.get_schedule(conn, schedule_id, OWNER))
    local = datetime.fromtimestamp(due_at, UTC) + timedelta(hours=9)
    assert job["name"] == job["spec"]["name"] == f"digits {local:%Y-%m-%d}"
    assert job["tags"] == {"tick": f"{datetime.fromtimestamp(due_at, UTC):%Y%m%dT%H%M%SZ}", "team": "vision"}
    assert (tick.due_at, tick.manual, shown["last_tick"]["job_id"]) == (due_at, False, job["id"])
    assert shown["next_at"] > shown["last_tick"]["due_at"]
    assert not any(scheduler.run_once(engine, HOUSE).values())


def test_schedulers_that_race_on_one_tick_make_one_job(engine: Engine, database_url: str) -> None:
    ids = [make_schedule(engine, name=f"s{number}", cron=RARELY) for number in range(4)]
    for schedule_id in ids:
        let_be_due(engine, schedule_id, 0)
    engines = [make_engine(database_url) for _ in range(3)]  # as three processes have
    start, counts = threading.Barrier(3), Counter[str]()

    def race(own: Engine) -> None:
        start.wait()
        counts.update(scheduler.run_once(own, HOUSE))

    threads = [threading.Thread(target=race, args=(own,)) for own in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for own in engines:
        own.dispose()
    scheduler.run_once(engine, HOUSE)
    assert [outcomes(engine, schedule_id) for schedule_id in ids] == [["submitted"]] * 4
    assert counts["submitted"] == count_jobs(engine) == 4


def test_a_tick_that_was_decided_is_not_decided_again(engine: Engine) -> None:
    """Even when the schedule forgets that it was: the constraint remembers."""
    schedule_id = make_schedule(engine, cron=RARELY)
    due_at = let_be_due(engine, schedule_id, 0)
    scheduler.run_once(engine, HOUSE)
    with write(engine) as conn:
        conn.execute(schedules.update().values(next_at=due_at))
    scheduler.run_once(engine, HOUSE)
    assert outcomes(engine, schedule_id).count("submitted") == count_jobs(engine)
    assert [tick.due_at for tick in ticks_of(engine, schedule_id)].count(due_at) == 1


def test_a_scheduler_that_dies_after_the_tick_leaves_neither_tick_nor_job(sqlite_engine: Engine) -> None:
    schedule_id = make_schedule(sqlite_engine, cron=RARELY)
    let_be_due(sqlite_engine, schedule_id, 0)
    failpoints.arm("tick.inserted:raise")
    try:
        scheduler.run_once(sqlite_engine, HOUSE)
    finally:
        failpoints.arm("")
    assert (outcomes(sqlite_engine, schedule_id), count_jobs(sqlite_engine)) == ([], 0)
    scheduler.run_once(sqlite_engine, HOUSE)
    assert (outcomes(sqlite_engine, schedule_id), count_jobs(sqlite_engine)) == (["submitted"], 1)


def test_kill_9_between_tick_and_job(engine: Engine, database_url: str) -> None:
    schedule_id = make_schedule(engine, cron=RARELY)
    let_be_due(engine, schedule_id, 0)
    code = (
        "import sys; from shared.db.engine import make_engine; from shared.settings import Settings;"
        "from worker.maintenance import scheduler; scheduler.run_once(make_engine(sys.argv[1]), Settings())"
    )
    root = str(ROOT)
    environment = {**os.environ, "NIGHTSHIFT_FAILPOINT": "tick.inserted:kill", "PYTHONPATH": root}
    killed = subprocess.run([sys.executable, "-c", code, database_url], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    # Postgres takes a moment to notice that the client is gone.
    eventually("the tick has its job", lambda: scheduler.run_once(engine, HOUSE)["submitted"])
    assert (outcomes(engine, schedule_id), count_jobs(engine)) == (["submitted"], 1)


def test_a_job_that_cannot_be_made_fails_its_tick_and_delays_no_other_schedule(engine: Engine) -> None:
    broken = make_schedule(engine, name="broken", cron=RARELY, job={"after": ["0" * 16]})
    sound = make_schedule(engine, name="sound", cron=RARELY)
    for schedule_id in (broken, sound):
        let_be_due(engine, schedule_id, 0)
    scheduler.run_once(engine, HOUSE)
    (tick,) = ticks_of(engine, broken)
    assert tick.outcome == "failed"
    assert "no job" in tick.reason
    assert outcomes(engine, sound) == ["submitted"]


# -- clocks that jump -----------------------------------------------------------------------------


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "UTC"]),
    expression=st.sampled_from(["0 * * * *", "*/20 2 * * *", "30 1-3 * * *", "15 */2 * * *"]),
    day=st.sampled_from([60, 72, 86, 92, 118, 275, 303, 310]),
    steps=st.lists(st.integers(-3600, 3 * 3600), min_size=6, max_size=12),
)
def test_every_due_tick_makes_one_job_while_the_clock_jumps(
    sqlite_engine: Engine, zone: str, expression: str, day: int, steps: list[int]
) -> None:
    """The clock goes forward and back by up to an hour; at the end every tick up to its highest stand has one job."""
    first = datetime(2027, 1, 1, tzinfo=UTC).timestamp() + day * DAY
    _set_clock(first)
    schedule_id = make_schedule(sqlite_engine, cron=expression, timezone=zone, catch_up="all", catch_up_limit=1000)
    now = highest = first
    try:
        for step in [*steps, 26 * 3600]:
            now += step
            highest = max(highest, now)
            _set_clock(now)
            scheduler.run_once(sqlite_engine, HOUSE)
        ticks = ticks_of(sqlite_engine, schedule_id)
        expected = [tick for tick in cron.parse(expression, zone).preview(first, 200) if tick <= highest]
        assert [tick.due_at for tick in ticks] == expected
        assert len({tick.job_id for tick in ticks} - {None}) == len(expected)
    finally:
        sqlite_clock.offset = 0.0
        with write(sqlite_engine) as conn:
            transitions.delete_schedule(conn, schedule_id, OWNER)


def _set_clock(moment: float) -> None:
    sqlite_clock.offset = moment - time.time()


# -- thirty days of outage ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "submitted"),
    [
        ({"catch_up": "none"}, 0),
        ({"catch_up": "latest"}, 1),
        ({"catch_up": "latest", "max_lateness_seconds": 1.0}, 0),
        ({"catch_up": "all", "catch_up_limit": 1000}, 30),
        ({"catch_up": "all", "catch_up_limit": 7}, 7),
        ({"catch_up": "all", "catch_up_limit": 1000, "max_lateness_seconds": 5 * DAY}, 5),
    ],
)
def test_thirty_days_of_outage(sqlite_engine: Engine, policy: dict[str, Any], submitted: int) -> None:
    start = datetime(2027, 3, 1, 12, tzinfo=UTC).timestamp()
    _set_clock(start)
    schedule_id = make_schedule(sqlite_engine, **policy)
    _set_clock(start + 30 * DAY)
    counts = scheduler.run_once(sqlite_engine, HOUSE)
    ticks = ticks_of(sqlite_engine, schedule_id)
    assert (counts["submitted"], counts["missed"]) == (submitted, 30 - submitted)
    assert [tick.outcome for tick in ticks] == ["missed"] * (30 - submitted) + ["submitted"] * submitted
    assert all(tick.reason for tick in ticks if tick.outcome == "missed")
    assert count_jobs(sqlite_engine) == submitted
    _set_clock(start + 30 * DAY + 14 * 3600 + 1)
    assert scheduler.run_once(sqlite_engine, HOUSE)["submitted"] == 1


def test_an_outage_of_a_schedule_by_the_minute_is_summed_up(sqlite_engine: Engine) -> None:
    start = datetime(2027, 3, 1, tzinfo=UTC).timestamp()
    _set_clock(start)
    schedule_id = make_schedule(sqlite_engine, cron="* * * * *", catch_up="none")
    _set_clock(start + 2 * DAY + 2)
    counts = scheduler.run_once(sqlite_engine, HOUSE)
    ticks = ticks_of(sqlite_engine, schedule_id)
    assert counts["submitted"] + counts["missed"] == 2 * 1440
    assert len(ticks) == transitions.MAX_MISSED_ROWS + 1 + counts["submitted"]
    assert f"and {2 * 1440 - transitions.MAX_MISSED_ROWS - 2} more" in ticks[0].reason


TICKS = st.lists(st.integers(0, 100_000), unique=True, max_size=30).map(sorted)


@given(TICKS, st.integers(0, 5000), st.sampled_from(CatchUp), st.integers(1, 10), st.none() | st.integers(1, 100_000))
def test_decisions(due: list[float], later: int, catch_up: CatchUp, limit: int, lateness: float | None) -> None:
    now = (due[-1] if due else 0) + later
    verdicts = decide(due, now, Policy(catch_up, limit, lateness))
    assert [verdict.due_at for verdict in verdicts] == due
    run = [verdict.due_at for verdict in verdicts if verdict.missed is None]
    on_time = [tick for tick in due if now - tick <= ON_TIME_SECONDS]
    late = [tick for tick in run if tick not in on_time]
    assert [tick for tick in run if tick in on_time] == on_time
    assert all(lateness is None or now - tick <= lateness for tick in late)
    assert len(late) <= {CatchUp.NONE: 0, CatchUp.LATEST: 0 if on_time else 1, CatchUp.ALL: limit}[catch_up]
    if late:
        assert due[-len(run) :] == run  # always the newest
    elif due and not on_time and lateness is None:
        assert catch_up is CatchUp.NONE


# -- overlap --------------------------------------------------------------------------------------


def next_tick(engine: Engine, schedule_id: str) -> dict[str, int]:
    """Let the next tick of a schedule by the minute come (on SQLite's clock), on time."""
    sqlite_clock.offset += 60
    return scheduler.run_once(engine, HOUSE)


@pytest.fixture
def by_the_minute(sqlite_engine: Engine) -> Engine:
    _set_clock(datetime(2027, 6, 1, 12, 0, 2, tzinfo=UTC).timestamp())
    return sqlite_engine


def state_of(engine: Engine, job_id: str) -> str:
    with read(engine) as conn:
        return str(job_queries.get_job(conn, job_id, OWNER)["state"])


def end_job(engine: Engine, job_id: str) -> None:
    with write(engine) as conn:
        job_transitions.request_stop(conn, job_id, StopRequest.CANCEL, OWNER)


def test_overlap_skip(by_the_minute: Engine) -> None:
    schedule_id = make_schedule(by_the_minute, cron="* * * * *", overlap="skip")
    next_tick(by_the_minute, schedule_id)
    next_tick(by_the_minute, schedule_id)
    first, second = ticks_of(by_the_minute, schedule_id)
    assert (first.outcome, second.outcome) == ("submitted", "skipped")
    assert first.job_id in second.reason
    end_job(by_the_minute, first.job_id)
    next_tick(by_the_minute, schedule_id)
    assert outcomes(by_the_minute, schedule_id) == ["submitted", "skipped", "submitted"]


def test_overlap_queue_makes_one_job_after_the_other(by_the_minute: Engine) -> None:
    schedule_id = make_schedule(by_the_minute, cron="* * * * *", overlap="queue")
    for _ in range(3):
        next_tick(by_the_minute, schedule_id)
    assert outcomes(by_the_minute, schedule_id) == ["submitted", "waiting", "waiting"]
    for done in range(1, 3):
        end_job(by_the_minute, ticks_of(by_the_minute, schedule_id)[done - 1].job_id)
        scheduler.run_once(by_the_minute, HOUSE)
        assert outcomes(by_the_minute, schedule_id) == ["submitted"] * (done + 1) + ["waiting"] * (2 - done)
    assert count_jobs(by_the_minute) == 3


def test_overlap_queue_has_an_end(by_the_minute: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transitions, "MAX_WAITING", 2)
    schedule_id = make_schedule(by_the_minute, cron="* * * * *", overlap="queue")
    for _ in range(4):
        next_tick(by_the_minute, schedule_id)
    assert outcomes(by_the_minute, schedule_id) == ["submitted", "waiting", "waiting", "skipped"]


def test_overlap_cancel_running(by_the_minute: Engine) -> None:
    schedule_id = make_schedule(by_the_minute, cron="* * * * *", overlap="cancel_running")
    next_tick(by_the_minute, schedule_id)
    next_tick(by_the_minute, schedule_id)
    first, second = ticks_of(by_the_minute, schedule_id)
    assert (state_of(by_the_minute, first.job_id), state_of(by_the_minute, second.job_id)) == ("cancelled", "queued")


# -- by hand --------------------------------------------------------------------------------------


def test_run_now_makes_a_job_also_of_a_paused_schedule(engine: Engine) -> None:
    schedule_id = make_schedule(engine, enabled=False, overlap="skip")
    for _ in range(2):
        with write(engine) as conn:
            job_id = transitions.run_now(conn, schedule_id, OWNER)
        assert state_of(engine, job_id) == "queued"
    assert [(tick.outcome, tick.manual) for tick in ticks_of(engine, schedule_id)] == [("submitted", True)] * 2
    with pytest.raises(NotFound), write(engine) as conn:
        transitions.run_now(conn, schedule_id, "somebody-else")


def test_a_pause_is_not_made_up_for(engine: Engine) -> None:
    schedule_id = make_schedule(engine, cron=RARELY, catch_up="all")
    let_be_due(engine, schedule_id, 0)
    for enabled in (False, True):
        with write(engine) as conn:
            transitions.change(conn, schedule_id, OWNER, SchedulePatch(enabled=enabled).changes())
        with read(engine) as conn:
            next_at = conn.scalar(select(schedules.c.next_at))
        assert (next_at is not None) is enabled
    assert not any(scheduler.run_once(engine, HOUSE).values())


def test_changes_take_effect_at_once_and_only_those_that_were_given(engine: Engine) -> None:
    schedule_id = make_schedule(engine, max_lateness_seconds=60.0)
    changes = SchedulePatch(cron="30  4 * * *", timezone="Asia/Kolkata", max_lateness_seconds=None).changes()
    with write(engine) as conn:
        transitions.change(conn, schedule_id, OWNER, changes)
        shown = queries.schedule_view(queries.get_schedule(conn, schedule_id, OWNER))
    assert shown["next_at_local"].endswith("T04:30:00+05:30")
    assert (shown["cron"], shown["max_lateness_seconds"], shown["catch_up"]) == ("30 4 * * *", None, "latest")


def test_names_are_unique_per_owner(engine: Engine) -> None:
    make_schedule(engine)
    other = make_schedule(engine, name="other")
    with pytest.raises(Conflict, match="nightly"):
        make_schedule(engine)
    with pytest.raises(Conflict, match="nightly"), write(engine) as conn:
        transitions.change(conn, other, OWNER, {"name": "nightly"})
    with write(engine) as conn:
        body = {"name": "nightly", "cron": "0 2 * * *", "job": make_spec().model_dump(mode="json")}
        transitions.create(conn, "somebody-else", ScheduleSpec.model_validate(body))


def test_a_deleted_schedule_takes_its_history_along_and_leaves_its_jobs(engine: Engine) -> None:
    schedule_id = make_schedule(engine)
    with write(engine) as conn:
        job_id = transitions.run_now(conn, schedule_id, OWNER)
        transitions.delete_schedule(conn, schedule_id, OWNER)
    remover.run_once(engine, HOUSE)
    assert ticks_of(engine, schedule_id) == []
    assert state_of(engine, job_id) == "queued"


def test_templates_know_two_fields(engine: Engine) -> None:
    schedule_id = make_schedule(engine, job={"name": "{what}"})
    with pytest.raises(InvalidRequest, match=r"\{date\} and \{tick\}"), write(engine) as conn:
        transitions.run_now(conn, schedule_id, OWNER)
    assert ticks_of(engine, schedule_id) == []
