"""Every zone through every change of its clocks in 2027: one job per due tick, with schedulers that die and clocks that
jump.

In one process, for speed: a scheduler that dies is a failpoint that raises after the tick's row, and the clocks of
three machines are one that jumps by up to an hour between their passes. `tests/faults` has real processes and kill -9.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, func, select

from shared import failpoints
from shared.clock import sqlite_clock
from shared.db.engine import read, write
from shared.db.schema import jobs, schedule_ticks
from shared.events import subscribe
from shared.schedules import cron, transitions
from shared.settings import Settings
from shared.specs.schedules import ScheduleSpec
from tests.support.clocks import Change, Minute, brute_force, changes, minutes, one_of_each
from tests.support.factories import OWNER, make_spec
from worker.maintenance import scheduler

HOUSE = Settings()
SEED = 20272
HOUR, DAY = 3600.0, 86_400.0
JOB = make_spec().model_dump(mode="json")


@dataclass(frozen=True)
class Nightly:
    """A schedule of one zone, and a change of the clocks that its ticks are near to."""

    zone: str
    change: Change
    expression: str


def inside(change: Change) -> datetime:
    """A local time that the change jumps over or repeats."""
    return change.wall + (change.after - change.before) / 2


def expression_of(number: int, change: Change) -> str:
    """In turn: once a night, twice in and after the change, every real hour."""
    at = inside(change)
    if number % 10 == 0:
        return f"{at.minute} * * * *"
    return f"{at.minute} {at.hour} * * *" if number % 2 else f"*/30 {at.hour},{(at.hour + 1) % 24} * * *"


def groups() -> Iterator[list[Nightly]]:
    """All zones that differ, by the day of their changes; those without a change go with some other day."""
    zones = one_of_each(cron.zones())
    found = [(change, zone) for zone in zones for change in changes(zone)]
    moments = sorted({change.at for change, _ in found})
    first = moments[0]
    firsts = [first := moment for moment in moments if moment == moments[0] or moment - first > timedelta(days=1)]
    grouped: dict[datetime, list[Nightly]] = {moment: [] for moment in firsts}
    for number, (change, zone) in enumerate(found):
        day = max(moment for moment in firsts if moment <= change.at)
        grouped[day].append(Nightly(zone, change, expression_of(number, change)))
    others = [zone for zone in zones if not changes(zone)]
    for number, zone in enumerate(others):
        day = firsts[number % len(firsts)]
        change = Change(day, timedelta(), timedelta())
        grouped[day].append(Nightly(zone, change, f"{number % 60} {(3 + number) % 24} * * *"))
    yield from grouped.values()


@cache
def looked_at(zone: str, start: datetime) -> tuple[Minute, ...]:
    return tuple(minutes(ZoneInfo(zone), start, 2))


def due(nightly: Nightly, start: datetime, until: float) -> list[float]:
    found = brute_force(nightly.expression, looked_at(nightly.zone, start))
    return [tick for tick in found if start.timestamp() < tick <= until]


def set_clock(moment: float) -> None:
    sqlite_clock.offset = moment - time.time()


def make(engine: Engine, nightlies: list[Nightly], **fields: Any) -> list[str]:
    policy = {"catch_up": "all", "catch_up_limit": 1000, "overlap": "cancel_running", "job": JOB, **fields}
    with write(engine) as conn:
        return [
            transitions.create(
                conn,
                OWNER,
                ScheduleSpec.model_validate(
                    {"name": f"s{number}", "cron": nightly.expression, "timezone": nightly.zone, **policy}
                ),
            )
            for number, nightly in enumerate(nightlies)
        ]


def ticks_of(engine: Engine) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    with read(engine) as conn:
        for tick in conn.execute(select(schedule_ticks).order_by(schedule_ticks.c.due_at)):
            found.setdefault(tick.schedule_id, []).append(tick)
    return found


def delete_all(engine: Engine) -> None:
    with write(engine) as conn:
        conn.execute(schedule_ticks.delete())
        conn.execute(transitions.schedules.delete())
        conn.execute(jobs.delete())


def walk(engine: Engine, chance: random.Random, start: float, end: float) -> None:
    """Passes of schedulers whose clocks disagree by up to an hour, and that die now and then; the last one does not."""
    now = start
    while now < end:
        now = min(end, now + chance.uniform(-HOUR, 5 * HOUR))
        set_clock(now)
        failpoints.arm(f"tick.inserted:raise@{chance.randint(1, 12)}")
        scheduler.run_once(engine, HOUSE)
    failpoints.arm("")
    scheduler.run_once(engine, HOUSE)


@pytest.mark.slow
def test_every_due_tick_makes_one_job_in_every_zone(sqlite_engine: Engine) -> None:
    chance, deaths, seen = random.Random(SEED), [], set()
    unsubscribe = subscribe(lambda event, fields: deaths.append(fields) if event == "schedule.failed" else None)
    try:
        for nightlies in groups():
            seen |= {nightly.zone for nightly in nightlies}
            start = min(nightly.change.at for nightly in nightlies) - timedelta(hours=12)
            end = max(nightly.change.at for nightly in nightlies) + timedelta(hours=12)
            set_clock(start.timestamp())
            ids = make(sqlite_engine, nightlies)
            walk(sqlite_engine, chance, start.timestamp(), end.timestamp())
            found = ticks_of(sqlite_engine)
            for schedule_id, nightly in zip(ids, nightlies, strict=True):
                ticks = found.get(schedule_id, [])
                assert [tick.due_at for tick in ticks] == due(nightly, start, end.timestamp()), nightly
                assert {tick.outcome for tick in ticks} <= {"submitted"}, nightly
            made = {tick.job_id for ticks in found.values() for tick in ticks}
            assert len(made) == sum(map(len, found.values()))
            with read(sqlite_engine) as conn:
                assert conn.scalar(select(func.count()).select_from(jobs)) == len(made)
            delete_all(sqlite_engine)
    finally:
        unsubscribe()
        failpoints.arm("")
    assert seen == set(one_of_each(cron.zones()))
    assert len(deaths) > 20, f"seed {SEED}"
    assert all("FailpointError" in fields["error"] for fields in deaths)


# -- thirty days of outage ------------------------------------------------------------------------

SIX = (
    "Europe/Berlin",
    "America/New_York",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "America/Santiago",
)
POLICIES: list[dict[str, Any]] = [
    {"catch_up": "none"},
    {"catch_up": "latest"},
    {"catch_up": "latest", "max_lateness_seconds": 0.5 * HOUR},
    {"catch_up": "all", "catch_up_limit": 1000},
    {"catch_up": "all", "catch_up_limit": 7},
    {"catch_up": "all", "catch_up_limit": 1000, "max_lateness_seconds": 5 * DAY},
    {"catch_up": "all", "catch_up_limit": 3, "max_lateness_seconds": 5 * DAY},
]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_thirty_days_of_outage_across_a_change_of_the_clocks(sqlite_engine: Engine, policy: dict[str, Any]) -> None:
    for zone in SIX:
        for change in changes(zone):
            at = inside(change)
            nightly = Nightly(zone, change, f"{at.minute} {at.hour} * * *")
            start = (change.at - timedelta(days=15, hours=5)).timestamp()
            set_clock(start)
            (schedule_id,) = make(sqlite_engine, [nightly], **policy)
            set_clock(start + 30 * DAY)
            scheduler.run_once(sqlite_engine, HOUSE)
            ticks = ticks_of(sqlite_engine)[schedule_id]
            assert [tick.due_at for tick in ticks] == list(over_thirty_days(nightly, start))
            late = [start + 30 * DAY - tick.due_at for tick in ticks]
            few = {"none": 0, "latest": 1, "all": policy.get("catch_up_limit")}[policy["catch_up"]]
            allowed = [lateness <= policy.get("max_lateness_seconds", 31 * DAY) for lateness in late]
            wanted = ["submitted" if ok and number < few else "missed" for number, ok in enumerate(reversed(allowed))]
            assert [tick.outcome for tick in reversed(ticks)] == wanted, nightly
            delete_all(sqlite_engine)


@cache
def over_thirty_days(nightly: Nightly, start: float) -> tuple[float, ...]:
    begin = datetime.fromtimestamp(start, UTC)
    found = brute_force(nightly.expression, minutes(ZoneInfo(nightly.zone), begin, 31))
    return tuple(tick for tick in found if start < tick <= start + 30 * DAY)
