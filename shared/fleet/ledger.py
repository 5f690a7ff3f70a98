"""The ledger of devices: register, take and free them; cordon, uncordon, forget and list them.

A claim takes its devices in its own transaction and an ending frees them in its own, so a device is held by at most one
attempt. A worker takes its own device also from an earlier attempt of its own, whose process has ended.

Transactions that wait for several rows lock them in the order of `in_order`. A claim waits for its own device alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, delete, func, or_, select, update

from nightshift.errors import Conflict, NotFound
from shared.clock import db_now, iso
from shared.db.engine import insert, on_commit
from shared.db.schema import devices, jobs, workers
from shared.events import emit
from shared.fleet.needs import Slot
from shared.fleet.workers import WorkerInfo
from shared.jobs.finishing import is_finishing
from shared.jobs.ownership import owned_ids

_UNRESERVED: dict[str, Any] = {"reserved_for": None, "reserved_until": None, "yields_below": None}
#: Column values of a device that no attempt holds.
_FREE: dict[str, Any] = {"job_id": None, "fence": None, "holder": None, "held_since": None, "is_filler": False}


def register(conn: Connection, worker: WorkerInfo) -> None:
    """Record the device of a worker that has started. A cordon stays, and so does what an attempt holds."""
    device_id = worker.device_uuid or worker.name
    conn.execute(in_order(or_(devices.c.worker == worker.name, devices.c.id == device_id)))
    others = (devices.c.worker == worker.name, devices.c.id != device_id)
    conn.execute(update(devices).where(*others).values(worker=None))
    facts = {
        "host": worker.host,
        "kind": worker.device,
        "worker": worker.name,
        "model": worker.device_name,
        "memory_bytes": worker.memory_bytes,
        "labels": sorted(worker.labels),
    }
    held = _held_by(conn, worker.name)
    statement = insert(conn, devices).values(id=device_id, **facts, **held, registered_at=db_now())
    is_held = devices.c.job_id.is_not(None)
    now_held = {name: case((is_held, devices.c[name]), else_=statement.excluded[name]) for name in held}
    conn.execute(statement.on_conflict_do_update(index_elements=["id"], set_=facts | now_held))


def _held_by(conn: Connection, worker: str) -> dict[str, Any]:
    """Return what a device is held by that was not this worker's: the worker may have claimed before it registered."""
    running = (jobs.c.worker == worker, jobs.c.state == "running", jobs.c.finished_at.is_(None), ~is_finishing())
    job = conn.execute(select(jobs.c.id, jobs.c.fence).where(*running).limit(1)).one_or_none()
    found = {"job_id": job.id, "fence": job.fence, "holder": worker, "held_since": db_now()} if job else {}
    return _FREE | found


def in_order(*conditions: ColumnElement[bool], skip_locked: bool = False) -> Select[Any]:
    """Select and lock the ids of devices in the order that prevents two transactions from waiting for each other."""
    found = select(devices.c.id).where(*conditions).order_by(devices.c.id)
    return found.with_for_update(skip_locked=skip_locked)


# -- claims and endings ---------------------------------------------------------------------------


def lock_own(conn: Connection, worker: str) -> Slot | None:
    """Lock the device of a worker and return it; None: it is not registered yet."""
    row = conn.execute(_of_worker(worker).with_for_update()).one_or_none()
    return _slot(row) if row is not None else None


def own(conn: Connection, worker: str) -> Slot | None:
    """Return the device of a worker; None: it is not registered yet."""
    row = conn.execute(_of_worker(worker)).one_or_none()
    return _slot(row) if row is not None else None


def lock_peers(conn: Connection, own: Slot, lease_seconds: float) -> list[Slot]:
    """Lock the free devices of the same kind and host whose workers are online, and return them.

    Those that another claim has locked are left out: a gang takes what is free now, or nothing, and never waits.
    """
    found = _peers(own, lease_seconds).with_for_update(skip_locked=True, of=devices)
    return _free_ones(conn, found, own)


def peers(conn: Connection, own: Slot, lease_seconds: float) -> list[Slot]:
    """Return what `lock_peers` would find, without a lock."""
    return _free_ones(conn, _peers(own, lease_seconds), own)


def _peers(own: Slot, lease_seconds: float) -> Select[Any]:
    is_online = and_(workers.c.state == "online", workers.c.heartbeat_at >= db_now() - lease_seconds)
    of_host = (devices.c.host == own.host, devices.c.kind == own.kind, devices.c.id != own.id)
    found = _SLOTS.join_from(devices, workers, workers.c.name == devices.c.worker)
    return found.where(*of_host, is_online).order_by(*_ORDER)


def _free_ones(conn: Connection, found: Select[Any], own: Slot) -> list[Slot]:
    slots_found = [_slot(row) for row in conn.execute(found)]
    return [slot for slot in slots_found if own.worker is not None and slot.is_free_for(own.worker)]


def take(conn: Connection, chosen: Sequence[Slot], job_id: str, fence: int, worker: str) -> None:
    """Let an attempt hold devices that its claim has locked.

    Of others that were kept for it, `reserve` gives up those that another transaction has locked.
    """
    fills = any(slot.reserved_for not in (None, job_id) for slot in chosen)
    held = {"job_id": job_id, "fence": fence, "holder": worker, "held_since": db_now(), "is_filler": fills}
    conn.execute(update(devices).where(devices.c.id.in_([slot.id for slot in chosen])).values(**held))
    if any(slot.reserved_for == job_id for slot in chosen):
        kept = in_order(devices.c.reserved_for == job_id, skip_locked=True)
        conn.execute(update(devices).where(devices.c.id.in_(kept)).values(**_UNRESERVED))


def free(conn: Connection, job_id: str, fence: int) -> None:
    """Free what an attempt still holds."""
    mine = (devices.c.job_id == job_id, devices.c.fence == fence)
    conn.execute(update(devices).where(devices.c.id.in_(in_order(*mine)), *mine).values(**_FREE))


def slots(conn: Connection, *conditions: ColumnElement[bool]) -> list[Slot]:
    """Return the devices in the ledger, by host and worker."""
    return [_slot(row) for row in conn.execute(_SLOTS.where(*conditions).order_by(*_ORDER))]


def is_served() -> ColumnElement[bool]:
    """Return the SQL condition for devices that a worker serves."""
    return devices.c.worker.is_not(None)


_OF_SLOT = (
    devices.c.id, devices.c.host, devices.c.kind, devices.c.model, devices.c.worker, devices.c.memory_bytes,
    devices.c.labels, devices.c.cordoned_at, devices.c.job_id, devices.c.holder,
    devices.c.reserved_for, devices.c.reserved_until, devices.c.yields_below, devices.c.is_filler,
)  # fmt: skip
_SLOTS = select(*_OF_SLOT)
_ORDER = (devices.c.host, devices.c.worker, devices.c.id)


_HELD = ("job_id", "holder", "reserved_for", "reserved_until", "yields_below", "is_filler")


def _of_worker(worker: str) -> Select[Any]:
    return _SLOTS.where(devices.c.worker == worker)


def _slot(row: Row[*tuple[Any, ...]]) -> Slot:
    facts = {name: row._mapping[name] for name in ("id", "host", "kind", "model", "worker", "memory_bytes")}
    held = {name: row._mapping[name] for name in _HELD}
    return Slot(**facts, **held, labels=frozenset(row.labels), is_cordoned=row.cordoned_at is not None)


# -- operators ------------------------------------------------------------------------------------


def cordon(conn: Connection, name: str) -> list[str]:
    """Let no attempt take a device, or any device of a host, until `uncordon`; return their ids. Raises NotFound."""
    return _set(conn, name, "device.cordoned", func.coalesce(devices.c.cordoned_at, db_now()))


def uncordon(conn: Connection, name: str) -> list[str]:
    """Let attempts take a device, or all devices of a host, again; return their ids. Raises NotFound."""
    return _set(conn, name, "device.uncordoned", None)


def _set(conn: Connection, name: str, event: str, cordoned_at: Any) -> list[str]:
    of_name = devices.c.id.in_(in_order(named(name)))
    statement = update(devices).where(of_name).values(cordoned_at=cordoned_at).returning(devices.c.id)
    found = sorted(conn.scalars(statement))
    if not found:
        raise NotFound.of("device or host", name)
    on_commit(conn, partial(emit, event, name=name, devices=found))
    return found


def forget(conn: Connection, name: str, lease_seconds: float) -> list[str]:
    """Delete the rows of a device, or of a host, that is gone, and those of its workers; return the devices' ids.

    One that comes back registers again. Raises NotFound; Conflict where a worker lives or an attempt holds a device.
    """
    found = conn.execute(in_order(named(name)).add_columns(devices.c.worker, devices.c.job_id)).all()
    served = or_(workers.c.name.in_([row.worker for row in found]), workers.c.name == name, workers.c.host == name)
    is_alive = and_(workers.c.state != "offline", workers.c.heartbeat_at >= db_now() - lease_seconds)
    its_workers = select(workers.c.name, is_alive.label("is_alive")).where(served).order_by(workers.c.name)
    known = conn.execute(its_workers.with_for_update()).all()
    if not found and not known:
        raise NotFound.of("device or host", name)
    if living := [row.name for row in known if row.is_alive]:
        raise Conflict(f"{living[0]} is alive; only devices that are gone can be forgotten: stop its worker first.")
    if held := [row.id for row in found if row.job_id is not None]:
        raise Conflict(f"An attempt still holds {held[0]}; try again when its lease has expired.")
    forgotten = sorted(row.id for row in found)
    conn.execute(delete(devices).where(devices.c.id.in_(forgotten)))
    conn.execute(delete(workers).where(workers.c.name.in_([row.name for row in known])))
    on_commit(conn, partial(emit, "device.forgotten", name=name, devices=forgotten))
    return forgotten


def named(name: str) -> ColumnElement[bool]:
    """Return the SQL condition for the device of this worker or UUID, or those of this host."""
    return or_(devices.c.id == name, devices.c.worker == name, devices.c.host == name)


def list_devices(
    conn: Connection, lease_seconds: float, owner_id: str | None, *conditions: ColumnElement[bool]
) -> list[dict[str, Any]]:
    """Return the devices, by host and worker. Jobs of other owners are left out; `owner_id` None sees all."""
    state = case((workers.c.heartbeat_at >= db_now() - lease_seconds, workers.c.state), else_="offline")
    rows = conn.execute(
        select(devices, state.label("state"))
        .select_from(devices.outerjoin(workers, workers.c.name == devices.c.worker))
        .where(*conditions)
        .order_by(*_ORDER)
    ).all()
    mine = owned_ids(conn, (row.job_id for row in rows), owner_id)
    return [_view(row._mapping, mine) for row in rows]


def _view(row: Any, mine: set[str]) -> dict[str, Any]:
    is_mine = row["job_id"] in mine
    times = {name: iso(row[name]) if row[name] is not None else None for name in ("cordoned_at", "held_since")}
    return {
        **{name: row[name] for name in ("id", "host", "kind", "worker", "model", "memory_bytes", "labels", "state")},
        **times,
        "is_held": row["job_id"] is not None,
        "job_id": row["job_id"] if is_mine else None,
        "attempt": row["fence"] if is_mine else None,
        "holder": row["holder"],
    }
