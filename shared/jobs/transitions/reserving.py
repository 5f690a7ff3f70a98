"""reserve, give_way: keep devices for gangs that have waited long enough, as `shared.jobs.reservations` decides.

free_left_devices: free what ended attempts still hold.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, and_, or_, select, update

from shared.clock import db_now, read_clock
from shared.db.schema import devices, jobs
from shared.fleet import ledger
from shared.fleet.needs import Slot
from shared.jobs.eligibility import REQUIREMENTS, Row, can_run, distinct, has_software, online_workers, runnable_by
from shared.jobs.fronts import QUEUED, needs_of, row_of
from shared.jobs.queue_parts import parts_with_needs
from shared.jobs.reservations import WaitingGang, plan
from shared.jobs.transitions.requests import request_drain
from shared.jobs.transitions.statements import RUNNING

#: Most gangs that devices are kept for at once. Too low: one that could have others waits. Too high: slow passes.
MOST = 50


def has_reservations_to_change(conn: Connection, patience: float) -> bool:
    """Return whether a gang has waited long enough, or a device is kept for one: a read."""
    waits = select(jobs.c.id).where(*_waits(patience), jobs.c.requires.in_(_gang_parts(conn))).limit(1)
    return conn.scalar(waits) is not None or bool(ledger.slots(conn, devices.c.reserved_for.is_not(None)))


def reserve(conn: Connection, patience: float, priority_gap: int = 10, lease_seconds: float = 30.0) -> int:
    """Keep devices for the gangs that have waited `patience` seconds, and no others; return how many have changed.

    Only those that a gang could take: not cordoned, and their workers online. Until only fillers hold them, jobs whose
    priority is lower by `priority_gap` may fill the gap, too.
    """
    now = read_clock(conn)
    known = ledger.slots(conn)
    online = [worker for worker in online_workers(conn, lease_seconds) if worker["state"] == "online"]
    slots = [worker["slot"] for worker in online if worker["slot"] is not None and not worker["slot"].is_cordoned]
    gangs = _waiting(conn, patience, online)
    priorities = {gang.job_id: gang.priority for gang in gangs}
    wanted: dict[str, tuple[str | None, float | None, int | None]] = {}
    for one in plan(gangs, slots, _ends(conn), now):
        can_start = one.starts_at is not None and one.starts_at <= now
        below = None if can_start else priorities[one.job_id] - priority_gap
        wanted |= dict.fromkeys(one.devices, (one.job_id, one.starts_at, below))
    new = {slot.id: wanted.get(slot.id, (None, None, None)) for slot in known}
    others = [slot for slot in known if _kept(slot) != new[slot.id]]
    conn.execute(ledger.in_order(devices.c.id.in_([slot.id for slot in others])))
    for slot in others:
        conn.execute(update(devices).where(devices.c.id == slot.id).values(dict(zip(_KEPT, new[slot.id], strict=True))))
    return sum(slot.reserved_for != new[slot.id][0] for slot in others)


_KEPT = ("reserved_for", "reserved_until", "yields_below")


def _kept(slot: Slot) -> tuple[str | None, float | None, int | None]:
    return slot.reserved_for, slot.reserved_until, slot.yields_below


def give_way(conn: Connection) -> list[str]:
    """Ask the jobs that fill the gap before a gang that could start now to return to the queue; return their ids.

    In a transaction of its own, as `request_drain` wants it.
    """
    can_start = devices.c.reserved_for.is_not(None) & (devices.c.reserved_until <= db_now())
    return request_drain(conn, can_start & devices.c.is_filler)


def left_devices(conn: Connection) -> list[tuple[str, int]]:
    """Return the job and fence of attempts that have ended and hold devices: a read.

    Every ending frees them itself, except one by a process of a version without the ledger.
    """
    holds = and_(jobs.c.id == devices.c.job_id, jobs.c.fence == devices.c.fence, jobs.c.state == RUNNING)
    left = select(devices.c.job_id, devices.c.fence).distinct()
    left = left.where(devices.c.job_id.is_not(None), ~select(jobs.c.id).where(holds).correlate(devices).exists())
    return [(row.job_id, row.fence) for row in conn.execute(left)]


def free_left_devices(conn: Connection) -> list[tuple[str, int]]:
    """Free the devices of attempts that have ended; return their job and fence."""
    found = left_devices(conn)
    for job_id, fence in found:  # by both: a later attempt may hold the device meanwhile
        ledger.free(conn, job_id, fence)
    return found


def _waits(patience: float) -> tuple[ColumnElement[bool], ...]:
    return jobs.c.state == QUEUED, jobs.c.run_at <= db_now() - patience


def _gang_parts(conn: Connection) -> list[str]:
    return [part for part in parts_with_needs(conn) if needs_of(part).devices > 1]


def _waiting(conn: Connection, patience: float, online: Sequence[Row]) -> list[WaitingGang]:
    """Return the queued gangs that are due since `patience` seconds, in the order of the claim.

    Those that no worker can run are left out, so that they hide no others.
    """
    parts = [part for part in _gang_parts(conn) if any(can_run(row_of(part), worker) for worker in online)]
    if not parts:
        return []
    found = (
        select(jobs.c.id, jobs.c.requires, jobs.c.priority, *REQUIREMENTS)
        .where(*_waits(patience), jobs.c.requires.in_(parts), or_(*map(runnable_by, distinct(online))))
        .order_by(jobs.c.rank, jobs.c.id)
    )
    return [_gang(row, online) for row in conn.execute(found.limit(MOST)).mappings()]


def _gang(row: Row, online: Sequence[Row]) -> WaitingGang:
    able = frozenset(worker["name"] for worker in online if has_software(row, worker))
    return WaitingGang(row["id"], needs_of(row["requires"]), row["device"], row["priority"], able)


def _ends(conn: Connection) -> dict[str, float | None]:
    """Return the deadline of the job on each device that is held."""
    held = and_(devices.c.job_id == jobs.c.id, devices.c.fence == jobs.c.fence)
    rows = conn.execute(select(devices.c.id, jobs.c.deadline_at).join_from(devices, jobs, held))
    return {row.id: row.deadline_at for row in rows}
