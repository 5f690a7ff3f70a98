"""Shards: the parts of a batch inference with `inference.shards`, each a job that any worker runs.

The job itself, the *whole*, waits for its shards and then merges what they left. It has their progress, and what
is asked of it is asked of them. A shard's row is always locked before that of its whole, so that no two transactions
wait for each other.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, Row, func, or_, select, update

from nightshift.errors import Conflict
from nightshift.names import SHARD
from nightshift.states import JobState
from shared.clock import db_now
from shared.db.schema import jobs
from shared.jobs.eligibility import can_run, online_workers
from shared.jobs.states import StopRequest
from shared.jobs.transitions.statements import renew_and_update
from shared.jobs.transitions.values import Lease
from shared.specs.jobs import MAX_SHARDS, BatchInferJob

_whole = jobs.alias("whole")
#: States of a whole whose shards are not all done.
_DIVIDED = (JobState.WAITING.value, JobState.PAUSED.value)


# -- submission -----------------------------------------------------------------------------------


def number_of(conn: Connection, spec: BatchInferJob, row: Mapping[str, Any]) -> int:
    """Return the number of shards of a new job; 1: it is not divided."""
    if spec.inference.shards != "auto":
        return spec.inference.shards
    able = sum(can_run(row, worker) for worker in online_workers(conn))
    return max(1, min(able, MAX_SHARDS))


def shard_rows(whole: Mapping[str, Any], number: int) -> list[dict[str, Any]]:
    """Return the rows of a whole's shards. The whole's time limit is theirs together, so they have none."""
    spec = {**whole["spec"], "inference": {**whole["spec"]["inference"], "shards": 1}}
    own = {"kind": SHARD, "part_of": whole["id"], "spec": spec, "timeout_seconds": None, "copied_from": None}
    own |= {"idempotency_key": None, "body_hash": None}
    return [
        {**whole, **own, "id": secrets.token_hex(8), "pinned": {**whole["pinned"], "shard": place}}
        for place in range(number)
    ]


# -- what shards have in common -------------------------------------------------------------------


def adopt(conn: Connection, whole_id: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Pin facts for all shards of a whole, and return what is pinned: a fact that another has pinned stays."""
    before = _locked_whole(conn, whole_id).pinned
    pinned = {**facts, **before}
    if pinned != before:
        conn.execute(update(jobs).where(jobs.c.id == whole_id).values(pinned=pinned))
    return {name: pinned[name] for name in pinned if name != "shards"}


def agree(conn: Connection, lease: Lease, engine: str) -> str:
    """Return the engine that all shards compute with: the proposed one if none was proposed before. Raises LeaseLost.

    A job that is not a shard computes with its own.
    """
    status, _ = renew_and_update(conn, lease)
    if status.part_of is None:
        return engine
    agreed: str = adopt(conn, status.part_of, {"engine": engine})["engine"]
    return agreed


def roll_up(conn: Connection, whole_id: str) -> None:
    """Write the progress of all shards as the whole's. Its row is locked first, so that the last writer counts all."""
    whole = _locked_whole(conn, whole_id)
    if whole.state not in _DIVIDED:
        return
    shards = conn.execute(select(jobs.c.state, jobs.c.progress, jobs.c.result).where(jobs.c.part_of == whole_id))
    conn.execute(
        update(jobs)
        .where(jobs.c.id == whole_id, jobs.c.state.in_(_DIVIDED))
        .values(
            progress=whole_progress(shards.all()),
            progress_seq=jobs.c.event_seq + 1,
            event_seq=jobs.c.event_seq + 1,
            started_at=func.coalesce(jobs.c.started_at, db_now()),
            deadline_at=func.coalesce(jobs.c.deadline_at, db_now() + jobs.c.timeout_seconds),
        )
    )


def _locked_whole(conn: Connection, whole_id: str) -> Row[*tuple[Any, ...]]:
    columns = (jobs.c.state, jobs.c.pinned)
    return conn.execute(select(*columns).where(jobs.c.id == whole_id).with_for_update()).one()


def whole_progress(shards: Iterable[Any]) -> dict[str, Any]:
    """Return the progress of a whole from `state`, `progress` and `result` of its shards."""
    step, total, speed, phases = 0, 0, 0.0, list[str]()
    for shard in shards:
        progress = shard.progress or {}
        total = max(total, progress.get("whole_steps") or 0)
        if shard.state == JobState.SUCCEEDED:
            step += int(sum(shard.result["metrics"][name] for name in ("rows", "errors")))
            continue
        step += progress.get("step") or 0
        if shard.state == JobState.RUNNING:
            speed += progress.get("samples_per_second") or 0.0
            phases.append(progress.get("phase") or "load")
    phase = "infer" if "infer" in phases else next(iter(phases), "load")
    found: dict[str, Any] = {"step": step, "epoch": 0, "phase": phase}
    if total:
        found |= {"total_steps": total, "percent": round(100 * step / total, 2)}
    if speed:
        found |= {"samples_per_second": round(speed, 1)}
        found |= {"eta_seconds": round((total - step) / speed, 2)} if total else {}
    return found


# -- requests -------------------------------------------------------------------------------------


def unfinished(conn: Connection, whole_id: str) -> list[str]:
    """Return the shards of a job that have not ended, in the order in which they are locked."""
    shards = select(jobs.c.id).where(jobs.c.part_of == whole_id, jobs.c.finished_at.is_(None))
    return list(conn.scalars(shards.order_by(jobs.c.id)))


def refuse_shard(row: Mapping[Any, Any]) -> None:
    """Raise Conflict for a job that is a shard: it is controlled by its whole."""
    if (whole_id := row["part_of"]) is not None:
        raise Conflict(f"Job {row['id']} is a shard of job {whole_id}; do this to {whole_id} instead.")


def set_priority(conn: Connection, whole_id: str, priority: int) -> None:
    """Change the priority of the shards that have not started."""
    states = [state.value for state in (JobState.WAITING, JobState.QUEUED, JobState.PAUSED)]
    for shard_id in unfinished(conn, whole_id):
        statement = update(jobs).where(jobs.c.id == shard_id, jobs.c.state.in_(states))
        conn.execute(statement.values(priority=priority))


def have_begun(conn: Connection, whole_id: str) -> bool:
    """Return whether a shard of the whole is running, has ended or has a part of its rows."""
    begun = or_(jobs.c.checkpoint_id.is_not(None), jobs.c.state.in_(["running", "succeeded"]))
    return conn.execute(select(jobs.c.id).where(jobs.c.part_of == whole_id, begun).limit(1)).first() is not None


def strays(conn: Connection) -> list[tuple[str, StopRequest | None]]:
    """Return the shards that are not in step with their whole: to cancel, or (None) to resume.

    The whole failed or was cancelled, or was resumed while the shard was still about to pause.
    """
    living = select(jobs.c.id, _whole.c.finished_at).join(_whole, _whole.c.id == jobs.c.part_of)
    unrequested = func.coalesce(jobs.c.stop_requested, "") != StopRequest.CANCEL.value
    left = living.where(jobs.c.finished_at.is_(None), _whole.c.finished_at.is_not(None), unrequested)
    paused = living.where(
        jobs.c.finished_at.is_(None), jobs.c.state == JobState.PAUSED.value, _whole.c.state == JobState.WAITING.value
    )
    found: list[tuple[str, StopRequest | None]] = [(row.id, StopRequest.CANCEL) for row in conn.execute(left)]
    return found + [(row.id, None) for row in conn.execute(paused)]
