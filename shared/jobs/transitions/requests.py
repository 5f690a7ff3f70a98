"""request_stop, request_drain, request_cancel, resume, edit: requests of users, operators and the service itself."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select

from nightshift.errors import Conflict, InvalidRequest
from nightshift.states import JobState
from shared.clock import db_now
from shared.db.engine import on_commit
from shared.db.rows import existing
from shared.db.schema import devices, jobs
from shared.events import emit
from shared.jobs.ownership import of_owner
from shared.jobs.states import StopRequest
from shared.jobs.transitions import sharding
from shared.jobs.transitions.statements import (
    RUNNING,
    UNFINISHED,
    UNHELD,
    Written,
    add_event,
    add_state_event,
    as_request,
    renew_and_update,
    write_job,
)
from shared.jobs.transitions.values import AttemptStatus, Lease


def request_stop(conn: Connection, job_id: str, request: StopRequest, owner_id: str | None) -> JobState:
    """Stop a job that is not running at once; write a request that a running one receives at its next step.

    `owner_id` None: the service itself. Idempotent. `finish` of a queued or paused job with a checkpoint lets it run
    once more, only to finish. Returns the resulting state. Raises NotFound; Conflict when the state does not allow it.
    """
    if shards := sharding.unfinished(conn, job_id):
        return _stop_whole(conn, job_id, shards, request, owner_id)
    row = _locked(conn, job_id, owner_id)
    state = JobState(row.state)
    if state is JobState.RUNNING:
        return _request_running(conn, row, request, by_system=owner_id is None)
    target = _without_attempt(state, request, has_checkpoint=row.checkpoint_id is not None)
    if target is None:
        raise Conflict(f"Job {job_id} is {state}; it cannot be asked to {request} now.")
    if target is state and request is not StopRequest.FINISH:
        return state
    return _move(conn, row, target, stop_requested=request.value if target is not JobState.PAUSED else None)


def _stop_whole(
    conn: Connection, job_id: str, shards: list[str], request: StopRequest, owner_id: str | None
) -> JobState:
    """Stop the shards of a job and the job itself, which waits for them. `finish` keeps what they have computed."""
    if request is StopRequest.FINISH and not sharding.have_begun(conn, job_id):
        request = StopRequest.CANCEL
    for shard_id in shards:
        if not _stop_shard(conn, _locked(conn, shard_id, None), request):
            raise Conflict(f"Job {job_id} is waiting; it cannot be asked to {request} now.")
    row = _locked(conn, job_id, owner_id)
    target = _OF_WHOLE.get(request)
    if target is None or JobState(row.state).is_final:
        raise Conflict(f"Job {job_id} is {row.state}; it cannot be asked to {request} now.")
    return _move(conn, row, target, stop_requested=None if target is JobState.PAUSED else request.value)


#: The state that a request moves a job to whose shards have not ended.
_OF_WHOLE = {
    StopRequest.CANCEL: JobState.CANCELLED,
    StopRequest.FINISH: JobState.WAITING,
    StopRequest.PAUSE: JobState.PAUSED,
}


def _stop_shard(conn: Connection, row: Row[*tuple[Any, ...]], request: StopRequest) -> bool:
    """Stop a shard, or let one be that has ended; return False if its state does not allow it."""
    state = JobState(row.state)
    if state is JobState.RUNNING:
        _request_running(conn, row, request, by_system=True)
        return True
    target = _without_attempt(state, request, has_checkpoint=True)
    if target is not None:
        _move(conn, row, target, stop_requested=None if target is JobState.PAUSED else request.value)
    return target is not None or state.is_final


def _without_attempt(state: JobState, request: StopRequest, *, has_checkpoint: bool) -> JobState | None:
    """Return the state that a request moves a job without a running attempt to; None: it is refused."""
    if state.is_final:
        return None
    match request:
        case StopRequest.CANCEL:
            return JobState.CANCELLED
        case StopRequest.FINISH:
            return JobState.QUEUED if has_checkpoint else JobState.CANCELLED
        case StopRequest.PAUSE:
            return JobState.PAUSED if state in (JobState.QUEUED, JobState.PAUSED) else None
        case StopRequest.PREEMPT | StopRequest.DRAIN:
            return state  # it holds no device


def _request_running(
    conn: Connection, row: Row[*tuple[Any, ...]], request: StopRequest, *, by_system: bool
) -> JobState:
    pending = as_request(row.stop_requested)
    if pending is request:
        return JobState.RUNNING
    if not request.outranks(pending):
        if by_system:
            return JobState.RUNNING
        raise Conflict(f"Job {row.id} has already been asked to {pending}.")
    written = _write_locked(conn, row, stop_requested=request.value)
    _add_request_event(conn, row.id, row.fence, written.event_seq, written.now, request)
    return JobState.RUNNING


def request_drain(conn: Connection, where: ColumnElement[bool]) -> list[str]:
    """Ask the jobs on these devices to return to the queue after a checkpoint, uncharged; return their ids.

    Cordon the devices first, in a transaction of its own: an ending locks its job before its devices.
    """
    holds = select(devices.c.job_id).where(where, devices.c.job_id == jobs.c.id, devices.c.fence == jobs.c.fence)
    running = (jobs.c.state == RUNNING, UNFINISHED, holds.correlate(jobs).exists())
    found = conn.execute(select(jobs).where(*running).order_by(jobs.c.id).with_for_update()).all()
    for row in found:
        _request_running(conn, row, StopRequest.DRAIN, by_system=True)
    return [row.id for row in found]


def request_cancel(conn: Connection, lease: Lease) -> AttemptStatus:
    """Request cancel under this attempt's fence: an operator terminated its task in Flower. Raises LeaseLost."""
    status, seq = renew_and_update(conn, lease, numbers=1, stop_requested=StopRequest.CANCEL.value)
    _add_request_event(conn, lease.job_id, lease.fence, seq, status.now, StopRequest.CANCEL)
    return status


def _add_request_event(conn: Connection, job_id: str, fence: int, seq: int, at: float, request: StopRequest) -> None:
    data = {"state": "running", "attempt": fence, "stop_requested": request.value}
    add_event(conn, job_id, seq, at, "stop_requested", fence, data)
    on_commit(conn, partial(emit, "job.stop_requested", job_id=job_id, request=request.value))


def resume(conn: Connection, job_id: str, owner_id: str | None) -> JobState:
    """Queue a paused job again, as if submitted now, with its full time-out. Raises NotFound, Conflict."""
    shards = sharding.unfinished(conn, job_id)
    for shard_id in shards:
        shard = _locked(conn, shard_id, None)
        if shard.state == JobState.PAUSED.value:
            _resume(conn, shard, JobState.QUEUED)
    row = _locked(conn, job_id, owner_id)
    if row.state != JobState.PAUSED.value:
        raise Conflict(f"Job {job_id} is {row.state}, not paused.")
    return _resume(conn, row, JobState.WAITING if shards else JobState.QUEUED)


def _resume(conn: Connection, row: Row[*tuple[Any, ...]], target: JobState) -> JobState:
    return _move(conn, row, target, stop_requested=None, run_at=db_now(), deadline_at=None, lost_streak=0)


def align_shards(conn: Connection) -> int:
    """Cancel or resume the shards that are not in step with their whole; return how many."""
    strays = sharding.strays(conn)
    for shard_id, request in strays:
        row = _locked(conn, shard_id, None)
        if request is not None:
            _stop_shard(conn, row, request)
        elif row.state == JobState.PAUSED.value:
            _resume(conn, row, JobState.QUEUED)
    return len(strays)


def edit(conn: Connection, job_id: str, changes: Mapping[str, Any], owner_id: str | None, by: str) -> list[str]:
    """Change name, notes, tags (a None value removes one) or priority, but never the spec.

    Returns the changed fields; one event holds their old and new values. Raises NotFound, InvalidRequest, and Conflict
    for the priority of a job that has started or ended.
    """
    if "priority" in changes:
        sharding.set_priority(conn, job_id, changes["priority"])
    row = _locked(conn, job_id, owner_id, jobs.c.name, jobs.c.notes, jobs.c.tags, jobs.c.priority)
    wanted = dict(changes)
    if "tags" in wanted:
        wanted["tags"] = _merged(row.tags, wanted["tags"])
    new = {field: value for field, value in wanted.items() if getattr(row, field) != value}
    if not new:
        return []
    if "priority" in new and JobState(row.state) not in _NOT_YET_RUNNING:
        raise Conflict(f"Job {job_id} is {row.state}; a priority can be changed while a job waits.")
    written = _write_locked(conn, row, **new)
    changed = {field: {"before": getattr(row, field), "after": value} for field, value in new.items()}
    add_event(conn, job_id, written.event_seq, written.now, "edited", row.fence, {"by": by, "changes": changed})
    on_commit(conn, partial(emit, "job.edited", job_id=job_id, fields=sorted(new)))
    return list(new)


#: States of jobs whose rank still matters.
_NOT_YET_RUNNING = frozenset({JobState.WAITING, JobState.QUEUED, JobState.PAUSED})
#: Largest number of tags of a job.
_MAX_TAGS = 50


def _merged(before: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    merged = {key: value for key, value in {**before, **changes}.items() if value is not None}
    if len(merged) > _MAX_TAGS:
        raise InvalidRequest.field(("tags",), f"a job has at most {_MAX_TAGS} tags; this would make {len(merged)}")
    return merged


def _locked(conn: Connection, job_id: str, owner_id: str | None, *more: Any) -> Row[*tuple[Any, ...]]:
    columns = (jobs.c.id, jobs.c.state, jobs.c.fence, jobs.c.stop_requested, jobs.c.checkpoint_id, *more)
    statement = select(*columns).where(jobs.c.id == job_id, of_owner(owner_id)).with_for_update()
    return existing(conn.execute(statement).one_or_none(), "job", job_id)


def _write_locked(conn: Connection, row: Row[*tuple[Any, ...]], **values: Any) -> Written:
    """Change a job whose row is locked; the conditions keep the guarantee even without that."""
    conditions = (jobs.c.id == row.id, jobs.c.state == row.state, jobs.c.fence == row.fence)
    return write_job(conn, *conditions, **values).one()


def _move(conn: Connection, row: Row[*tuple[Any, ...]], target: JobState, **values: Any) -> JobState:
    """Move a job without a running attempt."""
    values |= UNHELD | {"state": target.value}
    if target.is_final:
        values["finished_at"] = db_now()
    add_state_event(conn, _write_locked(conn, row, **values), stop_requested=values.get("stop_requested"))
    on_commit(conn, partial(emit, f"job.{target.value}", job_id=row.id))
    return target
