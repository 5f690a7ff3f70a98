"""archive, unarchive, delete: transitions of finished jobs.

Deletion removes the job's own row first, in a transaction that keeps its id, idempotency key and the values for
exported counters in `deleted_jobs`; from then on nothing shows the job. Maintenance then removes its other rows
(`shared.db.removals`) and its files (the pruner). So a listed file always exists, and a crash in between leaves nothing
that is not removed later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, delete, func, select, update
from sqlalchemy import insert as plain_insert

from nightshift.errors import Conflict
from nightshift.names import TRAIN
from nightshift.states import JobState
from shared.clock import db_now
from shared.db import removals
from shared.db.engine import on_commit
from shared.db.removals import Kind
from shared.db.rows import existing
from shared.db.schema import (
    attempts,
    deleted_attempts,
    deleted_jobs,
    job_dependencies,
    jobs,
    model_versions,
    schedule_ticks,
    schedules,
    sweep_trials,
    sweeps,
)
from shared.events import emit
from shared.failpoints import failpoint

_KEPT = (
    jobs.c.id,
    jobs.c.owner_id,
    jobs.c.idempotency_key,
    jobs.c.body_hash,
    jobs.c.kind,
    jobs.c.state,
    jobs.c.started_at,
    jobs.c.finished_at,
)


def archive(conn: Connection, job_id: str, owner_id: str) -> None:
    """Hide a finished job from lists; idempotent. Raises NotFound; Conflict while it is not final."""
    _final(conn, job_id, owner_id, "archived")
    conn.execute(update(jobs).where(jobs.c.id == job_id, jobs.c.archived_at.is_(None)).values(archived_at=db_now()))
    on_commit(conn, partial(emit, "job.archived", job_id=job_id))


def unarchive(conn: Connection, job_id: str, owner_id: str) -> None:
    """Show an archived job in lists again. Raises NotFound."""
    _locked(conn, job_id, owner_id)
    conn.execute(update(jobs).where(jobs.c.id == job_id).values(archived_at=None))
    on_commit(conn, partial(emit, "job.unarchived", job_id=job_id))


def delete_job(conn: Connection, job_id: str, owner_id: str) -> None:
    """Delete a job with its rows and files. Raises NotFound; Conflict while it is not final or still needed."""
    row = _final(conn, job_id, owner_id, "deleted")
    if found := list(holders(conn, row)):
        raise Conflict(f"Job {job_id} is needed by {', '.join(found[:5])}.")
    shards = conn.execute(select(*_KEPT).where(jobs.c.part_of == job_id).with_for_update()).mappings().all()
    if any(shard["finished_at"] is None for shard in shards):
        raise Conflict(f"The shards of job {job_id} are still stopping; delete it in a few seconds.")
    for one in (*shards, row):
        _remove(conn, one)
    failpoint("delete.before_commit")
    on_commit(conn, partial(failpoint, "delete.after_commit"))
    on_commit(conn, partial(emit, "job.deleted", job_id=job_id, owner_id=owner_id))


def _remove(conn: Connection, row: RowMapping) -> None:
    """Delete a job's row, and note what else of it is to be removed."""
    job_id = str(row["id"])
    kept = {column.name: row[column.name] for column in _KEPT}
    conn.execute(plain_insert(deleted_jobs).values(**kept, has_files=True, deleted_at=db_now()))
    _keep_outcomes(conn, job_id)
    removals.note(conn, Kind.JOB, job_id)
    conn.execute(delete(jobs).where(jobs.c.id == job_id))


def _keep_outcomes(conn: Connection, job_id: str) -> None:
    """Keep the number of attempts per outcome, because their rows are deleted with the job."""
    ended = (attempts.c.job_id == job_id, attempts.c.outcome.is_not(None))
    counted = select(attempts.c.outcome, attempts.c.job_id, func.count()).where(*ended)
    rows = counted.group_by(attempts.c.outcome, attempts.c.job_id)
    conn.execute(plain_insert(deleted_attempts).from_select(["outcome", "job_id", "attempts"], rows))


# -- references to a job --------------------------------------------------------------------------


def holders(conn: Connection, job: RowMapping) -> Iterator[str]:
    """Yield a description of each model version, job and schedule that needs the job."""
    job_id = str(job["id"])
    versions = select(model_versions.c.name, model_versions.c.version).where(model_versions.c.job_id == job_id)
    for name, version in conn.execute(versions.order_by(model_versions.c.name, model_versions.c.version)):
        yield f"the model {name}@{version} (delete that version first)"
    waiting = (
        select(jobs.c.id)
        .join(job_dependencies, job_dependencies.c.job_id == jobs.c.id)
        .where(job_dependencies.c.depends_on == job_id, jobs.c.finished_at.is_(None))
    )
    for other in conn.scalars(waiting.order_by(jobs.c.id)):
        yield f"job {other}, which comes after it and has not ended"
    mine = jobs.c.owner_id == job["owner_id"]  # `job:<id>` is read by jobs of its owner only
    living = select(jobs.c.id, jobs.c.spec).where(jobs.c.finished_at.is_(None), jobs.c.kind != TRAIN, mine)
    for row in conn.execute(living.order_by(jobs.c.id)):
        if reads(row.spec, job_id):
            yield f"job {row.id}, which starts from its model and has not ended"
    yield from _schedules(conn, job_id, str(job["owner_id"]))
    yield from _sweeps(conn, job_id, str(job["owner_id"]))


def reads(spec: Mapping[str, Any], job_id: str) -> bool:
    """Return whether a spec starts from this job's model (`job:<id>`, where the id may be shortened)."""
    kind, _, prefix = str(spec.get("model_ref") or "").partition(":")
    return kind == "job" and bool(prefix) and job_id.startswith(prefix)


def _schedules(conn: Connection, job_id: str, owner_id: str) -> Iterator[str]:
    columns = (schedules.c.id, schedules.c.name, schedules.c.job, schedules.c.skip_if_unchanged)
    for row in conn.execute(select(*columns).where(schedules.c.owner_id == owner_id)):
        if reads(row.job, job_id):
            yield f"the schedule {row.name}, whose jobs start from its model"
        elif row.skip_if_unchanged and _last_success(conn, row.id) == job_id:
            yield f"the schedule {row.name}, which skips a tick while nothing has changed since this job"


def _sweeps(conn: Connection, job_id: str, owner_id: str) -> Iterator[str]:
    """Yield the unfinished sweeps that the job is a trial of, or whose jobs start from its model."""
    trial = and_(sweep_trials.c.sweep_id == sweeps.c.id, sweep_trials.c.job_id == job_id)
    living = select(sweeps.c.id, sweeps.c.job, sweep_trials.c.number).select_from(sweeps.outerjoin(sweep_trials, trial))
    rows = conn.execute(living.where(sweeps.c.owner_id == owner_id, sweeps.c.finished_at.is_(None)))
    for row in rows:
        if row.number is not None:
            yield f"sweep {row.id}, whose trial {row.number} it is and which has not ended"
        elif reads(row.job, job_id):
            yield f"sweep {row.id}, whose jobs start from its model and which has not ended"


def _last_success(conn: Connection, schedule_id: str) -> str | None:
    """Return the schedule's last successful job, by the same rule as `shared.schedules.skip_unchanged`."""
    made = select(jobs.c.id).join(schedule_ticks, schedule_ticks.c.job_id == jobs.c.id)
    succeeded = made.where(schedule_ticks.c.schedule_id == schedule_id, jobs.c.state == JobState.SUCCEEDED.value)
    return conn.scalars(succeeded.order_by(jobs.c.finished_at.desc()).limit(1)).one_or_none()


def _final(conn: Connection, job_id: str, owner_id: str, wanted: str) -> RowMapping:
    row = _locked(conn, job_id, owner_id)
    if not JobState(row["state"]).is_final:
        raise Conflict(f"Job {job_id} is {row['state']}; it can be {wanted} when it has ended: cancel it first.")
    return row


def _locked(conn: Connection, job_id: str, owner_id: str) -> RowMapping:
    statement = select(*_KEPT).where(jobs.c.id == job_id, jobs.c.owner_id == owner_id)
    return existing(conn.execute(statement.with_for_update()).mappings().one_or_none(), "job", job_id)


# -- removal of files -----------------------------------------------------------------------------


def with_files(conn: Connection, quiet_seconds: float, limit: int) -> list[str]:
    """Return deleted jobs with files that finished `quiet_seconds` ago, so even a frozen runner has ended."""
    left = select(deleted_jobs.c.id).where(
        deleted_jobs.c.has_files, deleted_jobs.c.finished_at < db_now() - quiet_seconds
    )
    return list(conn.scalars(left.order_by(deleted_jobs.c.finished_at, deleted_jobs.c.id).limit(limit)))


def without_files(conn: Connection, job_ids: list[str]) -> None:
    """Record that the files of these deleted jobs are removed."""
    conn.execute(update(deleted_jobs).where(deleted_jobs.c.id.in_(job_ids)).values(has_files=False))
