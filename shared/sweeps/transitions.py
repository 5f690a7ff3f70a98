"""All writes to sweeps and their trials. Functions take an open connection of `shared.db.engine.write()`.

    create, pause, resume, stop, cancel, add_trials, delete_sweep     requests of users
    start_trial, settle, report, hold, close                          maintenance; any number of processes may run it
    note_problem, note_recovery, fail_if_all_refused                  maintenance, where a sweep cannot go on

Rows are locked in the order sweep, trial, job. A trial's row and its job are written in one transaction. The UPDATE
that counts it comes first: it is conditional on the number of trials before, so of two processes that choose the same
trial only one writes it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, Row, Select, and_, delete, exists, select, update
from sqlalchemy import insert as plain_insert

from nightshift.errors import Conflict, InvalidRequest, RequestError
from nightshift.states import JobState
from shared.clock import db_now
from shared.datasets import references
from shared.db.engine import insert, on_commit
from shared.db.rows import existing
from shared.db.schema import jobs, sweep_events, sweep_trials, sweeps
from shared.events import emit
from shared.failpoints import failpoint
from shared.jobs import transitions as job_transitions
from shared.jobs.states import StopRequest
from shared.specs.sweeps import MAX_TRIALS
from shared.sweeps import space
from shared.sweeps.jobs import new_trial
from shared.sweeps.models import SweepState, TrialState
from shared.sweeps.results import Ended

Found = Row[*tuple[Any, ...]]
_RUNNING = TrialState.RUNNING.value
#: Passes in a row that fail, and trials in a row whose jobs are refused, before a sweep fails. Too low: a passing lack
#: of memory ends it. Too high: users wait for a sweep that does nothing.
PROBLEMS_IN_A_ROW, REFUSED_IN_A_ROW = 12, 10
#: Type of the event of a pass that failed, and the entry of the outcome of a sweep that failed by it.
_PROBLEM, FAILED_BECAUSE = "problem", "failed_because"


@dataclass(frozen=True)
class NewSweep:
    """A sweep to create, checked and complete: values of columns of `sweeps`."""

    owner_id: str
    body_hash: str
    idempotency_key: str | None
    values: dict[str, Any]


# -- requests of users ----------------------------------------------------------------------------


def create(conn: Connection, new: NewSweep) -> str:
    """Create a sweep and return its id, or the one that the same idempotency key and body created before.

    Raises InvalidRequest when the key was used with another body, or a data set version does not exist.
    """
    references.hold_named(conn, new.values["job"])
    row = new.values | {
        "id": secrets.token_hex(8),
        "owner_id": new.owner_id,
        "idempotency_key": new.idempotency_key,
        "body_hash": new.body_hash,
        "state": SweepState.RUNNING.value,
        "started": 0,
        "event_seq": 0,
        "created_at": db_now(),
    }
    statement = insert(conn, sweeps).values(**row)
    statement = statement.on_conflict_do_nothing(index_elements=["owner_id", "idempotency_key"])
    sweep_id = conn.execute(statement.returning(sweeps.c.id)).scalar_one_or_none()
    if sweep_id is None:
        return _created_before(conn, new)
    _change(conn, sweeps.c.id == sweep_id, "state", {"state": SweepState.RUNNING.value})
    on_commit(conn, partial(emit, "sweep.created", sweep_id=sweep_id, owner_id=new.owner_id))
    return str(sweep_id)


def _created_before(conn: Connection, new: NewSweep) -> str:
    mine = (sweeps.c.owner_id == new.owner_id, sweeps.c.idempotency_key == new.idempotency_key)
    row = conn.execute(select(sweeps.c.id, sweeps.c.body_hash).where(*mine)).one()
    if row.body_hash != new.body_hash:
        detail = f"this key was used before with another body (sweep {row.id}); use a new key for a new sweep"
        raise InvalidRequest.field(("Idempotency-Key",), detail)
    return str(row.id)


def pause(conn: Connection, sweep_id: str, owner_id: str | None) -> None:
    """Start no further trial, and pause the jobs of those that run. Idempotent. Raises NotFound, Conflict."""
    _move(conn, sweep_id, owner_id, SweepState.PAUSED, "paused", SweepState.RUNNING)
    mine = (sweep_trials.c.sweep_id == sweep_id, sweep_trials.c.state == _RUNNING)
    conn.execute(update(sweep_trials).where(*mine).values(held=True))
    hold(conn, sweep_id)


def resume(conn: Connection, sweep_id: str, owner_id: str | None) -> None:
    """Go on with a paused sweep and its jobs. Idempotent. Raises NotFound, Conflict."""
    _move(conn, sweep_id, owner_id, SweepState.RUNNING, "resumed", SweepState.PAUSED)
    hold(conn, sweep_id)


def stop(conn: Connection, sweep_id: str, owner_id: str | None) -> None:
    """Start no further trial, and let the jobs of those that run finish with what they have.

    Jobs that have not begun are cancelled. Idempotent. Raises NotFound; Conflict when the sweep has ended.
    """
    _move(conn, sweep_id, owner_id, SweepState.STOPPING, "stopped", SweepState.RUNNING, SweepState.PAUSED)
    _ask_jobs(conn, sweep_id, StopRequest.FINISH)


def cancel(conn: Connection, sweep_id: str, owner_id: str | None) -> None:
    """End the sweep now and cancel its jobs; nothing is done with the best trial. Idempotent.

    Raises NotFound; Conflict when the sweep has ended otherwise.
    """
    before = (SweepState.RUNNING, SweepState.PAUSED, SweepState.STOPPING)
    _move(conn, sweep_id, owner_id, SweepState.CANCELLED, "cancelled", *before)
    _ask_jobs(conn, sweep_id, StopRequest.CANCEL)


def add_trials(conn: Connection, sweep_id: str, owner_id: str | None, count: int) -> None:
    """Raise the number of trials; a sweep that has ended runs again. Raises NotFound, Conflict, InvalidRequest."""
    row = locked(conn, sweep_id, owner_id)
    state = SweepState(row.state)
    if state is SweepState.STOPPING:
        raise Conflict(f"Sweep {sweep_id} is stopping; add trials when it has stopped.")
    total = (row.trials if not state.is_final else row.started) + count
    most = space.grid_size(space.read(row.space)) if row.sampler == "grid" else MAX_TRIALS
    if total > most:
        what = f"its grid has {most} points" if row.sampler == "grid" else f"a sweep has at most {most}"
        raise InvalidRequest.field(("count",), f"would make {total} trials; {what}")
    target = SweepState.PAUSED if state is SweepState.PAUSED else SweepState.RUNNING
    outcome = {name: told for name, told in (row.outcome or {}).items() if name != FAILED_BECAUSE} or None
    values = {"trials": total, "state": target.value, "finished_at": None, "outcome": outcome}
    _change(conn, _is(row), "changed", {"trials": total, "state": target.value}, **values)


def delete_sweep(conn: Connection, sweep_id: str, owner_id: str | None) -> None:
    """Delete a sweep that has ended, with its trials; their jobs stay. Raises NotFound, Conflict."""
    row = locked(conn, sweep_id, owner_id)
    if not SweepState(row.state).is_final:
        raise Conflict(
            f"Sweep {sweep_id} is {row.state}; it can be deleted when it has ended: stop or cancel it first."
        )
    conn.execute(delete(sweeps).where(sweeps.c.id == sweep_id))
    on_commit(conn, partial(emit, "sweep.deleted", sweep_id=sweep_id))


def _move(
    conn: Connection, sweep_id: str, owner_id: str | None, target: SweepState, done: str, *before: SweepState
) -> None:
    """Change the state if it is one of `before`; nothing if it is the target already. Raises NotFound, Conflict."""
    row = locked(conn, sweep_id, owner_id)
    if row.state == target.value:
        return
    if SweepState(row.state) not in before:
        raise Conflict(f"Sweep {sweep_id} is {row.state}; it cannot be {done} now.")
    values = {"state": target.value} | ({"finished_at": db_now()} if target.is_final else {})
    _change(conn, _is(row), "state", {"state": target.value}, **values)
    on_commit(conn, partial(emit, f"sweep.{done}", sweep_id=sweep_id))


def locked(conn: Connection, sweep_id: str, owner_id: str | None) -> Found:
    """Lock a sweep and return its row. `owner_id` None: of any owner. Raises NotFound."""
    mine = [] if owner_id is None else [sweeps.c.owner_id == owner_id]
    statement = select(sweeps).where(sweeps.c.id == sweep_id, *mine).with_for_update()
    return existing(conn.execute(statement).one_or_none(), "sweep", sweep_id)


def _is(row: Found) -> Any:
    return and_(sweeps.c.id == row.id, sweeps.c.state == row.state, sweeps.c.event_seq == row.event_seq)


def _change(conn: Connection, condition: Any, kind: str, data: Mapping[str, Any], **values: Any) -> Found | None:
    """Change the sweep that meets the condition and write its event; return (id), or None if there is none."""
    statement = update(sweeps).where(condition).values(event_seq=sweeps.c.event_seq + 1, **values)
    row = conn.execute(statement.returning(sweeps.c.id, sweeps.c.event_seq)).one_or_none()
    if row is not None:
        event = {"sweep_id": row.id, "seq": row.event_seq, "type": kind, "at": db_now(), "data": dict(data)}
        conn.execute(plain_insert(sweep_events).values(**event))
    return row


def _running_jobs(conn: Connection, sweep_id: str) -> Sequence[Found]:
    statement = (
        select(sweep_trials.c.number, sweep_trials.c.job_id, sweep_trials.c.held, jobs.c.state, jobs.c.stop_requested)
        .join(jobs, jobs.c.id == sweep_trials.c.job_id)
        .where(sweep_trials.c.sweep_id == sweep_id, sweep_trials.c.state == _RUNNING)
        .order_by(sweep_trials.c.number)
    )
    return conn.execute(statement).all()


def _ask_jobs(conn: Connection, sweep_id: str, request: StopRequest) -> None:
    for row in _running_jobs(conn, sweep_id):
        if not JobState(row.state).is_final:
            _ask(conn, row.job_id, request)


def _ask(conn: Connection, job_id: str, request: StopRequest) -> bool:
    """Ask the job of a trial to stop; return False if it has just ended."""
    try:
        job_transitions.request_stop(conn, job_id, request, None)
    except Conflict:
        return False
    return True


# -- maintenance ----------------------------------------------------------------------------------


def start_trial(conn: Connection, sweep: Found, values: Mapping[str, Any], attrs: Mapping[str, Any]) -> str | None:
    """Start the trial after those that `sweep` counts, and return the id of its job.

    None if the sweep has changed since `sweep` was read: another process has started the trial, or a user has stopped
    it. A trial whose job is refused ends at once as failed; its id is empty.
    """
    number = sweep.started
    unchanged = and_(
        sweeps.c.id == sweep.id,
        sweeps.c.state == SweepState.RUNNING.value,
        sweeps.c.started == number,
        sweeps.c.trials > number,
    )
    if _change(conn, unchanged, "trial", {"trial": number, "state": _RUNNING}, started=number + 1) is None:
        return None
    failpoint("sweep.counted")
    row = {"sweep_id": sweep.id, "number": number, "params": dict(values), "attrs": dict(attrs)}
    row |= {"pruning": False, "held": False, "reports": [], "reported_step": 0, "started_at": db_now()}
    try:
        with conn.begin_nested():
            job_id = job_transitions.submit(conn, new_trial(sweep, number, values)).job_id
    except (InvalidRequest, ValidationError) as error:
        refused = {"state": TrialState.FAILED.value, "reason": str(error)[:500], "ended_at": db_now()}
        conn.execute(plain_insert(sweep_trials).values(**row, **refused, job_id=f"{sweep.id}/{number}"[:32]))
        return ""
    conn.execute(plain_insert(sweep_trials).values(**row, state=_RUNNING, job_id=job_id))
    failpoint("sweep.trial_inserted")
    on_commit(conn, partial(emit, "sweep.trial_started", sweep_id=sweep.id, trial=number, job_id=job_id))
    return job_id


def settle(conn: Connection, sweep_id: str, ended: Ended, direction: str) -> bool:
    """Write how a trial ended; return False if another process has done so."""
    sweep = locked(conn, sweep_id, None)
    mine = (
        sweep_trials.c.sweep_id == sweep_id,
        sweep_trials.c.number == ended.number,
        sweep_trials.c.state == _RUNNING,
    )
    values = {"state": ended.state.value, "value": ended.value, "reason": ended.reason, "steps": ended.steps}
    written = conn.execute(update(sweep_trials).where(*mine).values(**values, held=False, ended_at=db_now()))
    if not written.rowcount:
        return False
    best = best_of(conn, sweep_id, direction)
    data = {"trial": ended.number, "state": ended.state.value, "value": ended.value}
    changed = {"best": best} if best != sweep.best else {}
    _change(conn, _is(sweep), "trial", data | changed, best=best)
    on_commit(conn, partial(emit, "sweep.trial_ended", sweep_id=sweep_id, **data))
    return True


def best_of(conn: Connection, sweep_id: str, direction: str) -> int | None:
    """Return the number of the best trial, the earliest of equal ones; None while none has a value."""
    value = sweep_trials.c.value
    order = value.desc() if direction == "max" else value.asc()
    mine = (sweep_trials.c.sweep_id == sweep_id, value.is_not(None))
    return conn.scalar(select(sweep_trials.c.number).where(*mine).order_by(order, sweep_trials.c.number).limit(1))


@dataclass(frozen=True)
class Report:
    """What the pruner has seen of a trial, and its decision."""

    number: int
    job_id: str
    #: The step up to which the process that decided had read before.
    after_step: int
    reports: list[float]
    reported_step: int
    attrs: dict[str, Any]
    prune: bool


def report(conn: Connection, sweep_id: str, seen: Report) -> bool:
    """Write what the pruner has seen, and ask the job to finish if it prunes; return whether this process did.

    Conditional on the step that was read before, so that of two processes one decides on each point.
    """
    locked(conn, sweep_id, None)
    mine = (
        sweep_trials.c.sweep_id == sweep_id,
        sweep_trials.c.number == seen.number,
        sweep_trials.c.state == _RUNNING,
        sweep_trials.c.reported_step == seen.after_step,
        sweep_trials.c.pruning.is_(False),
    )
    values = {"reports": seen.reports, "reported_step": seen.reported_step, "attrs": seen.attrs, "pruning": seen.prune}
    if not conn.execute(update(sweep_trials).where(*mine).values(**values)).rowcount:
        return False
    if seen.prune:
        if not _ask(conn, seen.job_id, StopRequest.FINISH):  # it ended by itself, so that nothing was pruned
            conn.execute(update(sweep_trials).where(*mine[:3]).values(pruning=False))
            return False
        _change(conn, sweeps.c.id == sweep_id, "trial", {"trial": seen.number, "state": "pruning"})
        on_commit(conn, partial(emit, "sweep.trial_pruned", sweep_id=sweep_id, trial=seen.number))
    return True


def hold(conn: Connection, sweep_id: str) -> int:
    """Bring the jobs that a pause holds to the state that the sweep asks for; return how many were asked.

    A job that is about to finish cannot be paused, and one that is about to pause not resumed: the next pass does it.
    """
    sweep = locked(conn, sweep_id, None)
    if sweep.state not in (SweepState.PAUSED.value, SweepState.RUNNING.value):
        return 0
    asked = 0
    for row in _running_jobs(conn, sweep_id):
        if row.held and sweep.state == SweepState.PAUSED.value:
            asked += _pause_job(conn, row)
        elif row.held:
            asked += _resume_job(conn, sweep_id, row)
    return asked


def _pause_job(conn: Connection, row: Found) -> int:
    state = JobState(row.state)
    can_pause = state is JobState.QUEUED or (state is JobState.RUNNING and row.stop_requested is None)
    return int(can_pause and _ask(conn, row.job_id, StopRequest.PAUSE))


def _resume_job(conn: Connection, sweep_id: str, row: Found) -> int:
    state = JobState(row.state)
    if state is JobState.RUNNING and row.stop_requested == StopRequest.PAUSE.value:
        return 0
    mine = (sweep_trials.c.sweep_id == sweep_id, sweep_trials.c.number == row.number)
    conn.execute(update(sweep_trials).where(*mine).values(held=False))
    if state is JobState.PAUSED:
        job_transitions.resume(conn, row.job_id, None)
    return int(state is JobState.PAUSED)


def close(conn: Connection, sweep_id: str) -> Found | None:
    """End a sweep whose trials have all ended; return its row as it was, None if it goes on or has ended.

    The caller does what `on_best` says in the same transaction.
    """
    sweep = locked(conn, sweep_id, None)
    state = SweepState(sweep.state)
    is_done = state is SweepState.STOPPING or (state is SweepState.RUNNING and sweep.started >= sweep.trials)
    if not is_done:
        return None
    if state is SweepState.STOPPING:
        target = SweepState.STOPPED
    else:
        target = SweepState.FAILED if sweep.best is None else SweepState.SUCCEEDED
    unfinished = exists().where(sweep_trials.c.sweep_id == sweep_id, sweep_trials.c.state == _RUNNING)
    data = {"state": target.value, "best": sweep.best}
    done = _change(conn, and_(_is(sweep), ~unfinished), "state", data, state=target.value, finished_at=db_now())
    if done is None:
        return None
    on_commit(conn, partial(emit, f"sweep.{target.value}", sweep_id=sweep_id, best=sweep.best))
    return sweep


def note_problem(conn: Connection, sweep_id: str, error: str) -> bool:
    """Write that a pass has failed; end the sweep if those before it have, too. Return whether it has ended it.

    Nothing is written of a sweep that has ended: passes go on until its last jobs have.
    """
    unfinished = and_(sweeps.c.id == sweep_id, sweeps.c.finished_at.is_(None))
    if _change(conn, unfinished, _PROBLEM, {"error": error[:500]}) is None:
        return False
    kinds = list(conn.scalars(_newest_events(sweep_id, PROBLEMS_IN_A_ROW)))
    return kinds == [_PROBLEM] * PROBLEMS_IN_A_ROW and _fail(conn, sweep_id, error)


def has_problem(conn: Connection, sweep_id: str) -> bool:
    """Return whether a pass has failed and nothing else has happened since: a read."""
    return bool(conn.scalar(_newest_events(sweep_id, 1)) == _PROBLEM)


def note_recovery(conn: Connection, sweep_id: str) -> None:
    """Write that a pass has succeeded after one that failed."""
    before = _newest_events(sweep_id, 1).scalar_subquery()
    _change(conn, and_(sweeps.c.id == sweep_id, before == _PROBLEM), "recovered", {})


def _newest_events(sweep_id: str, count: int) -> Select[Any]:
    """Select the types of the newest events."""
    types = select(sweep_events.c.type).where(sweep_events.c.sweep_id == sweep_id)
    return types.order_by(sweep_events.c.seq.desc()).limit(count)


def fail_if_all_refused(conn: Connection, sweep_id: str) -> bool:
    """End the sweep if the jobs of its last trials were all refused; return whether it has."""
    newest = select(sweep_trials.c.job_id, sweep_trials.c.reason).where(sweep_trials.c.sweep_id == sweep_id)
    rows = conn.execute(newest.order_by(sweep_trials.c.number.desc()).limit(REFUSED_IN_A_ROW)).all()
    are_refused = len(rows) == REFUSED_IN_A_ROW and all("/" in row.job_id for row in rows)
    return are_refused and _fail(conn, sweep_id, rows[0].reason)


def _fail(conn: Connection, sweep_id: str, reason: str) -> bool:
    """End the sweep as failed, and let its jobs finish with what they have; return False if it has ended."""
    sweep = locked(conn, sweep_id, None)
    if SweepState(sweep.state).is_final:
        return False
    target = SweepState.FAILED.value
    outcome = {**(sweep.outcome or {}), FAILED_BECAUSE: reason[:500]}
    data = {"state": target, FAILED_BECAUSE: reason[:500]}
    _change(conn, _is(sweep), "state", data, state=target, finished_at=db_now(), outcome=outcome)
    _ask_jobs(conn, sweep_id, StopRequest.FINISH)
    on_commit(conn, partial(emit, "sweep.failed", sweep_id=sweep_id, best=sweep.best))
    return True


def write_outcome(conn: Connection, sweep_id: str, outcome: Mapping[str, Any]) -> None:
    """Write what was done with the best trial."""
    _change(conn, sweeps.c.id == sweep_id, "best", outcome, outcome=dict(outcome))


def write_importance(conn: Connection, sweep_id: str, importance: Mapping[str, float]) -> None:
    """Write the importance of the parameters; no event."""
    conn.execute(update(sweeps).where(sweeps.c.id == sweep_id).values(importance=dict(importance)))


def refused_because(error: RequestError) -> str:
    """Return the message of an error for `outcome`."""
    return "; ".join(one.msg for one in error.errors) or error.detail
