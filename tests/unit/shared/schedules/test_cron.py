"""When schedules are due: against a brute-force reading of cron, in every zone, over the changes of the clocks of
2027."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nightshift.errors import InvalidRequest
from shared.schedules import cron
from tests.support.clocks import brute_force, minutes


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def locals_of(expression: str, zone: str, start: str, count: int) -> list[str]:
    checked = cron.parse(expression, zone)
    return [cron.local_iso(tick, checked.zone) for tick in checked.preview(at(start), count)]


# -- clocks that change ---------------------------------------------------------------------------


def test_a_time_that_the_clocks_jump_over_runs_once_at_the_first_moment_after() -> None:
    assert locals_of("30 2 * * *", "Europe/Berlin", "2027-03-27T00:00Z", 3) == [
        "2027-03-27T02:30:00+01:00",
        "2027-03-28T03:00:00+02:00",
        "2027-03-29T02:30:00+02:00",
    ]


def test_several_such_times_and_one_right_after_the_gap_are_one_tick() -> None:
    assert locals_of("*/20 2,3 * * *", "Europe/Berlin", "2027-03-28T00:00Z", 3) == [
        "2027-03-28T03:00:00+02:00",
        "2027-03-28T03:20:00+02:00",
        "2027-03-28T03:40:00+02:00",
    ]


def test_a_time_that_comes_twice_runs_the_first_time_only() -> None:
    assert locals_of("*/30 2 * * *", "Europe/Berlin", "2027-10-31T00:00+02:00", 3) == [
        "2027-10-31T02:00:00+02:00",
        "2027-10-31T02:30:00+02:00",
        "2027-11-01T02:00:00+01:00",
    ]


def test_asked_between_the_two_passes_it_has_run_already() -> None:
    assert locals_of("30 2 * * *", "Europe/Berlin", "2027-10-31T02:10:00+01:00", 1) == ["2027-11-01T02:30:00+01:00"]


def test_every_hour_means_real_hours() -> None:
    assert locals_of("30 * * * *", "Europe/Berlin", "2027-10-31T01:00+02:00", 4) == [
        "2027-10-31T01:30:00+02:00",
        "2027-10-31T02:30:00+02:00",
        "2027-10-31T02:30:00+01:00",
        "2027-10-31T03:30:00+01:00",
    ]
    assert locals_of("30 0-23 * * *", "Europe/Berlin", "2027-03-28T01:00+01:00", 2) == [
        "2027-03-28T01:30:00+01:00",
        "2027-03-28T03:30:00+02:00",
    ]


def test_half_an_hour_of_summer_time_and_a_gap_at_midnight() -> None:
    assert locals_of("15 2 * * *", "Australia/Lord_Howe", "2027-10-02T12:00Z", 1) == ["2027-10-03T02:30:00+11:00"]
    assert locals_of("0 0 * * *", "America/Santiago", "2027-09-04T12:00Z", 2) == [
        "2027-09-05T01:00:00-03:00",
        "2027-09-06T00:00:00-03:00",
    ]


def test_a_day_that_a_zone_left_out_runs_at_the_beginning_of_the_next() -> None:
    assert locals_of("0 12 30 12 *", "Pacific/Apia", "2011-12-01T00:00Z", 1) == ["2011-12-31T00:00:00+14:00"]


# -- all zones, against brute force ---------------------------------------------------------------


def plain(values: range) -> st.SearchStrategy[str]:
    number = st.integers(values.start, values.stop - 1).map(str)
    step = st.integers(1, 15).map(lambda n: f"*/{n}")
    span = st.tuples(number, number).map(lambda pair: "-".join(sorted(pair, key=int)))
    several = st.lists(number, min_size=2, max_size=3, unique=True).map(",".join)
    return st.one_of(st.just("*"), number, step, span, several)


EXPRESSIONS = st.tuples(
    plain(range(60)), plain(range(24)), plain(range(1, 29)), plain(range(1, 13)), plain(range(7))
).map(" ".join)


@settings(max_examples=40)
@given(EXPRESSIONS, st.sampled_from(sorted(cron.zones())), st.integers(0, 361))
@example("*/7 2 * * *", "Europe/Berlin", 85)
@example("*/7 1 * * *", "America/New_York", 309)
@example("0 0 * * *", "Africa/Cairo", 119)
@example("15 2 * * *", "Australia/Lord_Howe", 274)
@example("30 */2 * * *", "America/St_Johns", 71)
@example("59 23 * * *", "America/Nuuk", 85)
def test_ticks_are_those_of_a_brute_force_reading(expression: str, zone: str, first_day: int) -> None:
    start = datetime(2027, 1, 1, tzinfo=UTC) + timedelta(days=first_day)
    checked = cron.parse(expression, zone)
    end = (start + timedelta(days=3)).timestamp()
    found = []
    for tick in checked.after(start.timestamp() - 1):
        if tick >= end:
            break
        found.append(tick)
    assert found == brute_force(expression, minutes(checked.zone, start, 3))


@settings(max_examples=60)
@given(EXPRESSIONS, st.sampled_from(sorted(cron.zones())), st.integers(0, 365 * 86_400))
def test_next_goes_forward_and_leaves_nothing_out(expression: str, zone: str, seconds: int) -> None:
    checked = cron.parse(expression, zone)
    moment = at("2027-01-01T00:00Z") + seconds
    ticks = checked.preview(moment, 5)
    assert moment < ticks[0]
    assert ticks == sorted(set(ticks))
    for earlier, later in itertools.pairwise(ticks):
        assert checked.next(earlier) == checked.next((earlier + later) / 2) == later


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("0 0 2 * * *", "6 fields"),
        ("* * * *", "4 fields"),
        ("@daily", "five"),
        ("", "0 fields"),
        ("0 0 31 2 *", "day-of-month"),
        ("0 0 30 2 *", "day-of-month"),
        ("0 0 31 4,6,9,11 *", "day-of-month"),
        ("60 0 * * *", "minute"),
        ("0 24 * * *", "hour"),
        ("0 0 0 * *", "day-of-month"),
        ("0 0 * 13 *", "month"),
        ("0 0 * * 8", "day-of-week"),
        ("*/0 * * * *", "minute"),
        ("5-1 * * * *", "minute"),
        ("a b c d e", "minute"),
        (f"{'9' * 5000} * * * *", "five"),
        ("٣ * * * *", "minute"),
    ],
)
def test_what_is_no_cron_expression_is_refused(expression: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        cron.parse(expression, "UTC")
    assert caught.value.errors[0].loc == ("cron",)


@pytest.mark.parametrize(
    "zone", ["", "Europe/Berlni", "../etc/passwd", "/etc/localtime", "Europe", "CEST", "\x00", "ü"]
)
def test_what_is_no_zone_is_refused(zone: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        cron.parse("0 2 * * *", zone)
    assert caught.value.errors[0].loc == ("timezone",)


def test_a_zone_with_a_typing_mistake_gets_a_hint() -> None:
    with pytest.raises(InvalidRequest, match="did you mean 'Europe/Berlin'"):
        cron.parse("0 2 * * *", "Europe/Berlni")


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("0 22-2 * * *", "hour '22-2': a range must ascend"),
        ("0 0 * * FRI-MON", "day-of-week 'FRI-MON': a range must ascend"),
        ("0 0 31 2 *", "never occurs: day-of-month '31' in month '2'"),
        ("0 0 15W * *", "day-of-month '15W' is not valid: use 1-31, L or LW"),
        ("60 * * * *", "minute '60' is not valid: use 0-59"),
    ],
)
def test_what_is_refused_is_told_with_the_way_out(expression: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        cron.parse(expression, "UTC")
    assert message in caught.value.errors[0].msg


@pytest.mark.parametrize("month", ["5-5/7", "MAY-5/07", "5-MAY/2"])
def test_a_range_of_one_value_is_one_value_whatever_its_step(month: str) -> None:
    assert cron.parse(f"0 0 1 {month} *", "UTC").preview(at("2027-01-01T00:00Z"), 2) == [
        at("2027-05-01T00:00Z"),
        at("2028-05-01T00:00Z"),
    ]


def test_rare_dates_and_extensions() -> None:
    assert locals_of("0 0 29 2 *", "UTC", "2027-01-01T00:00Z", 1) == ["2028-02-29T00:00:00+00:00"]
    assert locals_of("0 0 L * *", "UTC", "2027-02-01T00:00Z", 1) == ["2027-02-28T00:00:00+00:00"]
    assert locals_of("0 9 * * MON#2", "UTC", "2027-01-01T00:00Z", 1) == ["2027-01-11T09:00:00+00:00"]
    assert locals_of("0 0 13 * FRI", "UTC", "2027-01-01T12:00Z", 3) == [  # either, as in Debian's cron
        "2027-01-08T00:00:00+00:00",
        "2027-01-13T00:00:00+00:00",
        "2027-01-15T00:00:00+00:00",
    ]
