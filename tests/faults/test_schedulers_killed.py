"""Three maintenance processes are killed again and again while each one's clock jumps: every tick still makes one job.

Six zones, through both changes of their clocks in 2027. All zones, in one process, are in
`tests/unit/shared/schedules/test_policy_in_every_zone.py`.
"""

from __future__ import annotations

import random
import signal
import time
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, select

from shared import failpoints
from shared.clock import sqlite_clock
from shared.db.engine import make_engine, read, write
from shared.db.schema import jobs, schedule_ticks, schedules
from shared.schedules import cron, transitions
from shared.settings import Settings
from shared.specs.schedules import ScheduleSpec
from tests.support import warm
from tests.support.clocks import brute_force, changes, minutes
from tests.support.factories import OWNER, make_spec
from tests.unit.shared.schedules.test_policy_in_every_zone import SIX, inside
from worker.maintenance import scheduler

#: Hours before and after a change.
AROUND = 9
KILLS = 4


def walk(url: str, seed: int, windows: list[tuple[float, float]], failpoint: str) -> None:
    """Through each of the windows, forward and back by up to an hour (SQLite's clock is the process's own)."""
    failpoints.arm(failpoint)
    steps, engine = random.Random(seed), make_engine(url)
    for start, end in windows:
        now = start
        while now < end:
            now = min(end, now + steps.uniform(-3600, 3 * 3600))
            sqlite_clock.offset = now - time.time()
            scheduler.run_once(engine, Settings())


def windows() -> list[tuple[float, float]]:
    """One for each change of the six, in order; those that overlap are one."""
    around, found = timedelta(hours=AROUND).total_seconds(), list[tuple[float, float]]()
    for moment in sorted({change.at.timestamp() for zone in SIX for change in changes(zone)}):
        start, end = moment - around, moment + around
        if found and start <= found[-1][1]:
            start = found.pop()[0]
        found.append((start, end))
    return found


def expressions() -> list[tuple[str, str]]:
    """(expression, zone), two for each change: some minutes of the hour that is jumped over or repeated, and every
    hour."""
    found = []
    for zone in SIX:
        for change in changes(zone):
            at = inside(change)
            date = f"{change.wall.day} {change.wall.month} *"
            found += [(f"*/20 {at.hour} {date}", zone), (f"{at.minute} * {date}", zone)]
    return found


def start_process(url: str, seed: int, kill_at: int | None) -> warm.Process:
    failpoint = "" if kill_at is None else f"tick.inserted:kill@{kill_at}"
    process = warm.Process("stack", target=walk, args=(url, seed, windows(), failpoint))
    process.start()
    return process


@pytest.mark.slow
def test_every_tick_makes_one_job(sqlite_engine: Engine, sqlite_url: str) -> None:
    seed = 20271
    chance = random.Random(seed)
    start = windows()[0][0]
    ids = [_schedule(sqlite_engine, f"s{number}", *pair, start) for number, pair in enumerate(expressions())]
    kills = 0
    running = [start_process(sqlite_url, seed + n, chance.randint(1, 20)) for n in range(3)]
    while running:
        process = running.pop(0)
        process.join()
        code = process.exitcode
        assert code in (0, -signal.SIGKILL)
        if code:
            kills += 1
            kill_at = chance.randint(1, 20) if kills < KILLS else None
            running.append(start_process(sqlite_url, seed + 10 * kills, kill_at))
    assert kills >= 3, f"seed {seed}"
    for schedule_id, (expression, zone) in zip(ids, expressions(), strict=True):
        with read(sqlite_engine) as conn:
            mine = schedule_ticks.c.schedule_id == schedule_id
            found = conn.execute(select(schedule_ticks).where(mine).order_by(schedule_ticks.c.due_at)).all()
        assert [tick.due_at for tick in found] == due(expression, zone), f"{expression} in {zone}, seed {seed}"
        assert {tick.outcome for tick in found} <= {"submitted"}
    with read(sqlite_engine) as conn:
        made = set(conn.scalars(select(jobs.c.id)))
        ticked = list(conn.scalars(select(schedule_ticks.c.job_id)))
    assert len(ticked) == len(set(ticked)) > 100
    assert made == set(ticked)  # no job without its tick either


def due(expression: str, zone: str) -> list[float]:
    """All of 2027, by brute force around the changes, until the end of the last window."""
    found: set[float] = set()
    for change in changes(zone):
        start = change.at - timedelta(hours=36)
        found |= set(brute_force(expression, minutes(ZoneInfo(zone), start, 3)))
    return sorted(tick for tick in found if tick <= windows()[-1][1])


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
