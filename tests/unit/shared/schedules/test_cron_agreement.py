"""Previews agree with croniter, an independent reader of cron, on random expressions: 10,000 with `-m long`, else
2,000.

Where they do not, the expression is of a class that docs/schedules.md lists with who is right; and once what is said
there of croniter is undone, they agree again. Zones whose clocks do not change: what a change does is `test_cron`'s.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from croniter import CroniterError, croniter

from nightshift.errors import InvalidRequest
from shared.schedules import cron
from tests.support.paths import ROOT

EXPRESSIONS = [2_000, pytest.param(10_000, marks=pytest.mark.long)]
AHEAD = 5
SEED = 2027
ZONES = ("UTC", "Asia/Kolkata", "Asia/Tokyo", "America/Bogota", "Pacific/Kiritimati", "Etc/GMT+12", "Asia/Kathmandu")
#: Lowest and highest value of each field, and the names of the last two.
LIMITS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
WEEKDAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]

#: What a preview came to: moments, or None where there is none.
Outcome = list[float] | None


# -- random expressions ---------------------------------------------------------------------------


def value(chance: random.Random, index: int) -> str:
    number = chance.randint(*LIMITS[index])
    if index >= 3 and chance.random() < 0.3:
        return MONTHS[number - 1] if index == 3 else WEEKDAYS[number % 7]
    return str(number)


def part(chance: random.Random, index: int) -> str:
    kind, top = chance.random(), LIMITS[index][1]
    if kind < 0.4:
        return value(chance, index)
    if kind < 0.55:
        return f"*/{chance.randint(1, top)}"
    low, high = sorted(chance.randint(*LIMITS[index]) for _ in range(2))
    if kind < 0.56:
        low, high = high, low
    return f"{low}-{high}" + (f"/{chance.randint(1, top)}" if kind > 0.85 else "")


def field(chance: random.Random, index: int) -> str:
    kind = chance.random()
    if kind < 0.3:
        return "*"
    if index == 2 and kind < 0.33:
        return "L"
    if index == 4 and kind < 0.36:
        return f"{chance.choice(WEEKDAYS)}#{chance.randint(1, 5)}"
    return ",".join(part(chance, index) for _ in range(chance.choice((1, 1, 1, 2, 3))))


def expressions(seed: int, count: int) -> list[str]:
    chance = random.Random(seed)
    return [" ".join(field(chance, index) for index in range(5)) for _ in range(count)]


# -- both readings --------------------------------------------------------------------------------


def ours(expression: str, zone: str, start: datetime) -> Outcome:
    try:
        return cron.parse(expression, zone).preview(start.timestamp(), AHEAD)
    except InvalidRequest:
        return None


def theirs(expression: str, start: datetime) -> Outcome:
    try:
        # The "bug" is Debian's rule: an AND of the two day fields if either begins with a star.
        ticks = croniter(expression, start, implement_cron_bug=True, max_years_between_matches=cron.HORIZON_YEARS)
        return [ticks.get_next(float) for _ in range(AHEAD)]
    except CroniterError:
        return None


def either(expressions: list[str], start: datetime) -> Outcome:
    """The ticks of any of them."""
    found = {tick for expression in expressions for tick in theirs(expression, start) or []}
    return sorted(found)[:AHEAD] or None


# -- the classes of docs/schedules.md -------------------------------------------------------------

ONE_VALUE = re.compile(r"(?<![\w#])(\w+)-\1(?![\w#])(/\d+)?")


def wraps(expression: str) -> bool:
    bounds = re.findall(r"(\d+)-(\d+)", expression)
    return any(int(low) > int(high) for low, high in bounds)


def restricted(text: str) -> bool:
    return not text.startswith("*")


def every_value(text: str, index: int) -> bool:
    numbers = {number for word in text.split(",") for number in _numbers(word, index)}
    return len({number % 7 for number in numbers} if index == 4 else numbers) == (7 if index == 4 else 31)


def _numbers(word: str, index: int) -> range:
    names = MONTHS if index == 3 else WEEKDAYS
    if word in names:
        word = str(names.index(word) + (index == 3))
    found = re.fullmatch(r"(\*|\d+)(?:-(\d+))?(?:/(\d+))?", word)
    if found is None:
        return range(0)
    low, high = LIMITS[index] if found[1] == "*" else (int(found[1]), int(found[2] or found[1]))
    return range(low, high + 1, int(found[3] or 1))


def explained(expression: str, start: datetime) -> tuple[str, Outcome] | None:
    """The class of a difference, and croniter's reading once what is listed of it is undone; None: no class fits."""
    if wraps(expression):
        return "wrapping range", None
    plain = ONE_VALUE.sub(r"\1", expression)
    minute, hour, day, month, weekday = plain.split()
    name = "range of one value" if plain != expression else None
    if "#" in weekday and restricted(day):
        alone = [f"{minute} {hour} {day} {month} *", f"{minute} {hour} * {month} {weekday}"]
        return "MON#2 beside a day of month", either(alone, start)
    every_day = every_value(day, 2) or every_value(weekday, 4)
    if restricted(day) and restricted(weekday) and every_day and "*" in day + weekday:
        return "every day, in numbers", theirs(f"{minute} {hour} * {month} *", start)
    return None if name is None else (name, theirs(plain, start))


@pytest.mark.slow
@pytest.mark.parametrize("count", EXPRESSIONS)
def test_previews_agree_but_for_the_classes_that_are_listed(count: int) -> None:
    chance, classes = random.Random(SEED), Counter[str]()
    for expression in expressions(SEED, count):
        zone = chance.choice(ZONES)
        moment = datetime(2027, 1, 1, tzinfo=ZoneInfo(zone)) + timedelta(seconds=chance.randrange(365 * 86_400))
        start = moment.replace(tzinfo=timezone(moment.utcoffset() or timedelta()))
        mine, independent = ours(expression, zone, start), theirs(expression, start)
        if mine == independent:
            classes["agree"] += 1
            continue
        found = explained(expression, start)
        assert found is not None, f"{expression!r} from {start}: {mine} here, {independent} in croniter"
        assert mine == found[1], f"{expression!r} from {start}: {found[0]}, but it is {mine} here, not {found[1]}"
        classes[found[0]] += 1
    print(dict(classes))
    assert set(classes) == {"agree", *LISTED}
    assert classes["agree"] > 0.8 * count


PAGE = (ROOT / "docs" / "schedules.md").read_text(encoding="utf-8")
LISTED = ("range of one value", "MON#2 beside a day of month", "every day, in numbers", "wrapping range")


@pytest.mark.parametrize("name", LISTED)
def test_every_class_is_in_the_documentation(name: str) -> None:
    assert f"| {name} |" in PAGE


#: What only one of the two accepts; the page lists each.
OURS_ONLY = ("0 0 LW * *", "0 0 * * 5L")
THEIRS_ONLY = (
    "0 0 15W * *",
    "0 0 * * L5",
    "0 0 ? * *",
    "0 0 * * MON-WED#2",
    "@daily",
    "0 22-2 * * *",
    "0 0 * * FRI-MON",
)
NEITHER = ("0 0 * * L", "0 0 L-3 * *", "*/0 * * * *", "0 0 31 2 *", "1,,2 * * * *", "0 0 * * MON#6", "H * * * *")


@pytest.mark.parametrize(
    "expression", [*OURS_ONLY, *THEIRS_ONLY, *NEITHER, "59/15 * * * *", "*/90 * * * *", "0 0 * * 0-7"]
)
def test_what_each_accepts(expression: str) -> None:
    start = datetime(2027, 1, 1, tzinfo=UTC)
    mine, independent = ours(expression, "UTC", start), theirs(expression, start)
    assert (mine is not None) == (expression not in THEIRS_ONLY + NEITHER)
    assert (independent is not None) == (expression not in OURS_ONLY + NEITHER)
    if mine and independent:
        assert mine == independent
