"""succeed, fail, stop, release: the endings of an attempt.

Each raises LeaseLost once a later fence exists, and may be repeated when the reply to its COMMIT was lost.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, case, or_, select, update

from nightshift.errors import Forbidden
from nightshift.states import JobState
from shared.clock import db_now
from shared.db.engine import on_commit
from shared.db.schema import jobs
from shared.errors import LeaseLost
from shared.events import emit
from shared.failpoints import failpoint
from shared.jobs.models import AGEING_SECONDS
from shared.jobs.retry import Decision, RetryCounters, after_failure
from shared.jobs.states import AttemptOutcome, StopRequest
from shared.jobs.transitions import sharding
from shared.jobs.transitions.dependencies import resolve_dependencies
from shared.jobs.transitions.effects import write_artifacts
from shared.jobs.transitions.quarantine import quarantine
from shared.jobs.transitions.statements import (
    UNHELD,
    WRITTEN,
    Written,
    add_event,
    add_state_event,
    as_request,
    close_attempt,
    idempotent_result,
    owned_by,
    write_job,
)
from shared.jobs.transitions.values import ArtifactRecord, Ending, Lease, ModelVersionRecord
from shared.models import promotions
from shared.models.registry import create_version

_urgent = jobs.alias("urgent")


def succeed(
    conn: Connection,
    lease: Lease,
    *,
    result: dict[str, Any],
    artifacts: list[ArtifactRecord],
    register: ModelVersionRecord | None = None,
    ending: Ending | None = None,
) -> bool:
    """Commit the result with its files and its model version, all or nothing. Raises LeaseLost.

    False: cancel was requested and nothing is written; stop the attempt instead.
    """
    result = {"artifacts": [record.path for record in artifacts], **result}
    promotion = register.promotion if register else None
    not_cancelled = or_(jobs.c.stop_requested.is_(None), jobs.c.stop_requested != StopRequest.CANCEL.value)
    statement = (
        update(jobs)
        .where(owned_by(lease), not_cancelled)
        .values(
            state="succeeded",
            lease_until=None,
            result=result,
            error=None,
            finished_at=db_now(),
            event_seq=jobs.c.event_seq + len(artifacts) + (2 if promotion else 1),
        )
        .returning(*WRITTEN, jobs.c.owner_id, jobs.c.part_of)
    )
    row = conn.execute(statement).one_or_none()
    if row is None:
        return _not_succeeded(conn, lease)
    first = row.event_seq - len(artifacts) - (1 if promotion else 0)
    if register is not None:
        result = _registered(conn, lease, register, result, row)
        conn.execute(update(jobs).where(jobs.c.id == lease.job_id).values(result=result))
    write_artifacts(conn, lease, artifacts, first, row.now)
    close_attempt(conn, lease.job_id, lease.fence, AttemptOutcome.SUCCEEDED, ending=ending)
    add_state_event(conn, row, result=result)
    if row.part_of is not None:  # otherwise maintenance lets the whole go on
        sharding.roll_up(conn, row.part_of)
        resolve_dependencies(conn, job_id=row.part_of)
    failpoint("succeed.before_commit")
    on_commit(conn, partial(failpoint, "succeed.after_commit"))
    on_commit(conn, partial(emit, "job.succeeded", job_id=lease.job_id, attempt=lease.fence))
    return True


def _registered(
    conn: Connection, lease: Lease, register: ModelVersionRecord, result: dict[str, Any], row: Row[*tuple[Any, ...]]
) -> dict[str, Any]:
    """Register and promote the model; return the result with the outcome of both.

    If another owner took the model's name while the job ran, the model stays with the job and can be registered under
    another name. A promotion has the sequence number before the last.
    """
    version, facts = _version_of(conn, lease, register, row)
    result = {**result, "model": {**(result.get("model") or {}), **facts}}
    if register.promotion is None:
        return result
    if version is None:
        promotion = promotions.refused(conn, register.name, register.promotion, facts["not_registered"])
    else:
        promotion = promotions.settle(conn, lease.job_id, register.name, version, register.promotion)
    add_event(conn, lease.job_id, row.event_seq - 1, row.now, "promotion", lease.fence, promotion)
    return {**result, "promoted": promotion["promoted"], "promotion": promotion}


def _version_of(
    conn: Connection, lease: Lease, register: ModelVersionRecord, row: Row[*tuple[Any, ...]]
) -> tuple[int | None, dict[str, str]]:
    """Return (version, entries for the result); the version is None if the name is another owner's."""
    try:
        version = create_version(conn, lease.job_id, register, row.now, row.owner_id)
    except Forbidden as refused:
        on_commit(conn, partial(emit, "model.not_registered", job_id=lease.job_id, name=register.name))
        return None, {"not_registered": refused.detail}
    return version, {"registered": f"{register.name}@{version}"}


def _not_succeeded(conn: Connection, lease: Lease) -> bool:
    if conn.execute(select(jobs.c.id).where(owned_by(lease))).one_or_none() is not None:
        return False  # the lease is still held, so cancel was requested
    return idempotent_result(conn, lease, AttemptOutcome.SUCCEEDED) is JobState.SUCCEEDED


def fail(
    conn: Connection,
    lease: Lease,
    *,
    outcome: AttemptOutcome,
    error: dict[str, Any],
    ending: Ending | None = None,
    poison_limit: int = 3,
) -> JobState:
    """End an attempt that did not succeed; `retry.after_failure` decides the new state, which is returned.

    The second consecutive attempt that dies while loading a checkpoint quarantines it and resets the job's lost
    streak. `error` is {type, message, retryable}. Raises LeaseLost.
    """
    row = conn.execute(select(*COUNTER_COLUMNS).where(owned_by(lease)).with_for_update()).one_or_none()
    if row is None:
        return idempotent_result(conn, lease, outcome)
    counters = retry_counters(row)
    if quarantine(conn, lease, outcome, error, ending or Ending()):
        counters = replace(counters, lost_streak=0)
    decision = after_failure(outcome, bool(error.get("retryable")), counters, poison_limit=poison_limit)
    return record_failure(conn, lease, outcome, error, ending or Ending(), decision)


COUNTER_COLUMNS = (jobs.c.retries, jobs.c.max_retries, jobs.c.lost_streak, jobs.c.stop_requested)


def retry_counters(row: Row[*tuple[Any, ...]]) -> RetryCounters:
    """Return the counters in a row of COUNTER_COLUMNS."""
    return RetryCounters(row.retries, row.max_retries, row.lost_streak, as_request(row.stop_requested))


def record_failure(
    conn: Connection, lease: Lease, outcome: AttemptOutcome, error: dict[str, Any], ending: Ending, decision: Decision
) -> JobState:
    """Write a decision about an attempt that failed or was lost. The caller holds the row lock."""
    state = decision.state
    final_error = _poison_error(error, outcome, ending, decision) if decision.poisoned else error
    values: dict[str, Any] = {
        "state": state.value,
        "lease_until": None,
        "retries": decision.retries,
        "lost_streak": decision.lost_streak,
    }
    if state.is_final:
        values |= {"finished_at": db_now(), "error": final_error if state is JobState.FAILED else None}
    else:
        # Without a delay the job keeps its place in the queue, before those submitted later.
        run_at = db_now() + decision.delay if decision.delay else jobs.c.run_at
        values |= UNHELD | {"stop_requested": _kept_request(), "run_at": run_at}
    row = write_job(conn, owned_by(lease), **values).one_or_none()
    if row is None:
        raise LeaseLost(lease.job_id, lease.fence)
    close_attempt(conn, lease.job_id, lease.fence, outcome, error=error, ending=ending)
    shown = final_error if state is JobState.FAILED else error
    _add_ended_event(conn, row, outcome, error=shown, retry_in=None if state.is_final else round(decision.delay, 3))
    return state


def _poison_error(error: dict[str, Any], outcome: AttemptOutcome, ending: Ending, decision: Decision) -> dict[str, Any]:
    evidence = [outcome.value]
    if ending.signal is not None:
        evidence.append(f"signal {ending.signal}")
    if ending.exit_code is not None:
        evidence.append(f"exit code {ending.exit_code}")
    if ending.peak_memory_bytes is not None:
        evidence.append(f"peak memory {ending.peak_memory_bytes / 1e6:.0f} MB")
    message = (
        f"{decision.lost_streak} attempts in a row died without a new checkpoint; the last: {', '.join(evidence)}. "
        f"{error.get('message', '')}"
    )
    return {**error, "message": message.strip(), "retryable": False}


def _kept_request() -> Any:
    """Keep a `finish` request for the next attempt; other requests concern only the attempt that ended."""
    finish = StopRequest.FINISH.value
    return case((jobs.c.stop_requested == finish, finish), else_=None)


def stop(conn: Connection, lease: Lease, *, outcome: AttemptOutcome, ending: Ending | None = None) -> JobState:
    """End an attempt whose runner stopped because of cancel or pause (outcome CANCELLED | PAUSED).

    A cancel requested after the pause wins. Returns the new state. Raises LeaseLost.
    """
    target = {AttemptOutcome.CANCELLED: "cancelled", AttemptOutcome.PAUSED: "paused"}[outcome]
    return _end_attempt(conn, lease, outcome, target, ending, run_at=jobs.c.run_at)


def release(conn: Connection, lease: Lease, *, outcome: AttemptOutcome, ending: Ending | None = None) -> JobState:
    """Return the job to the queue after a checkpoint (outcome DRAINED | PREEMPTED), uncharged. Raises LeaseLost.

    A drained job keeps its place in the queue; a preempted one too, but behind the job it was preempted for. The
    `timeout_seconds` of a preempted job start again, because its wait is not its own fault.
    """
    if outcome not in (AttemptOutcome.DRAINED, AttemptOutcome.PREEMPTED):
        raise ValueError(f"release is for drained and preempted attempts, not {outcome}")
    if outcome is AttemptOutcome.DRAINED:
        return _end_attempt(conn, lease, outcome, "queued", ending, run_at=jobs.c.run_at)
    return _end_attempt(conn, lease, outcome, "queued", ending, run_at=_run_at_behind_urgent(), deadline_at=None)


def _run_at_behind_urgent() -> Any:
    """Return the `run_at` that ranks just after the job in `makes_room_for`; a later `run_at` is kept."""
    rank = select(_urgent.c.rank).where(_urgent.c.id == jobs.c.makes_room_for).correlate(jobs).scalar_subquery()
    behind = rank + AGEING_SECONDS * jobs.c.priority + 0.001
    return case((behind > jobs.c.run_at, behind), (rank.is_not(None), jobs.c.run_at), else_=db_now())


def _end_attempt(
    conn: Connection, lease: Lease, outcome: AttemptOutcome, target: str, ending: Ending | None, **also: Any
) -> JobState:
    """End the attempt in one UPDATE, whose target yields to a stronger request: cancel, then pause."""
    cancelled = jobs.c.stop_requested == StopRequest.CANCEL.value
    state = case((cancelled, "cancelled"), else_=target)
    if target == "queued":
        state = case(
            (cancelled, "cancelled"), (jobs.c.stop_requested == StopRequest.PAUSE.value, "paused"), else_=target
        )
    ends = cancelled if target != "cancelled" else jobs.c.id.is_not(None)
    values = {
        "state": state,
        "lease_until": None,
        "worker": case((ends, jobs.c.worker), else_=None),
        "finished_at": case((ends, db_now()), else_=None),
        "stop_requested": case((ends, jobs.c.stop_requested), else_=_kept_request()),
        **also,
    }
    row = write_job(conn, owned_by(lease), **values).one_or_none()
    if row is None:
        return idempotent_result(conn, lease, outcome, AttemptOutcome.CANCELLED, AttemptOutcome.PAUSED)
    actual = {"cancelled": AttemptOutcome.CANCELLED, "paused": AttemptOutcome.PAUSED}.get(row.state, outcome)
    close_attempt(conn, lease.job_id, lease.fence, actual, ending=ending)
    _add_ended_event(conn, row, actual)
    return JobState(row.state)


def _add_ended_event(conn: Connection, job: Written, outcome: AttemptOutcome, **facts: Any) -> None:
    add_state_event(conn, job, outcome=outcome.value, **facts)
    on_commit(conn, partial(emit, f"job.{job.state}", job_id=job.id, attempt=job.fence, outcome=outcome.value))
