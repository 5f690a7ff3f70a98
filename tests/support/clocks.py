"""Clock changes of each time zone in 2027, and a brute-force cron that checks every minute."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

YEAR = 2027
_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Change:
    """A clock change: the first moment with the new offset. `wall` is its local time by the old offset."""

    at: datetime
    before: timedelta
    after: timedelta

    @property
    def wall(self) -> datetime:
        return (self.at + self.before).replace(tzinfo=None)

    @property
    def is_gap(self) -> bool:
        return self.after > self.before


@cache
def changes(zone: str) -> tuple[Change, ...]:
    """Return all changes in 2027, in order."""
    known, found = ZoneInfo(zone), []
    day = datetime(YEAR, 1, 1, tzinfo=UTC)
    while day.year == YEAR:
        if _offset(day, known) != _offset(day + _DAY, known):
            found.append(_change(day, day + _DAY, known))
        day += _DAY
    return tuple(found)


def _change(low: datetime, high: datetime, zone: ZoneInfo) -> Change:
    before, after = _offset(low, zone), _offset(high, zone)
    while high - low > _MINUTE:
        middle = low + (high - low) // 2 // _MINUTE * _MINUTE
        low, high = (middle, high) if _offset(middle, zone) == before else (low, middle)
    return Change(high, before, after)


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


_first: dict[object, str] = {}


@cache
def alike(zone: str) -> str:
    """Return one zone for all with the same local times in 2027, because brute force is slow."""
    shows = (changes(zone), _offset(datetime(YEAR, 1, 1, tzinfo=UTC), ZoneInfo(zone)))
    return _first.setdefault(shows, zone)


def one_of_each(zones: Iterable[str]) -> list[str]:
    """Return a zone for each set of zones with the same local times in 2027."""
    return sorted({alike(zone) for zone in sorted(zones)})


# -- cron, minute by minute -----------------------------------------------------------------------


@dataclass(frozen=True)
class Minute:
    """A minute of real time: its local time, whether that repeats an earlier one, and the local times skipped."""

    at: float
    wall: datetime
    again: bool
    jumped_over: tuple[datetime, ...]


def minutes(zone: ZoneInfo, start: datetime, days: int) -> list[Minute]:
    found, before = [], start.astimezone(zone).replace(tzinfo=None) - _MINUTE
    for number in range(days * 1440):
        moment = start + number * _MINUTE
        local = moment.astimezone(zone)
        wall = local.replace(tzinfo=None, fold=0)
        jumped_over = tuple(before + n * _MINUTE for n in range(1, int((wall - before).total_seconds() // 60)))
        again = local.fold == 1 and local.replace(fold=0).utcoffset() != local.utcoffset()
        found.append(Minute(moment.timestamp(), wall, again, jumped_over))
        before = wall
    return found


def brute_force(expression: str, looked_at: Iterable[Minute]) -> list[float]:
    """Return the times of a cron expression. Skipped local times run after their gap; repeated ones run once."""
    minute, hour, day, month, weekday = expression.split()
    of_minute, of_hour = numbers(minute, range(60)), numbers(hour, range(24))
    dates, months = numbers(day, range(1, 32)), numbers(month, range(1, 13))
    weekdays = numbers(weekday, range(7))
    both = day.startswith("*") or weekday.startswith("*")
    every_hour = len(of_hour) == 24

    def matches(wall: datetime) -> bool:
        if wall.minute not in of_minute or wall.hour not in of_hour or wall.month not in months:
            return False
        on_date, on_weekday = wall.day in dates, wall.isoweekday() % 7 in weekdays
        return (on_date and on_weekday) if both else (on_date or on_weekday)

    return [
        found.at
        for found in looked_at
        if (matches(found.wall) and (every_hour or not found.again))
        or (not every_hour and any(map(matches, found.jumped_over)))
    ]


def numbers(field: str, values: range) -> set[int]:
    """Return the values of a field of numbers, ranges, steps and lists."""
    found: set[int] = set()
    for part in field.split(","):
        low, high, step = re.fullmatch(r"(\*|\d+)(?:-(\d+))?(?:/(\d+))?", part).groups()  # type: ignore[union-attr]
        first, last = (values.start, values.stop - 1) if low == "*" else (int(low), int(high or low))
        found |= set(range(first, last + 1, int(step or 1)))
    return found
