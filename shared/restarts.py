"""When a process that ended is started again: soon at first, later in a crash loop."""

from __future__ import annotations

#: Seconds before a dead process is started again: short at first, longer in a crash loop.
FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
#: After this run time (seconds) a process counts as recovered: its next death is the first again.
HEALTHY_AFTER = 60.0


def restart_delay(deaths: int) -> float:
    """Return the seconds to wait after the `deaths`-th consecutive death (1, 2, …)."""
    return float(min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(deaths - 1, 10)))


def deaths_after(deaths: int, lived: float) -> int:
    """Return the number of consecutive deaths, with one of a process that has `lived` so many seconds."""
    return 1 if lived > HEALTHY_AFTER else deaths + 1
