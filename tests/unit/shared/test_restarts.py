"""When a process that ended is started again."""

from __future__ import annotations

from shared.restarts import HEALTHY_AFTER, LONGEST_DELAY, deaths_after, restart_delay


def test_the_back_off_grows_to_its_limit() -> None:
    delays = [restart_delay(deaths) for deaths in range(1, 40)]
    assert delays[:3] == [0.5, 1.0, 2.0]
    assert delays == sorted(delays)
    assert delays[-1] == LONGEST_DELAY


def test_a_long_life_makes_the_next_death_the_first() -> None:
    assert deaths_after(3, HEALTHY_AFTER / 2) == 4
    assert deaths_after(3, HEALTHY_AFTER + 1) == 1
