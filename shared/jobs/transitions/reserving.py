"""reserve: keep devices for gangs that have waited long enough, as `shared.jobs.reservations` decides."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, and_, select, update

from shared.clock import db_now, read_clock
from shared.db.schema import devices, jobs
from shared.fleet import ledger
from shared.jobs.fronts import QUEUED, needs_of
from shared.jobs.queue_parts import parts_with_needs
from shared.jobs.reservations import WaitingGang, plan

#: Most gangs that devices are kept for at once. Too low: one that could have others waits. Too high: slow passes.
MOST = 50


def has_reservations_to_change(conn: Connection, patience: float) -> bool:
    """Return whether a gang has waited long enough, or a device is kept for one: a read."""
    return bool(_waiting(conn, patience)) or bool(ledger.slots(conn, devices.c.reserved_for.is_not(None)))


def reserve(conn: Connection, patience: float) -> int:
    """Keep devices for the gangs that have waited `patience` seconds, and no others; return how many have changed."""
    now = read_clock(conn)
    usable = (devices.c.cordoned_at.is_(None), ledger.is_served())
    known = ledger.slots(conn)
    slots = ledger.slots(conn, *usable)
    wanted: dict[str, tuple[str, float | None]] = {}
    for one in plan(_waiting(conn, patience), slots, _ends(conn), now):
        wanted |= dict.fromkeys(one.devices, (one.job_id, one.starts_at))
    changed = 0
    for slot in known:
        job_id, until = wanted.get(slot.id, (None, None))
        if (slot.reserved_for, slot.reserved_until) != (job_id, until):
            values: dict[str, Any] = {"reserved_for": job_id, "reserved_until": until}
            conn.execute(update(devices).where(devices.c.id == slot.id).values(**values))
            changed += slot.reserved_for != job_id
    return changed


def _waiting(conn: Connection, patience: float) -> list[WaitingGang]:
    """Return the queued gangs that are due since `patience` seconds, in the order of the claim."""
    parts = [part for part in parts_with_needs(conn) if needs_of(part).devices > 1]
    if not parts:
        return []
    waits = (jobs.c.state == QUEUED, jobs.c.requires.in_(parts), jobs.c.run_at <= db_now() - patience)
    found = select(jobs.c.id, jobs.c.requires, jobs.c.device).where(*waits).order_by(jobs.c.rank, jobs.c.id)
    return [WaitingGang(row.id, needs_of(row.requires), row.device) for row in conn.execute(found.limit(MOST))]


def _ends(conn: Connection) -> dict[str, float | None]:
    """Return the deadline of the job on each device that is held."""
    held = and_(devices.c.job_id == jobs.c.id, devices.c.fence == jobs.c.fence)
    rows = conn.execute(select(devices.c.id, jobs.c.deadline_at).join_from(devices, jobs, held))
    return {row.id: row.deadline_at for row in rows}
