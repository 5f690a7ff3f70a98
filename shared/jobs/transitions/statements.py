"""Parts of every transition: the fence as a condition, the UPDATE that takes the row lock, the event row."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Connection, CursorResult, Row, and_, literal_column, select, update
from sqlalchemy import insert as plain_insert

from nightshift.states import JobState
from shared.clock import db_now
from shared.db.schema import attempts, job_events, jobs
from shared.errors import LeaseLost
from shared.fleet import ledger
from shared.jobs.states import AttemptOutcome, StopRequest
from shared.jobs.transitions.values import AttemptStatus, Ending, Lease
from shared.webhooks import outbox

#: A literal, so that SQLite can use the partial index.
RUNNING: ColumnElement[str] = literal_column("'running'")

#: Combined with a state that is not final, so that the index on `finished_at` finds the few unfinished jobs.
UNFINISHED = jobs.c.finished_at.is_(None)

#: What a transition returns of a job that it has written, for the event row: the state is the new one.
WRITTEN = (jobs.c.id, jobs.c.fence, jobs.c.state, jobs.c.event_seq, db_now().label("now"))
Written = Row[*tuple[Any, ...]]

#: Column values of a job without a lease.
UNHELD: dict[str, Any] = {"worker": None, "lease_until": None}


def owned_by(lease: Lease) -> ColumnElement[bool]:
    """Return the SQL condition that the job is running under the fence of this lease."""
    return and_(jobs.c.id == lease.job_id, jobs.c.fence == lease.fence, jobs.c.state == RUNNING)


def renew_and_update(conn: Connection, lease: Lease, *, numbers: int = 0, **values: Any) -> tuple[AttemptStatus, int]:
    """Renew the lease under its fence, set `values` and draw `numbers` sequence numbers.

    The first statement of every effect. Returns the status and the first number drawn. Raises LeaseLost.
    """
    if numbers:
        values["event_seq"] = jobs.c.event_seq + numbers
    statement = (
        update(jobs)
        .where(owned_by(lease))
        .values(lease_until=db_now() + lease.seconds, **values)
        .returning(
            jobs.c.event_seq,
            jobs.c.stop_requested,
            jobs.c.deadline_at,
            jobs.c.lease_until,
            db_now().label("now"),
            jobs.c.part_of,
        )
    )
    row = conn.execute(statement).one_or_none()
    if row is None:
        raise LeaseLost(lease.job_id, lease.fence)
    status = AttemptStatus(as_request(row.stop_requested), row.deadline_at, row.lease_until, row.now, row.part_of)
    return status, row.event_seq - numbers + 1


def write_job(conn: Connection, *conditions: ColumnElement[bool], **values: Any) -> CursorResult[Any]:
    """Change the job that meets the conditions, and draw a sequence number for the event; return it as WRITTEN."""
    statement = update(jobs).where(*conditions).values(event_seq=jobs.c.event_seq + 1, **values)
    return conn.execute(statement.returning(*WRITTEN))


def as_request(text: str | None) -> StopRequest | None:
    """Return the request that the column `stop_requested` names."""
    return StopRequest(text) if text else None


_EVENT = plain_insert(job_events)


def add_event(conn: Connection, job_id: str, seq: int, at: float, kind: str, fence: int, data: dict[str, Any]) -> None:
    """Write the event's row and its webhook deliveries."""
    conn.execute(
        _EVENT,
        {"job_id": job_id, "seq": seq, "type": kind, "at": at, "fence": fence, "data": data},
    )
    outbox.add_job_event(conn, job_id, seq, at, kind, data)


def add_state_event(conn: Connection, job: Written, **facts: Any) -> None:
    """Write a `state` event of a job that was written, without facts that are None."""
    data = state_data(job.state, job.fence) | {key: fact for key, fact in facts.items() if fact is not None}
    add_event(conn, job.id, job.event_seq, job.now, "state", job.fence, data)


def state_data(state: str, fence: int) -> dict[str, Any]:
    """Return the data of a `state` event."""
    return {"state": state, "attempt": fence}


def close_attempt(
    conn: Connection,
    job_id: str,
    fence: int,
    outcome: AttemptOutcome,
    *,
    error: dict[str, Any] | None = None,
    ending: Ending | None = None,
) -> None:
    """Write the outcome of an attempt that has none yet, and free its devices."""
    conn.execute(
        update(attempts)
        .where(attempts.c.job_id == job_id, attempts.c.fence == fence, attempts.c.outcome.is_(None))
        .values(ended_at=db_now(), outcome=outcome.value, error=error, **asdict(ending or Ending()))
    )
    ledger.free(conn, job_id, fence)


def idempotent_result(conn: Connection, lease: Lease, *outcomes: AttemptOutcome) -> JobState:
    """Return the job's state if this attempt already ended with one of the outcomes; raise LeaseLost otherwise.

    Called by an ending that changed no row: the reply to an earlier COMMIT of it may have been lost.
    """
    row = conn.execute(
        select(attempts.c.outcome, jobs.c.state)
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .where(attempts.c.job_id == lease.job_id, attempts.c.fence == lease.fence)
    ).one_or_none()
    if row is None or row.outcome not in {outcome.value for outcome in outcomes}:
        raise LeaseLost(lease.job_id, lease.fence)
    return JobState(row.state)
