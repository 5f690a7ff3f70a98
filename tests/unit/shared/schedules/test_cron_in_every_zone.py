"""Every zone of the tz database through 2027: around each change of its clocks, ticks are those of a brute-force
reading."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest

from shared.schedules import cron
from tests.support.clocks import YEAR, Change, Minute, brute_force, changes, minutes, one_of_each

pytestmark = pytest.mark.slow

#: Of zones that show the same all through the year (a third are other names of one) the first.
ZONES = one_of_each(cron.zones())
JANUARY = datetime(YEAR, 1, 1, tzinfo=UTC)
#: Days that are looked at, from noon before the change.
DAYS = 2
RANDOM_EXPRESSIONS = 6


def test_there_are_zones_with_every_kind_of_change() -> None:
    """Else the tests below would have little to find."""
    found = Counter((change.is_gap, abs(change.after - change.before)) for zone in ZONES for change in changes(zone))
    assert len(cron.zones()) > 500
    assert len(ZONES) > 50
    assert {length for _, length in found} >= {timedelta(minutes=30), timedelta(hours=1)}
    assert {is_gap for is_gap, _ in found} == {True, False}
    assert max(len(changes(zone)) for zone in ZONES) >= 2


def around(change: Change) -> list[str]:
    """Expressions that tick in, before and after what the change jumps over or repeats."""
    first, length = (
        sorted((change.wall, change.wall + (change.after - change.before)))[0],
        abs(change.after - change.before),
    )
    inside = first + length / 2
    return [
        f"{inside.minute} {inside.hour} * * *",
        f"{first.minute} {first.hour} * * *",
        f"*/7 {inside.hour} * * *",
        f"*/20 {inside.hour},{(inside.hour + 1) % 24} * * *",
        f"{inside.minute} * * * *",
        f"{inside.minute} */2 * * *",
        f"{inside.minute} {inside.hour} {inside.day} {inside.month} *",
        f"{inside.minute} {inside.hour} * * {inside.isoweekday() % 7}",
        "* * * * *",
    ]


def at_random(chance: random.Random) -> str:
    def field(low: int, high: int) -> str:
        number = chance.randint(low, high)
        return chance.choice(("*", f"*/{chance.randint(1, 15)}", f"{number}", f"{low}-{number}", f"{number},{high}"))

    return " ".join((field(0, 59), field(0, 23), field(1, 28), "*", field(0, 6)))


@cache
def looked_at(zone: str, start: datetime, days: int) -> tuple[Minute, ...]:
    return tuple(minutes(ZoneInfo(zone), start, days))


@cache
def expected(expression: str, zone: str, start: datetime, days: int) -> tuple[float, ...]:
    return tuple(brute_force(expression, looked_at(zone, start, days)))


def ticks(expression: str, zone: str, start: datetime, end: datetime) -> tuple[float, ...]:
    """Of [start, end)."""
    found = cron.parse(expression, zone).after(start.timestamp() - 1)
    return tuple(takewhile(lambda tick: tick < end.timestamp(), found))


def test_around_every_change_of_every_zone() -> None:
    looked = 0
    for zone in ZONES:
        for change in changes(zone):
            start = change.at - timedelta(hours=12)
            chance = random.Random(f"{change}")
            for expression in [*around(change), *(at_random(chance) for _ in range(RANDOM_EXPRESSIONS))]:
                found = ticks(expression, zone, start, start + timedelta(days=DAYS))
                assert found == expected(expression, zone, start, DAYS), f"{expression} in {zone} around {change.at}"
                looked += 1
    assert looked > 500


def test_where_the_clocks_do_not_change() -> None:
    chance = random.Random(YEAR)
    start = JANUARY + timedelta(days=chance.randrange(360))
    for zone in ZONES:
        if not changes(zone):
            expression = at_random(chance)
            found = ticks(expression, zone, start, start + timedelta(days=1))
            assert found == expected(expression, zone, start, 1), f"{expression} in {zone}"


@pytest.mark.parametrize("expression", ["30 2 * * *", "0 0 * * *"])
def test_each_day_has_its_tick_and_only_one(expression: str) -> None:
    """Whatever the clocks do: a nightly retraining is neither left out nor done twice."""
    for zone in ZONES:
        local = ZoneInfo(zone)
        start, end = (datetime(year, 1, 1, tzinfo=local) for year in (YEAR, YEAR + 1))
        dates = [datetime.fromtimestamp(tick, local).date() for tick in ticks(expression, zone, start, end)]
        assert len(dates) == len(set(dates)) == 365, zone
