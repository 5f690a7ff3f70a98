"""claim, renew, leave_devices, pin, begin: how an attempt gets and keeps its lease."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    ScalarSelect,
    Select,
    case,
    delete,
    false,
    func,
    or_,
    select,
    update,
)
from sqlalchemy import insert as plain_insert

from nightshift.errors import NotFound
from shared.clock import db_now
from shared.datasets import references
from shared.db.engine import on_commit
from shared.db.schema import attempts, checkpoints, jobs, metrics
from shared.events import emit
from shared.failpoints import failpoint
from shared.fleet import ledger
from shared.fleet.needs import Slot
from shared.job_files.checkpoint_record import CheckpointRecord
from shared.jobs.eligibility import continued_by
from shared.jobs.fronts import QUEUED, Front, due_front, fronts, is_due, runnable_parts
from shared.jobs.transitions import sharding
from shared.jobs.transitions.effects import rebuild_summaries
from shared.jobs.transitions.statements import WRITTEN, add_event, add_state_event, as_request, renew_and_update
from shared.jobs.transitions.values import AttemptStatus, Claimed, Claimer, Lease

#: Jobs of a part of the queue among which one is searched that may fill the gap before a gang. Too low: devices idle.
#: Too high: claims are slow while a device is kept.
LOOKED_AT = 100


def claim(conn: Connection, claimer: Claimer, lease_seconds: float) -> Claimed | None:
    """Claim the best due job that this worker can run; None when there is none.

    The best has the lowest `rank` (priority and waiting time in one number, see `shared.jobs.models.AGEING_SECONDS`),
    then the lowest id. Postgres skips rows that another claim has locked; on SQLite the transaction already holds the
    write lock.
    """
    own = ledger.lock_own(conn, claimer.worker)
    for front, chosen in _takeable(conn, claimer, own, partial(ledger.lock_peers, conn, lease_seconds=lease_seconds)):
        claimed = _claim_of(conn, claimer, front, lease_seconds, chosen)
        if claimed is not None:
            ledger.take(conn, chosen, claimed.lease.job_id, claimed.lease.fence, claimer.worker)
            return replace(claimed, devices=tuple(slot.id for slot in chosen))
    return None


def can_claim(conn: Connection, claimer: Claimer, lease_seconds: float = 30.0) -> bool:
    """Return whether there may be a job to claim: a read, so that a worker takes the write lock only to claim one."""
    own = ledger.own(conn, claimer.worker)
    return any(True for _ in _takeable(conn, claimer, own, partial(ledger.peers, conn, lease_seconds=lease_seconds)))


def _takeable(
    conn: Connection, claimer: Claimer, own: Slot | None, find_peers: Callable[[Slot], Sequence[Slot]]
) -> Iterator[tuple[Front, list[Slot]]]:
    """Yield the fronts of the queue that the worker can take now, in the order of the claim, with their devices.

    A worker that is not registered yet takes jobs that any one device will do for. The other devices of its host are
    looked at only for a gang. The gang that the worker's device is kept for stands for its part of the queue: the
    first one there may wait for other devices.
    """
    if own is not None and not own.is_free_for(claimer.worker):
        return
    parts = runnable_parts(claimer.device, claimer.frameworks, claimer.plugins, claimer.takes_auto)
    peers = cache(find_peers)
    kept_for = due_front(conn, own.reserved_for) if own is not None and own.reserved_for is not None else None
    for first in fronts(conn, parts):
        front = kept_for if kept_for is not None and kept_for.part == first.part else first
        chosen = _chosen(front, own, peers) if own is not None else []
        if chosen is not None and (own is not None or front.needs.text is None):
            yield front, chosen


def _chosen(front: Front, own: Slot, peers: Callable[[Slot], Sequence[Slot]]) -> list[Slot] | None:
    """Return the devices for a front, its own first; None: it cannot take them now. None is kept for another gang."""
    if front.needs.devices == 1:
        can_be_filled = own.reserved_for is None or (own.reserved_until, own.yields_below) != (None, None)
        return front.needs.choose(own) if can_be_filled else None
    slots = [slot for slot in (own, *peers(own)) if slot.reserved_for in (None, front.job_id)]
    return front.needs.choose(own, slots[1:]) if own in slots else None


def _while_kept(front: Front, chosen: Sequence[Slot]) -> list[ColumnElement[bool]]:
    """Return the condition for jobs that may take these devices, of which some are kept for a gang.

    See `shared.jobs.reservations.may_fill`.
    """
    kept = [slot for slot in chosen if slot.reserved_for is not None]
    if not kept:
        return []
    if front.needs.devices > 1:
        return [jobs.c.id == front.job_id]
    latest_end = func.coalesce(jobs.c.deadline_at, db_now() + jobs.c.timeout_seconds)
    until, below = kept[0].reserved_until, kept[0].yields_below
    ends_before = [latest_end <= until] if until is not None else []
    gives_way = [jobs.c.priority <= below] if below is not None else []
    return [or_(false(), *ends_before, *gives_way)]


def _claim_of(
    conn: Connection, claimer: Claimer, front: Front, lease_seconds: float, chosen: Sequence[Slot]
) -> Claimed | None:
    """Claim the first job of a part of the queue that no other claim has locked and that may take these devices."""
    statement = (
        update(jobs)
        .where(jobs.c.id == _first(claimer, front, chosen), jobs.c.state == QUEUED)
        .values(
            state="running",
            fence=jobs.c.fence + 1,
            worker=claimer.worker,
            makes_room_for=None,
            lease_until=db_now() + lease_seconds,
            started_at=func.coalesce(jobs.c.started_at, db_now()),
            deadline_at=func.coalesce(jobs.c.deadline_at, db_now() + jobs.c.timeout_seconds),
            event_seq=jobs.c.event_seq + 1,
        )
        .returning(*WRITTEN, *_CLAIMED_COLUMNS)
    )
    row = conn.execute(statement).one_or_none()
    if row is None:
        return None
    _open_attempt(conn, claimer, row)
    lease = Lease(row.id, row.fence, claimer.worker, lease_seconds)
    on_commit(conn, partial(failpoint, "claim.after_commit"))
    on_commit(conn, partial(emit, "job.claimed", job_id=row.id, attempt=row.fence, worker=claimer.worker))
    return Claimed(
        lease=lease,
        kind=row.kind,
        spec=row.spec,
        pinned=row.pinned,
        checkpoints=_ready_checkpoints(conn, row.id) if row.fence > 1 else [],
        deadline_at=row.deadline_at,
        owner_id=row.owner_id,
        stop_requested=as_request(row.stop_requested),
    )


_CLAIMED_COLUMNS = (
    jobs.c.kind,
    jobs.c.spec,
    jobs.c.pinned,
    jobs.c.deadline_at,
    jobs.c.owner_id,
    jobs.c.stop_requested,
)


def _first(claimer: Claimer, front: Front, chosen: Sequence[Slot]) -> ScalarSelect[str]:
    due = [jobs.c.requires == front.requires, jobs.c.priority == front.priority, is_due()]
    fitting = _while_kept(front, chosen)
    if fitting and front.needs.devices == 1:
        ahead = select(jobs.c.id).where(*due).order_by(jobs.c.run_at, jobs.c.id).limit(LOOKED_AT)
        due = [jobs.c.id.in_(ahead)]  # alone: with the others SQLite would read the whole part
    return (
        select(jobs.c.id)
        .where(
            *due,
            or_(jobs.c.deadline_at.is_(None), jobs.c.deadline_at > db_now()),
            *_versions(claimer, front),
            *fitting,
        )
        .order_by(jobs.c.run_at, jobs.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )


def _versions(claimer: Claimer, front: Front) -> list[ColumnElement[bool]]:
    """Return the condition for jobs that the claimer's version of the plug-in continues; none if they need no plug-in.

    What the part of the queue says of its jobs is not repeated: PostgreSQL would expect few rows, and sort them all.
    """
    suited = [plugin for plugin in claimer.plugins if plugin.plugin == front.plugin]
    return [continued_by(plugin) for plugin in suited[:1]]


def _open_attempt(conn: Connection, claimer: Claimer, row: Row[*tuple[Any, ...]]) -> None:
    attempt = {
        "job_id": row.id,
        "fence": row.fence,
        "worker": claimer.worker,
        "device": claimer.device_label,
        "celery_task_id": claimer.celery_task_id,
        "started_at": row.now,
    }
    conn.execute(plain_insert(attempts), attempt)
    add_state_event(conn, row, worker=claimer.worker, device=claimer.device_label)


def _ready_checkpoints(conn: Connection, job_id: str) -> list[CheckpointRecord]:
    rows = conn.execute(
        select(*(checkpoints.c[name] for name in CheckpointRecord.model_fields))
        .where(checkpoints.c.job_id == job_id, checkpoints.c.state == "ready")
        .order_by(checkpoints.c.step.desc(), checkpoints.c.created_at.desc())
    )
    return [CheckpointRecord(**row) for row in rows.mappings()]


def renew(conn: Connection, lease: Lease, lease_seconds: float | None = None) -> AttemptStatus:
    """Renew the lease (the heartbeat). Raises LeaseLost."""
    if lease_seconds is not None and lease_seconds != lease.seconds:
        lease = Lease(lease.job_id, lease.fence, lease.worker, lease_seconds)
    return renew_and_update(conn, lease)[0]


def leave_devices(conn: Connection, lease: Lease) -> AttemptStatus:
    """Free the devices of an attempt that goes on without them. Raises LeaseLost."""
    status, _ = renew_and_update(conn, lease)
    ledger.free(conn, lease.job_id, lease.fence)
    return status


def pin(conn: Connection, lease: Lease, facts: dict[str, Any]) -> dict[str, Any]:
    """Pin facts for all later attempts, e.g. the data set version, for good; return all that is pinned.

    A shard pins them for all shards. Raises LeaseLost; NotFound for a data set version that was deleted meanwhile:
    nothing is pinned, resolve it again.
    """
    status, _ = renew_and_update(conn, lease)
    if status.part_of is not None:
        facts = sharding.adopt(conn, status.part_of, facts)
    pinned = conn.scalars(select(jobs.c.pinned).where(jobs.c.id == lease.job_id)).one()
    for key in ("dataset", "evaluate_on"):
        if key in facts.keys() - pinned.keys() and not references.hold(conn, facts[key]):
            raise NotFound.of("data set version", facts[key])
    values: dict[str, Any] = {}
    if "family" in facts:
        values["family"] = func.coalesce(jobs.c.family, facts["family"])
    if "plugin" in facts.keys() - pinned.keys():
        plugin = facts["plugin"]
        values |= {
            "plugin": plugin["plugin"], "plugin_record": plugin["record"], "plugin_state": plugin["state_version"],
        }  # fmt: skip
    if values and status.part_of is not None:
        conn.execute(update(jobs).where(jobs.c.id == status.part_of).values(**values))
    pinned = {**facts, **pinned}
    conn.execute(update(jobs).where(jobs.c.id == lease.job_id).values(pinned=pinned, **values))
    return pinned


def begin(
    conn: Connection,
    lease: Lease,
    *,
    device_label: str,
    resumed_from: str | None,
    resumed_step: int | None,
    quarantined: list[str],
    environment: dict[str, Any] | None = None,
) -> AttemptStatus:
    """Record from where the runner has loaded its state, and quarantine damaged checkpoints. Raises LeaseLost.

    Metrics of later steps are deleted, because this attempt will write them again (one row per name and step).
    """
    values: dict[str, Any] = {}
    if quarantined:
        damaged = jobs.c.checkpoint_id.in_(quarantined)
        values["checkpoint_id"] = case((damaged, resumed_from), else_=jobs.c.checkpoint_id)
    status, seq = renew_and_update(conn, lease, numbers=1, **values)
    mine = (attempts.c.job_id == lease.job_id, attempts.c.fence == lease.fence)
    conn.execute(
        update(attempts)
        .where(*mine)
        .values(device=device_label, resumed_from=resumed_from, resumed_step=resumed_step, environment=environment)
    )
    if lease.fence > 1 or quarantined:
        _discard_later(conn, lease.job_id, resumed_step, quarantined)
    data = {
        "state": "running",
        "attempt": lease.fence,
        "device": device_label,
        "resumed_from": resumed_from,
        "resumed_step": resumed_step,
        "quarantined": quarantined,
    }
    add_event(conn, lease.job_id, seq, status.now, "attempt", lease.fence, data)
    on_commit(conn, partial(emit, "attempt.began", job_id=lease.job_id, attempt=lease.fence, step=resumed_step))
    if quarantined:
        on_commit(conn, partial(emit, "checkpoint.quarantined", job_id=lease.job_id, checkpoints=quarantined))
    return status


def _with_shards(job_id: str) -> Select[Any]:
    """Select a job and its shards, whose parts it merges."""
    return select(jobs.c.id).where(or_(jobs.c.id == job_id, jobs.c.part_of == job_id))


def _discard_later(conn: Connection, job_id: str, resumed_step: int | None, quarantined: list[str]) -> None:
    beyond = metrics.c.step > resumed_step if resumed_step is not None else metrics.c.step.is_not(None)
    if conn.execute(delete(metrics).where(metrics.c.job_id == job_id, beyond)).rowcount:
        rebuild_summaries(conn, job_id)
    if quarantined:
        conn.execute(
            update(checkpoints)
            .where(checkpoints.c.job_id.in_(_with_shards(job_id)), checkpoints.c.id.in_(quarantined))
            .values(state="quarantined")
        )
