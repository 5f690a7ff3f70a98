"""Catch-up policy: pure decisions about which due ticks are run, and why the others are missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.schedules.models import CatchUp

#: Largest delay at which a tick is on time (seconds). Too low: a slow maintenance pass counts as an outage. Too high:
#: ticks missed in a short outage are run even with `none`.
ON_TIME_SECONDS = 60.0


@dataclass(frozen=True)
class Policy:
    """Catch-up settings of a schedule. `max_lateness` in seconds."""

    catch_up: CatchUp
    limit: int
    max_lateness: float | None


@dataclass(frozen=True)
class Verdict:
    """Decision about one tick."""

    due_at: float
    #: Why the tick is not run; None if it is run.
    missed: str | None = None


def decide(due: Sequence[float], now: float, policy: Policy) -> list[Verdict]:
    """Return a verdict on every tick of `due` (ascending, none later than `now`), in the same order.

    Ticks on time are run. Of the late ones, `none` runs none, `latest` the newest if no tick is on time, `all` the
    newest `limit`; ticks later than `max_lateness` are never run.
    """
    late = [tick for tick in due if now - tick > ON_TIME_SECONDS]
    on_time = due[len(late) :]
    chosen = set(on_time) | set(_caught_up(late, bool(on_time), now, policy))
    return [Verdict(tick, None if tick in chosen else _why(tick, now, policy)) for tick in due]


def _caught_up(late: list[float], any_on_time: bool, now: float, policy: Policy) -> list[float]:
    allowed = [tick for tick in late if not _too_late(tick, now, policy)]
    match policy.catch_up:
        case CatchUp.NONE:
            return []
        case CatchUp.LATEST:
            return [] if any_on_time else allowed[-1:]
        case CatchUp.ALL:
            return allowed[-policy.limit :]


def _too_late(tick: float, now: float, policy: Policy) -> bool:
    return policy.max_lateness is not None and now - tick > policy.max_lateness


def _why(tick: float, now: float, policy: Policy) -> str:
    late = f"{now - tick:.0f} s late"
    if _too_late(tick, now, policy):
        return f"{late}; max_lateness_seconds is {policy.max_lateness:.0f}"
    match policy.catch_up:
        case CatchUp.NONE:
            return f"{late}; catch_up is none"
        case CatchUp.LATEST:
            return f"{late}; catch_up is latest, and a newer tick was due"
        case CatchUp.ALL:
            return f"{late}; catch_up runs only the newest {policy.limit}"
