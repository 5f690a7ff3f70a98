"""Registry of workers: register/deregister, heartbeat, list.

A worker is online while its heartbeat is younger than a lease. Nothing else depends on this table: jobs are held by
leases.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection, select, update

from shared.clock import db_now, iso
from shared.db.engine import insert, on_commit
from shared.db.schema import jobs, workers
from shared.events import emit
from shared.fleet.plugins import InstalledPlugin
from shared.jobs.finishing import is_finishing
from shared.jobs.ownership import owned_ids

#: State of a worker that runs but lost the subscription to one of its queues; it subscribes again soon.
NOT_LISTENING = "not_listening"
#: State of a worker that runs but left its device, because no framework works on it any more; it looks again.
DEVICE_FAILED = "device_failed"
#: State of a worker that runs but takes no jobs, because its host's disk has no room; it looks again.
DISK_FULL = "disk_full"
#: States of workers that run and take no jobs before something is mended, with the reason as `left_because`.
AWAY = (DEVICE_FAILED, DISK_FULL)
#: Most characters of the reason.
_LONGEST = 500


@dataclass(frozen=True)
class WorkerInfo:
    """A worker's identity, device and software."""

    name: str  # gpu0@host, cpu0@host
    host: str
    pid: int
    device: str  # cpu | gpu
    device_name: str
    device_uuid: str | None = None
    memory_bytes: int | None = None
    frameworks: list[str] = field(default_factory=list)
    unusable: dict[str, str] = field(default_factory=dict)
    plugins: list[InstalledPlugin] = field(default_factory=list)
    takes_auto: bool = True
    labels: list[str] = field(default_factory=list)
    versions: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class HostUsage:
    """Memory and CPU usage of a host. None: unknown."""

    memory_bytes: int | None = None
    memory_used_bytes: int | None = None
    cpu_percent: float | None = None  # of all cores, since the previous heartbeat
    cores: int | None = None


@dataclass(frozen=True)
class RunnerUsage:
    """Host memory and CPU used by the runners of one worker; zero without one."""

    memory_bytes: int = 0
    cpu_percent: float | None = None  # 100: one core, since the previous heartbeat


@dataclass(frozen=True)
class Usage:
    """Usage of a worker's device: its GPU, or the host for a CPU worker. None: unknown."""

    memory_bytes: int | None = None
    memory_used_bytes: int | None = None
    busy_percent: float | None = None
    temperature_celsius: float | None = None
    host: HostUsage = field(default_factory=HostUsage)
    runner: RunnerUsage | None = None
    #: Frameworks that the worker has loaded: their next job starts at once.
    loaded: list[str] = field(default_factory=list)


def register(conn: Connection, worker: WorkerInfo) -> None:
    """Record that a worker has started; replaces a previous one of the same name."""
    fresh = {"state": "online", "left_because": None, "job_id": None, "usage": None}
    known = asdict(worker)
    del known["labels"]  # of its device: see `shared.fleet.ledger`
    row = {**known, **fresh, "started_at": db_now(), "heartbeat_at": db_now()}
    changed = {column: value for column, value in row.items() if column != "name"}
    statement = insert(conn, workers).values(**row)
    conn.execute(statement.on_conflict_do_update(index_elements=["name"], set_=changed))
    on_commit(conn, lambda: emit("worker.registered", worker=worker.name, device=worker.device_name))


def heartbeat(
    conn: Connection,
    name: str,
    *,
    job_id: str | None = None,
    draining: bool = False,
    listening: bool = True,
    left_because: str | None = None,
    disk_full: str | None = None,
    usage: Usage | None = None,
) -> bool:
    """Renew a worker's heartbeat; return False if its row is missing and it must register again.

    `listening`: it is subscribed to all its queues. `left_because`: it left its device. `disk_full`: its disk
    has no room.
    """
    because = left_because or disk_full
    away = DEVICE_FAILED if left_because else DISK_FULL if disk_full else None
    values = {
        "heartbeat_at": db_now(),
        "state": "draining" if draining else away or ("online" if listening else NOT_LISTENING),
        "left_because": because[:_LONGEST] if because else None,
        "job_id": job_id,
        "usage": asdict(usage) if usage else None,
    }
    return conn.execute(update(workers).where(workers.c.name == name).values(**values)).rowcount == 1


def describe(conn: Connection, name: str, frameworks: list[str], unusable: dict[str, str]) -> None:
    """Record which frameworks work on a worker's device now, and why others do not."""
    conn.execute(update(workers).where(workers.c.name == name).values(frameworks=frameworks, unusable=unusable))


def deregister(conn: Connection, name: str, pid: int | None = None) -> None:
    """Record that a worker has stopped. With `pid`, only that process: a successor stays registered."""
    statement = update(workers).where(workers.c.name == name).values(state="offline", job_id=None)
    if pid is not None:
        statement = statement.where(workers.c.pid == pid)
    conn.execute(statement)
    on_commit(conn, lambda: emit("worker.deregistered", worker=name))


def mark_offline(conn: Connection, lease_seconds: float) -> list[str]:
    """Mark workers whose heartbeat is older than a lease as offline; return their names."""
    statement = (
        update(workers)
        .where(workers.c.state != "offline", workers.c.heartbeat_at < db_now() - lease_seconds)
        .values(state="offline", job_id=None)
        .returning(workers.c.name)
    )
    return list(conn.scalars(statement))


def list_workers(conn: Connection, lease_seconds: float, owner_id: str | None = None) -> list[dict[str, Any]]:
    """Return all workers ever registered, by name; offline if the heartbeat is older than a lease.

    Jobs of other owners are left out; `owner_id` None sees all.
    """
    rows = conn.execute(select(workers, db_now().label("now")).order_by(workers.c.name)).all()
    finishing = _finishing(conn)
    found = (row.job_id for row in rows), *finishing.values()
    mine = owned_ids(conn, itertools.chain.from_iterable(found), owner_id)
    return [_view(dict(row._mapping), lease_seconds, finishing.get(row.name, []), mine) for row in rows]


def _finishing(conn: Connection) -> dict[str, list[str]]:
    """Return the running jobs that have left their device, by worker."""
    running = (jobs.c.finished_at.is_(None), jobs.c.state == "running")
    statement = select(jobs.c.worker, jobs.c.id).where(*running, is_finishing()).order_by(jobs.c.id)
    found: dict[str, list[str]] = {}
    for worker, job_id in conn.execute(statement):
        found.setdefault(worker, []).append(job_id)
    return found


def _view(row: dict[str, Any], lease_seconds: float, finishing: list[str], mine: set[str]) -> dict[str, Any]:
    is_online = row.pop("now") - row["heartbeat_at"] <= lease_seconds
    if not is_online or row["state"] == "offline":
        row |= {"state": "offline", "left_because": None, "job_id": None, "usage": None}
        finishing = []
    if row["job_id"] not in mine or row["job_id"] in finishing:  # the last heartbeat was before it left the device
        row["job_id"] = None
    row["finishing_job_ids"] = [job_id for job_id in finishing if job_id in mine]
    return row | {"started_at": iso(row["started_at"]), "heartbeat_at": iso(row["heartbeat_at"])}
