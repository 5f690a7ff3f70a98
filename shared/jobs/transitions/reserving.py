"""reserve, give_way: keep devices for gangs that have waited long enough, as `shared.jobs.reservations` decides."""

from __future__ import annotations

from sqlalchemy import Connection, and_, select, update

from shared.clock import db_now, read_clock
from shared.db.schema import devices, jobs
from shared.fleet import ledger
from shared.jobs.fronts import QUEUED, needs_of
from shared.jobs.queue_parts import parts_with_needs
from shared.jobs.reservations import WaitingGang, plan
from shared.jobs.transitions.requests import request_drain

#: Most gangs that devices are kept for at once. Too low: one that could have others waits. Too high: slow passes.
MOST = 50


def has_reservations_to_change(conn: Connection, patience: float) -> bool:
    """Return whether a gang has waited long enough, or a device is kept for one: a read."""
    return bool(_waiting(conn, patience)) or bool(ledger.slots(conn, devices.c.reserved_for.is_not(None)))


def reserve(conn: Connection, patience: float, priority_gap: int = 10) -> int:
    """Keep devices for the gangs that have waited `patience` seconds, and no others; return how many have changed.

    Until only fillers hold them, jobs whose priority is lower by `priority_gap` may fill the gap, too.
    """
    now = read_clock(conn)
    usable = (devices.c.cordoned_at.is_(None), ledger.is_served())
    known = ledger.slots(conn)
    slots = ledger.slots(conn, *usable)
    gangs = _waiting(conn, patience)
    priorities = {gang.job_id: gang.priority for gang in gangs}
    wanted: dict[str, tuple[str | None, float | None, int | None]] = {}
    for one in plan(gangs, slots, _ends(conn), now):
        can_start = one.starts_at is not None and one.starts_at <= now
        below = None if can_start else priorities[one.job_id] - priority_gap
        wanted |= dict.fromkeys(one.devices, (one.job_id, one.starts_at, below))
    changed = 0
    for slot in known:
        new = wanted.get(slot.id, (None, None, None))
        if (slot.reserved_for, slot.reserved_until, slot.yields_below) != new:
            values = dict(zip(("reserved_for", "reserved_until", "yields_below"), new, strict=True))
            conn.execute(update(devices).where(devices.c.id == slot.id).values(**values))
            changed += slot.reserved_for != new[0]
    return changed


def give_way(conn: Connection) -> list[str]:
    """Ask the jobs that fill the gap before a gang that could start now to return to the queue; return their ids.

    In a transaction of its own, as `request_drain` wants it.
    """
    can_start = devices.c.reserved_for.is_not(None) & (devices.c.reserved_until <= db_now())
    return request_drain(conn, can_start & devices.c.is_filler)


def _waiting(conn: Connection, patience: float) -> list[WaitingGang]:
    """Return the queued gangs that are due since `patience` seconds, in the order of the claim."""
    parts = [part for part in parts_with_needs(conn) if needs_of(part).devices > 1]
    if not parts:
        return []
    waits = (jobs.c.state == QUEUED, jobs.c.requires.in_(parts), jobs.c.run_at <= db_now() - patience)
    found = (
        select(jobs.c.id, jobs.c.requires, jobs.c.device, jobs.c.priority)
        .where(*waits)
        .order_by(jobs.c.rank, jobs.c.id)
    )
    rows = conn.execute(found.limit(MOST))
    return [WaitingGang(row.id, needs_of(row.requires), row.device, row.priority) for row in rows]


def _ends(conn: Connection) -> dict[str, float | None]:
    """Return the deadline of the job on each device that is held."""
    held = and_(devices.c.job_id == jobs.c.id, devices.c.fence == jobs.c.fence)
    rows = conn.execute(select(devices.c.id, jobs.c.deadline_at).join_from(devices, jobs, held))
    return {row.id: row.deadline_at for row in rows}
