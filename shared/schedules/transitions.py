"""All writes to schedules and their ticks. Functions take an open connection of `shared.db.engine.write()`.

    create, change, delete      requests of users
    run_now                     a manual tick
    take_due, promote           maintenance; any number of processes may run it at the same time

A tick's row and its job are written in one transaction. The row comes first: (schedule_id, due_at) is its primary key,
so only one of two processes inserts it, and the other leaves the tick alone.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import takewhile
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, Row, and_, delete, func, select, update

from nightshift.errors import Conflict, InvalidRequest
from shared.clock import db_now, iso, read_clock
from shared.datasets import references
from shared.db import removals
from shared.db.engine import insert, on_commit
from shared.db.removals import Kind
from shared.db.schema import jobs, schedule_ticks, schedules
from shared.events import emit
from shared.failpoints import failpoint
from shared.jobs import transitions as job_transitions
from shared.jobs.states import StopRequest
from shared.jobs.transitions import NewJob
from shared.schedules import cron, template
from shared.schedules.models import CatchUp, Overlap, TickOutcome
from shared.schedules.policy import Policy, Verdict, decide
from shared.schedules.queries import SCHEDULES
from shared.schedules.skip_unchanged import unchanged
from shared.specs.jobs import job_spec_adapter
from shared.specs.schedules import ScheduleSpec

#: How far back missed ticks are recorded after an outage (seconds). Older ones are dropped.
LOOK_BACK_SECONDS = 366 * 86_400.0
#: Missed ticks recorded in a row of their own after an outage; the older ones share one row.
MAX_MISSED_ROWS = 1000
#: Most ticks that wait for a previous job (overlap `queue`). Too low: ticks are skipped during a long job. Too high: a
#: schedule that is faster than its jobs falls behind unnoticed.
MAX_WAITING = 100

Found = Row[*tuple[Any, ...]]

# -- requests of users ----------------------------------------------------------------------------


def create(conn: Connection, owner_id: str, spec: ScheduleSpec) -> str:
    """Create a schedule and return its id. `spec.job` must be validated and complete.

    Raises InvalidRequest, Conflict (name taken).
    """
    checked = cron.parse(spec.cron, spec.timezone)
    references.hold_named(conn, spec.job)
    now = read_clock(conn)
    values = spec.model_dump() | {
        "id": secrets.token_hex(8),
        "owner_id": owner_id,
        "cron": checked.text,
        "next_at": checked.next(now) if spec.enabled else None,
        "created_at": now,
        "updated_at": now,
    }
    return SCHEDULES.create(conn, values)


#: Fields whose change recomputes the next tick, starting from now.
_TIMING = frozenset({"cron", "timezone", "enabled"})


def change(conn: Connection, schedule_id: str, owner_id: str, changes: dict[str, Any]) -> None:
    """Change a schedule from its next tick on. After a change of its times or a pause, past ticks are not caught up.

    Raises NotFound, InvalidRequest, Conflict (name taken).
    """
    row = SCHEDULES.lock(conn, schedule_id, owner_id)
    merged = {**row._mapping, **changes}
    checked = cron.parse(merged["cron"], merged["timezone"])
    references.hold_named(conn, changes.get("job") or {})
    values = {**changes, "cron": checked.text, "updated_at": db_now()}
    if any(merged[name] != row._mapping[name] for name in _TIMING):
        values["next_at"] = checked.next(row.now) if merged["enabled"] else None
    SCHEDULES.change(conn, row, values)


def delete_schedule(conn: Connection, schedule_id: str, owner_id: str) -> None:
    """Delete a schedule with its history; its jobs stay. Raises NotFound."""
    SCHEDULES.lock(conn, schedule_id, owner_id)
    conn.execute(delete(schedule_ticks).where(_waiting_of(schedule_id)))  # so that the scheduler does not submit them
    removals.note(conn, Kind.SCHEDULE, schedule_id)
    conn.execute(delete(schedules).where(schedules.c.id == schedule_id))


def run_now(conn: Connection, schedule_id: str, owner_id: str) -> str:
    """Submit the job of a schedule now and return its id, also while it is paused or another of its jobs runs.

    Raises NotFound; InvalidRequest if the job is no longer valid.
    """
    row = SCHEDULES.lock(conn, schedule_id, owner_id)
    due_at = row.now
    if not _insert_tick(conn, row.id, due_at, manual=True):
        raise Conflict("Another run was requested in the same microsecond; try again.")
    outcome, job_id, reason = _make_job(conn, row, due_at, changed_only=False)
    if outcome is TickOutcome.FAILED or job_id is None:
        raise InvalidRequest(f"The job of schedule {row.name!r} cannot be submitted: {reason}")
    _settle(conn, row.id, due_at, outcome, job_id, reason)
    return job_id


# -- maintenance ----------------------------------------------------------------------------------


def take_due(conn: Connection, schedule_id: str) -> Counter[str]:
    """Decide all due ticks of a schedule and submit their jobs; return the number of ticks by outcome.

    Empty if none is due or another process holds the schedule's lock.
    """
    row = _free(conn, schedule_id, schedules.c.next_at <= db_now())
    if row is None:
        return Counter()
    checked = cron.parse(row.cron, row.timezone)
    start = max(row.next_at, row.now - LOOK_BACK_SECONDS) - 0.5
    due = list(takewhile(lambda tick: tick <= row.now, checked.after(start)))
    policy = Policy(CatchUp(row.catch_up), row.catch_up_limit, row.max_lateness_seconds)
    verdicts = decide(due, row.now, policy)
    counts = Counter(
        {TickOutcome.MISSED.value: _write_missed(conn, row.id, [item for item in verdicts if item.missed])}
    )
    for verdict in verdicts:
        outcome = None if verdict.missed else _run(conn, row, verdict.due_at)
        if outcome is not None:
            counts[outcome.value] += 1
    next_at = checked.next(max([row.now, *due[-1:]]))
    conn.execute(update(schedules).where(schedules.c.id == row.id).values(next_at=next_at))
    return counts


def promote(conn: Connection, schedule_id: str) -> Counter[str]:
    """Submit the job of the oldest waiting tick once no job of its schedule is unfinished (overlap `queue`)."""
    counts: Counter[str] = Counter()
    row = _free(conn, schedule_id, schedules.c.enabled)
    if row is None or _unfinished_jobs(conn, row.id):
        return counts
    waiting = select(schedule_ticks.c.due_at).where(_waiting_of(row.id)).order_by(schedule_ticks.c.due_at)
    for due_at in conn.scalars(waiting).all():
        outcome, job_id, reason = _make_job(conn, row, due_at, changed_only=row.skip_if_unchanged)
        _settle(conn, row.id, due_at, outcome, job_id, reason)
        counts[outcome.value] += 1
        if outcome is TickOutcome.SUBMITTED:
            break
    return counts


def _free(conn: Connection, schedule_id: str, condition: Any) -> Found | None:
    """Lock and return the schedule, or None if it does not match or another process holds its lock."""
    statement = select(schedules, db_now().label("now")).where(schedules.c.id == schedule_id, condition)
    return conn.execute(statement.with_for_update(skip_locked=True)).one_or_none()


def _write_missed(conn: Connection, schedule_id: str, missed: Sequence[Verdict]) -> int:
    if not missed:
        return 0
    recorded, older = list(missed[-MAX_MISSED_ROWS:]), missed[:-MAX_MISSED_ROWS]
    if older:
        reason = f"and {len(older) - 1} more up to {iso(older[-1].due_at)}: {older[0].missed}"
        recorded.insert(0, Verdict(older[0].due_at, reason))
    outcome, now = TickOutcome.MISSED.value, read_clock(conn)
    tick = {"schedule_id": schedule_id, "manual": False, "outcome": outcome, "decided_at": now}
    rows = [{**tick, "due_at": item.due_at, "reason": item.missed} for item in recorded]
    conn.execute(insert(conn, schedule_ticks).on_conflict_do_nothing(), rows)
    return len(missed)


def _run(conn: Connection, schedule: Found, due_at: float) -> TickOutcome | None:
    """Run one tick and return its outcome, or None if it already has a row."""
    if not _insert_tick(conn, schedule.id, due_at, manual=False):
        return None
    failpoint("tick.inserted")
    unfinished = _unfinished_jobs(conn, schedule.id)
    waiting = _count_waiting(conn, schedule.id) - 1
    match Overlap(schedule.overlap):
        case Overlap.SKIP if unfinished:
            return _settle(
                conn, schedule.id, due_at, TickOutcome.SKIPPED, None, f"job {unfinished[0]} has not finished"
            )
        case Overlap.QUEUE if waiting >= MAX_WAITING:
            return _settle(conn, schedule.id, due_at, TickOutcome.SKIPPED, None, f"{waiting} ticks are already waiting")
        case Overlap.QUEUE if unfinished or waiting:
            return TickOutcome.WAITING
        case Overlap.CANCEL_RUNNING:
            for job_id in unfinished:
                job_transitions.request_stop(conn, job_id, StopRequest.CANCEL, None)
    return _settle(
        conn, schedule.id, due_at, *_make_job(conn, schedule, due_at, changed_only=schedule.skip_if_unchanged)
    )


# -- a tick's row and its job ---------------------------------------------------------------------


def _insert_tick(conn: Connection, schedule_id: str, due_at: float, *, manual: bool) -> bool:
    """Insert a tick as waiting until `_settle`; return False if it already exists."""
    statement = insert(conn, schedule_ticks).values(
        schedule_id=schedule_id,
        due_at=due_at,
        manual=manual,
        outcome=TickOutcome.WAITING.value,
        decided_at=db_now(),
    )
    inserted = conn.execute(statement.on_conflict_do_nothing().returning(schedule_ticks.c.due_at))
    return inserted.one_or_none() is not None


def _make_job(
    conn: Connection, schedule: Found, due_at: float, *, changed_only: bool
) -> tuple[TickOutcome, str | None, str | None]:
    """Submit a tick's job; return (outcome, job id, reason). An invalid job fails this tick only."""
    checked = cron.parse(schedule.cron, schedule.timezone)
    try:
        body = template.render(schedule.job, template.facts_of(due_at, checked.zone))
        spec = job_spec_adapter.validate_python(body)
        if changed_only and (reason := unchanged(conn, schedule.id, schedule.owner_id, spec.model_dump(mode="json"))):
            return TickOutcome.SKIPPED, None, reason
        with conn.begin_nested():
            submitted = job_transitions.submit(conn, NewJob(owner_id=schedule.owner_id, spec=spec))
    except (InvalidRequest, ValidationError) as error:
        return TickOutcome.FAILED, None, str(error)[:500]
    return TickOutcome.SUBMITTED, submitted.job_id, None


def _settle(
    conn: Connection, schedule_id: str, due_at: float, outcome: TickOutcome, job_id: str | None, reason: str | None
) -> TickOutcome:
    """Set the outcome of a waiting tick and emit its event."""
    conn.execute(
        update(schedule_ticks)
        .where(_waiting_of(schedule_id), schedule_ticks.c.due_at == due_at)
        .values(outcome=outcome.value, job_id=job_id, reason=reason, decided_at=db_now())
    )
    facts = {"schedule_id": schedule_id, "tick": template.tick_id(due_at), "job_id": job_id, "reason": reason}
    on_commit(conn, partial(emit, f"tick.{outcome.value}", **facts))
    return outcome


def _waiting_of(schedule_id: str) -> Any:
    return and_(schedule_ticks.c.schedule_id == schedule_id, schedule_ticks.c.outcome == TickOutcome.WAITING.value)


def _count_waiting(conn: Connection, schedule_id: str) -> int:
    return int(conn.scalar(select(func.count()).where(_waiting_of(schedule_id))) or 0)


def _unfinished_jobs(conn: Connection, schedule_id: str) -> list[str]:
    """Return the ids of the schedule's unfinished jobs, oldest first."""
    mine = and_(schedule_ticks.c.job_id == jobs.c.id, schedule_ticks.c.schedule_id == schedule_id)
    statement = select(jobs.c.id).join(schedule_ticks, mine).where(jobs.c.finished_at.is_(None))
    return [str(job_id) for job_id in conn.scalars(statement.order_by(jobs.c.created_at))]
