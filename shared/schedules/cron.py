"""Due times of a schedule: five-field cron in an IANA time zone, with daylight saving time.

`cronsim` parses the expression and matches days (`L`, `LW`, `MON#2`, day-of-month *or* day-of-week as in Debian's
cron); the times of a day are computed here, so that one rule holds in every zone:

- A matching local time that is skipped when the clocks go forward runs **once**, at the first moment after the gap.
- A matching local time that occurs twice runs **once**, the first time.
- An expression for every hour (`*`, `*/1`, `0-23`) counts real hours instead: it runs in both passes of a repeated
  hour and catches up nothing after a gap.

(`cronsim`'s own rule drops `*/5 2 * * *` on the day of the gap and runs it twice on the day of the fold.)
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError
from cronsim.cronsim import SYMBOLIC_DAYS, SYMBOLIC_MONTHS

from nightshift.errors import InvalidRequest

#: Longest expression (characters); realistic ones have fewer than 50.
MAX_LENGTH = 100
#: How far ahead the next time is searched (years): the rarest dates, such as a Monday, 29 February, occur within it.
HORIZON_YEARS = 50
_DAY = timedelta(days=1)
_FIELDS = "minute hour day-of-month month day-of-week"


@dataclass(frozen=True)
class Cron:
    """A validated expression in its zone."""

    text: str
    zone: ZoneInfo
    _days: CronSim
    #: Minutes after midnight, ascending.
    _minutes: tuple[int, ...]
    _every_hour: bool

    def after(self, moment: float) -> Iterator[float]:
        """Yield the ticks later than `moment` (seconds since the epoch) in order, up to the horizon."""
        last = moment
        # A gap before midnight may push a tick of yesterday into today.
        day = datetime.fromtimestamp(moment, self.zone).date() - _DAY
        for _ in range(HORIZON_YEARS * 366):
            if day.month in self._days.months and self._days.match_day(day):
                for tick in self._ticks_of(day):
                    if tick > last:
                        last = tick
                        yield tick
            day += _DAY

    def next(self, moment: float) -> float | None:
        """Return the first tick later than `moment`, or None if there is none within the horizon."""
        return next(self.after(moment), None)

    def preview(self, moment: float, count: int) -> list[float]:
        """Return the first `count` ticks later than `moment`."""
        return list(islice(self.after(moment), count))

    def _ticks_of(self, day: date) -> list[float]:
        midnight = datetime.combine(day, time(), self.zone)
        tomorrow = datetime.combine(day + _DAY, time(), self.zone).replace(fold=1)
        offset = midnight.utcoffset()
        if (
            offset
            == midnight.replace(fold=1).utcoffset()
            == tomorrow.utcoffset()
            == tomorrow.replace(fold=0).utcoffset()
        ):
            start = midnight.timestamp()
            return [start + 60.0 * minute for minute in self._minutes]
        walls = [datetime.combine(day, time(minute // 60, minute % 60)) for minute in self._minutes]
        return sorted({tick for wall in walls for tick in self._moments(wall)})

    def _moments(self, wall: datetime) -> tuple[float, ...]:
        """Return the moments of a local time on a day when the clocks change."""
        earlier, later = (wall.replace(tzinfo=self.zone, fold=fold) for fold in (0, 1))
        before, after = earlier.utcoffset(), later.utcoffset()
        assert before is not None
        assert after is not None
        if before == after:
            return (earlier.timestamp(),)
        if before > after:  # the local time occurs twice
            return (earlier.timestamp(), later.timestamp()) if self._every_hour else (earlier.timestamp(),)
        if self._every_hour:
            return ()
        return (self._end_of_gap(int(later.timestamp()), int(earlier.timestamp()), before),)

    def _end_of_gap(self, low: int, high: int, before: timedelta) -> float:
        """Return the first second in (low, high] that no longer has the offset `before`."""
        while high - low > 1:
            middle = (low + high) // 2
            if datetime.fromtimestamp(middle, self.zone).utcoffset() == before:
                low = middle
            else:
                high = middle
        return float(high)


@lru_cache(maxsize=1024)
def parse(expression: str, timezone: str) -> Cron:
    """Parse an expression in its time zone.

    Raises InvalidRequest at `cron` (syntax, a date that never occurs) or `timezone` (unknown).
    """
    zone = _zone(timezone)
    fields = expression.split()
    if len(fields) != 5 or len(expression) > MAX_LENGTH:
        counted = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
        raise _invalid(f"has {counted}; five are required: {_FIELDS}, for example '0 2 * * *'")
    try:
        days = _read(fields)
    except (CronSimError, AssertionError, ValueError) as error:
        raise _invalid(_explain(str(error), fields)) from None
    minutes = tuple(60 * hour + minute for hour in sorted(days.hours) for minute in sorted(days.minutes))
    cron = Cron(" ".join(fields), zone, days, minutes, len(days.hours) == 24)
    if cron.next(datetime(2027, 1, 1, tzinfo=UTC).timestamp()) is None:
        raise _invalid("is a date that never occurs")
    return cron


def _read(fields: Sequence[str]) -> CronSim:
    """Parse five fields. Raises cronsim's errors."""
    return CronSim(" ".join(_ONE_VALUE.sub(_without_step, field) for field in fields), datetime(2027, 1, 1))


_ONE_VALUE = re.compile(r"\b(\w+)-(\w+)/0*[1-9]\d*\b")
_NAMES = {
    name: number
    for first, names in ((0, SYMBOLIC_DAYS), (1, SYMBOLIC_MONTHS))
    for number, name in enumerate(names, first)
}


def _without_step(found: re.Match[str]) -> str:
    """Replace `5-5/7` by 5: cronsim would read it as `5/7`, which steps to the end of the field."""
    low, high = map(_number, found.groups())
    return found[1] if low is not None and low == high else found[0]


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else _NAMES.get(text.upper())


_ALLOWED = {
    "minute": "0-59",
    "hour": "0-23",
    "day-of-month": "1-31, L or LW",
    "month": "1-12 or JAN-DEC",
    "day-of-week": "0-7, SUN-SAT, MON#2 or 5L",
}


def _explain(error: str, fields: Sequence[str]) -> str:
    """Return the message for an error of cronsim, which only names the field ("Bad hour")."""
    name = error.removeprefix("Bad ")
    if name not in _ALLOWED:
        return f"is not a cron expression; the fields are {_FIELDS}"
    text = fields[list(_ALLOWED).index(name)]
    if name == "day-of-month" and _is_readable([*fields[:3], "*", fields[4]]):
        return f"is a date that never occurs: day-of-month {text!r} in month {fields[3]!r}"
    if any((_number(low) or 0) > (_number(high) or 0) for low, high in re.findall(r"\b(\w+)-(\w+)\b", text)):
        return f"{name} {text!r}: a range must ascend; write two, for example 22-23,0-2 for 22-2"
    return f"{name} {text!r} is not valid: use {_ALLOWED[name]}, a list (1,15), a range (1-5) or a step (*/2)"


def _is_readable(fields: Sequence[str]) -> bool:
    try:
        _read(fields)
    except (CronSimError, AssertionError, ValueError):
        return False
    return True


def _invalid(message: str) -> InvalidRequest:
    return InvalidRequest.field(("cron",), message)


@lru_cache
def zones() -> frozenset[str]:
    """Return the names of all IANA time zones."""
    return frozenset(available_timezones() - {"localtime", "Factory"})


def _zone(name: str) -> ZoneInfo:
    if name not in zones():
        nearest = difflib.get_close_matches(name[:100], zones(), n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise InvalidRequest.field(("timezone",), f"must be an IANA time zone such as 'Europe/Berlin'{hint}")
    return ZoneInfo(name)


def local_iso(moment: float, zone: ZoneInfo) -> str:
    """Format a moment as RFC 3339 with the zone's offset, e.g. 2027-03-28T03:00:00+02:00."""
    return datetime.fromtimestamp(moment, zone).isoformat(timespec="seconds")
