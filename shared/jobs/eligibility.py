"""Which worker can run which job: the conditions of a claim, in Python and in SQL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from shared.clock import db_now
from shared.db.schema import jobs, workers
from shared.fleet import ledger
from shared.fleet.needs import Needs, Slot
from shared.fleet.plugins import InstalledPlugin
from shared.fleet.workers import AWAY, NOT_LISTENING

Row = Mapping[Any, Any]


#: The columns of a job that `can_run` reads.
REQUIREMENTS = (
    jobs.c.device, jobs.c.framework, jobs.c.plugin, jobs.c.plugin_record, jobs.c.plugin_state, jobs.c.needs,
)  # fmt: skip


def can_run(job: Row, worker: Row) -> bool:
    """Return whether the worker has the job's device, framework and plug-in, and a device that meets its needs."""
    return has_software(job, worker) and has_device(job, worker)


def has_software(job: Row, worker: Row) -> bool:
    """Return whether the worker has a device of the job's kind, and its framework and plug-in."""
    device, framework = job["device"], job["framework"]
    is_of_kind = device == worker["device"] or (device == "auto" and worker["takes_auto"])
    return is_of_kind and (framework is None or framework in worker["frameworks"]) and has_plugin(job, worker)


def has_device(job: Row, worker: Row) -> bool:
    """Return whether the worker's device meets the job's needs and is not cordoned; one not registered has no facts."""
    slot: Slot | None = worker.get("slot")
    if slot is None:
        return job.get("needs") is None
    needs = Needs.parse(job.get("needs"))
    return not slot.is_cordoned and needs.choose(slot, peers_of(worker)) is not None


def peers_of(worker: Row) -> list[Slot]:
    """Return the other devices of the worker's host and kind that are not cordoned, with a worker that is online."""
    return list(worker.get("peers", ()))


def has_plugin(job: Row, worker: Row) -> bool:
    """Return whether the worker has the plug-in that the job needs, in the pinned version or one that continues it."""
    found = next((plugin for plugin in plugins_of(worker) if plugin.plugin == job["plugin"]), None)
    return job["plugin"] is None or (found is not None and found.continues(job["plugin_record"], job["plugin_state"]))


def plugins_of(worker: Row) -> list[InstalledPlugin]:
    """Return the plug-ins of a worker's row."""
    return [InstalledPlugin(**one) for one in worker["plugins"] or ()]


def distinct(workers_online: Iterable[Row]) -> list[Row]:
    """Return one worker of each sort of device, set of frameworks and set of plug-ins."""

    def kind(worker: Row) -> str:
        software = [worker["device"], worker["takes_auto"], sorted(worker["frameworks"]), worker["plugins"]]
        slot: Slot | None = worker.get("slot")
        return repr([*software, slot and slot.sort])

    return list({kind(worker): worker for worker in workers_online}.values())


def runnable_by(worker: Row) -> ColumnElement[bool]:
    """Return `can_run` as an SQL condition on jobs, for a worker's row."""
    return runnable_on(worker["device"], worker["frameworks"], plugins_of(worker), worker["takes_auto"])


def runnable_on(
    device: str, frameworks: Iterable[str], plugins: Iterable[InstalledPlugin], takes_auto: bool = True
) -> ColumnElement[bool]:
    """Return the SQL condition for jobs that a worker with this device, these frameworks and plug-ins can run."""
    known = or_(jobs.c.framework.is_(None), jobs.c.framework.in_(sorted(frameworks)))
    suited = or_(jobs.c.plugin.is_(None), *(_continued_by(plugin) for plugin in plugins))
    return and_(jobs.c.device.in_(("auto", device) if takes_auto else (device,)), known, suited)


def _continued_by(plugin: InstalledPlugin) -> ColumnElement[bool]:
    return and_(jobs.c.plugin == plugin.plugin, continued_by(plugin))


def continued_by(plugin: InstalledPlugin) -> ColumnElement[bool]:
    """Return `InstalledPlugin.continues` as an SQL condition for jobs that need this plug-in."""
    return or_(
        jobs.c.plugin_record.is_(None),
        jobs.c.plugin_record == plugin.record,
        jobs.c.plugin_state.in_(plugin.states),
    )


def ahead_of(job: Row) -> ColumnElement[bool]:
    """Return the SQL condition for due jobs that a claim takes before this one."""
    return and_(jobs.c.state == "queued", jobs.c.run_at <= db_now(), is_before(job))


def is_before(job: Row) -> ColumnElement[bool]:
    """Return the SQL condition for jobs that a claim takes before this one (by `rank`, then id)."""
    return or_(jobs.c.rank < job["rank"], and_(jobs.c.rank == job["rank"], jobs.c.id < job["id"]))


def online_workers(conn: Connection, lease_seconds: float = 30.0) -> list[Row]:
    """Return the workers that take jobs, by name: name, device, frameworks, unusable, state, job_id, owner_id, slot.

    With `peers`, the other devices of its host. The held job and its owner are read from `jobs`, because a worker's
    own heartbeat is seconds old.
    """
    return _workers(conn, lease_seconds, "online", NOT_LISTENING)


def left_workers(conn: Connection, lease_seconds: float) -> list[Row]:
    """Return the workers that left their device, or whose disk is full, by name, with the reason as `left_because`."""
    return _workers(conn, lease_seconds, *AWAY)


def _workers(conn: Connection, lease_seconds: float, *states: str) -> list[Row]:
    held = and_(jobs.c.worker == workers.c.name, jobs.c.state == "running", jobs.c.finished_at.is_(None))
    names = ("name", "device", "frameworks", "unusable", "plugins", "takes_auto", "state", "left_because")
    columns = tuple(workers.c[name] for name in names)
    job = (func.min(jobs.c.id).label("job_id"), func.min(jobs.c.owner_id).label("owner_id"))
    rows = conn.execute(
        select(*columns, *job)
        .select_from(workers.outerjoin(jobs, held))
        .where(workers.c.state.in_(states), workers.c.heartbeat_at >= db_now() - lease_seconds)
        .group_by(workers.c.name)
        .order_by(workers.c.name)
    )
    found = list(rows.mappings())
    known = {slot.worker: slot for slot in ledger.slots(conn, ledger.is_served())}
    hosts: dict[tuple[str, str], list[Slot]] = defaultdict(list)
    for slot in (known[row["name"]] for row in found if row["name"] in known):
        if not slot.is_cordoned:
            hosts[slot.host, slot.kind].append(slot)
    return [_with_devices(row, known.get(row["name"]), hosts) for row in found]


def _with_devices(row: Row, slot: Slot | None, hosts: Mapping[tuple[str, str], list[Slot]]) -> Row:
    peers = [other for other in hosts.get((slot.host, slot.kind), ()) if other.id != slot.id] if slot else []
    return {**row, "slot": slot, "peers": peers}
