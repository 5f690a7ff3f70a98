"""Three maintenance processes are killed again and again while each one's clock jumps: every tick still makes one job."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from shared.db.engine import read, write
from shared.db.schema import jobs, schedule_ticks, schedules
from shared.schedules import cron, transitions
from shared.specs.schedules import ScheduleSpec
from tests.support.factories import OWNER, make_spec

ROOT = str(Path(__file__).parents[2])
#: Both changes of the clocks of 2027 in Berlin, a day around each.
WINDOWS = {"spring": datetime(2027, 3, 27, 12, tzinfo=UTC), "autumn": datetime(2027, 10, 30, 12, tzinfo=UTC)}
HOURS = 30
#: Walks its clock from start to end, forward and back by up to an hour (SQLite's clock is the process's own).
PROCESS = """
import random, sys, time
from shared.clock import sqlite_clock
from shared.db.engine import make_engine
from shared.settings import Settings
from worker.maintenance import scheduler
url, seed, start, end = sys.argv[1], *map(float, sys.argv[2:])
walk, now, engine = random.Random(seed), start, make_engine(url)
while now < end:
    now = min(end, now + walk.uniform(-3600, 2 * 3600))
    sqlite_clock.offset = now - time.time()
    scheduler.run_once(engine, Settings())
"""
#: (expression, in which zone); together they tick in gaps, in folds and between.
SCHEDULES = [("*/20 2 * * *", "Europe/Berlin"), ("30 * * * *", "Europe/Berlin"), ("0 */3 * * *", "UTC")]


def start_process(url: str, seed: int, start: float, kill_at: int | None) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": ROOT}
    if kill_at is not None:
        environment["NIGHTSHIFT_FAILPOINT"] = f"tick.inserted:kill@{kill_at}"
    numbers = [str(seed), str(start), str(start + HOURS * 3600)]
    return subprocess.Popen([sys.executable, "-c", PROCESS, url, *numbers], env=environment)


@pytest.mark.slow
@pytest.mark.parametrize("window", WINDOWS)
def test_every_tick_makes_one_job(sqlite_engine: Engine, sqlite_url: str, window: str) -> None:
    seed = 20271 + len(window)
    chance = random.Random(seed)
    start = WINDOWS[window].timestamp()
    ids = [_schedule(sqlite_engine, f"s{number}", *pair, start) for number, pair in enumerate(SCHEDULES)]
    kills = 0
    running = [start_process(sqlite_url, seed + n, start, chance.randint(1, 4)) for n in range(3)]
    while running:
        process = running.pop(0)
        code = process.wait(timeout=120)
        assert code in (0, -signal.SIGKILL)
        if code:
            kills += 1
            kill_at = chance.randint(1, 6) if kills < 5 else None
            running.append(start_process(sqlite_url, seed + 10 * kills, start, kill_at))
    assert kills >= 3, f"seed {seed}"
    for schedule_id, (expression, zone) in zip(ids, SCHEDULES, strict=True):
        due = [tick for tick in cron.parse(expression, zone).preview(start, 100) if tick <= start + HOURS * 3600]
        with read(sqlite_engine) as conn:
            mine = schedule_ticks.c.schedule_id == schedule_id
            found = conn.execute(select(schedule_ticks).where(mine).order_by(schedule_ticks.c.due_at)).all()
        assert [tick.due_at for tick in found] == due, f"seed {seed}"
        assert {tick.outcome for tick in found} == {"submitted"}
    with read(sqlite_engine) as conn:
        made = set(conn.scalars(select(jobs.c.id)))
        ticked = list(conn.scalars(select(schedule_ticks.c.job_id)))
    assert len(ticked) == len(set(ticked))
    assert made == set(ticked)  # no job without its tick either


def _schedule(engine: Engine, name: str, expression: str, zone: str, start: float) -> str:
    """As if it had been made when the clock stood at `start`."""
    body = {
        "name": name, "cron": expression, "timezone": zone, "job": make_spec().model_dump(mode="json"),
        "catch_up": "all", "catch_up_limit": 1000, "overlap": "cancel_running",
    }  # fmt: skip
    with write(engine) as conn:
        schedule_id = transitions.create(conn, OWNER, ScheduleSpec.model_validate(body))
        first = cron.parse(expression, zone).next(start)
        conn.execute(schedules.update().where(schedules.c.id == schedule_id).values(next_at=first))
    return schedule_id
