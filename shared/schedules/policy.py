"""Pure decisions about ticks that are due: which are run, which are missed and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.schedules.models import CatchUp

#: A tick that is seen within this is on time (seconds). Too low: a slow maintenance pass counts as an outage. Too high:
#: after a short outage `none` still runs.
ON_TIME_SECONDS = 60.0


@dataclass(frozen=True)
class Policy:
    catch_up: CatchUp
    limit: int
    max_lateness: float | None


@dataclass(frozen=True)
class Verdict:
    due_at: float
    #: Why it is not run; None: it is.
    missed: str | None = None


def decide(due: Sequence[float], now: float, policy: Policy) -> list[Verdict]:
    """A verdict on every tick of `due` (ascending, none later than `now`), in the same order.

    Those on time are run. Of the others, `none` runs none, `latest` the newest if nothing newer is on time, `all` the
    newest `limit`; never one that is later than `max_lateness`.
    """
    late = [tick for tick in due if now - tick > ON_TIME_SECONDS]
    on_time = due[len(late) :]
    chosen = set(on_time) | set(_made_up(late, bool(on_time), now, policy))
    return [Verdict(tick, None if tick in chosen else _why(tick, now, policy)) for tick in due]


def _made_up(late: list[float], any_on_time: bool, now: float, policy: Policy) -> list[float]:
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
            return f"{late}; catch_up makes up for the newest {policy.limit} only"
