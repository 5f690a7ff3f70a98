"""submit: the only way to create a job."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

from sqlalchemy import Connection, Row, bindparam, case, literal_column, select
from sqlalchemy import insert as plain_insert

from nightshift.errors import Conflict, InvalidRequest, RequestError
from nightshift.states import JobState
from shared.clock import db_now
from shared.datasets import references
from shared.db.engine import commits_each, insert_of, on_commit
from shared.db.schema import deleted_jobs, job_dependencies, job_events, jobs
from shared.events import emit
from shared.failpoints import failpoint
from shared.fleet.needs import Needs
from shared.fleet.plugins import family_plugin, program_plugin
from shared.jobs.transitions import sharding
from shared.jobs.transitions.dependencies import resolve_dependencies
from shared.jobs.transitions.statements import add_state_event, state_data
from shared.jobs.transitions.values import NewJob, Submitted
from shared.models import ownership, registry
from shared.specs.families import FAMILIES
from shared.specs.jobs import AnyJob, BatchInferJob, RunJob
from shared.specs.times import seconds_of


def submit(conn: Connection, new: NewJob) -> Submitted:
    """Create a job, or return the one that the same idempotency key and body created before.

    Raises Conflict when that job was deleted; InvalidRequest when the key was used with another body, a dependency or
    data set version does not exist, or `register_as` names another owner's model.
    """
    after = list(dict.fromkeys(new.spec.after))
    _check_dependencies(conn, new.owner_id, after)
    references.hold_named(conn, new.spec_as_json)
    ownership.refuse_register_as(conn, getattr(new.spec, "register_as", None), new.owner_id)
    _refuse_deleted(conn, new)
    values = _row(conn, new)
    shards = sharding.number_of(conn, new.spec, values) if isinstance(new.spec, BatchInferJob) else 1
    if shards > 1:
        values["pinned"] = {**values["pinned"], "shards": shards}
    if commits_each(conn):
        failpoint("submit.before_commit")
    row = _insert(conn, values | {"state": _first_state(after if shards == 1 else ["its shards"])})
    if row is None:
        return _existing_job(conn, new)
    state = _divide(conn, values, shards, after) if shards > 1 else _begin(conn, row.id, after)
    if not commits_each(conn):
        failpoint("submit.before_commit")
    on_commit(conn, partial(failpoint, "submit.after_commit"))
    on_commit(conn, partial(emit, "job.submitted", job_id=row.id, kind=new.spec.kind, owner_id=new.owner_id))
    is_due = state is JobState.QUEUED and (new.spec.run_at is None or row.run_at <= row.now)
    return Submitted(row.id, JobState.WAITING if shards > 1 else state, True, is_due)


def is_one_statement(new: NewJob) -> bool:
    """Return whether `submit` of this job is one writing statement on PostgreSQL, without locks before it."""
    versions = any("@" in ref for _, ref in references.named_in(new.spec_as_json))
    return not (new.spec.after or versions or isinstance(new.spec, BatchInferJob))


def _insert(conn: Connection, values: Mapping[str, Any]) -> Row[*tuple[Any, ...]] | None:
    """Insert a job and its event; return None if its idempotency key is used."""
    if conn.dialect.name == "postgresql":
        event = {"event_data": state_data(values["state"], values["fence"])}
        return conn.execute(_insertion_with_event(), {**values, **event}).one_or_none()
    row = conn.execute(_insertion(conn.dialect.name), values).one_or_none()
    if row is not None:
        add_state_event(conn, row)
    return row


def _begin(conn: Connection, job_id: str, after: Sequence[str]) -> JobState:
    """Let a new job wait for others; return its state."""
    if not after:
        return JobState.QUEUED
    conn.execute(plain_insert(job_dependencies), [{"job_id": job_id, "depends_on": other} for other in after])
    return _state_after(resolve_dependencies(conn, job_id=job_id))


def _divide(conn: Connection, whole: Mapping[str, Any], number: int, after: Sequence[str]) -> JobState:
    """Insert the shards of a new job, which waits for them; return the state that all of them have."""
    rows = sharding.shard_rows(whole, number)
    for row in rows:
        _insert(conn, row | {"state": _first_state(after)})
    states = [_begin(conn, row["id"], after) for row in rows]
    _begin(conn, whole["id"], [row["id"] for row in rows])
    return states[0]


def _first_state(after: Sequence[str]) -> str:
    return (JobState.WAITING if after else JobState.QUEUED).value


@lru_cache
def _insertion(dialect: str) -> Any:
    """Return the INSERT of a row. Built once per dialect: building it takes longer than executing it.

    A past `run_at` is replaced by now: rank depends on it, and 1970 would overtake every job.
    """
    wanted = bindparam("wanted_at", type_=jobs.c.run_at.type)
    run_at = case((wanted > db_now(), wanted), else_=db_now())
    return (
        insert_of(dialect, jobs)
        .values(**{name: bindparam(name) for name in _COLUMNS}, run_at=run_at, created_at=db_now())
        .on_conflict_do_nothing(index_elements=["owner_id", "idempotency_key"])
        .returning(
            jobs.c.id, jobs.c.fence, jobs.c.state, jobs.c.event_seq, jobs.c.run_at, jobs.c.created_at.label("now")
        )
    )


@lru_cache
def _insertion_with_event() -> Any:
    """Return the INSERT of a row and of its event as one statement of PostgreSQL, which is one round trip."""
    job = _insertion("postgresql").cte("job")
    data = bindparam("event_data", type_=job_events.c.data.type)
    row = select(job.c.id, job.c.event_seq, literal_column("'state'"), job.c.now, job.c.fence, data)
    event = plain_insert(job_events).from_select(("job_id", "seq", "type", "at", "fence", "data"), row)
    return select(job).add_cte(event.cte("event"))


def _state_after(counts: dict[str, int]) -> JobState:
    """Return the state of a job whose dependencies may have ended before it was submitted."""
    if counts["queued"]:
        return JobState.QUEUED
    return JobState.FAILED if counts["failed"] else JobState.WAITING


#: The columns that `_row` fills.
_COLUMNS = (
    "id", "owner_id", "idempotency_key", "body_hash", "kind", "name", "family", "framework", "plugin", "plugin_record",
    "plugin_state", "dataset", "device", "needs", "tags", "spec", "pinned", "state", "fence", "priority",
    "timeout_seconds", "lost_streak", "retries", "max_retries", "preempts", "after", "part_of", "copied_from",
    "progress_seq", "event_seq",
)  # fmt: skip


def _row(conn: Connection, new: NewJob) -> dict[str, Any]:
    """Return the columns of a new job, without its state."""
    spec = new.spec
    return {
        "id": secrets.token_hex(8),
        "owner_id": new.owner_id,
        "idempotency_key": new.idempotency_key,
        "body_hash": new.body_hash,
        "kind": spec.kind,
        "name": spec.name,
        "family": _family(spec) or new.pinned.get("family"),
        "framework": _framework(spec),
        **_plugin(conn, new),
        "dataset": spec.dataset,
        "device": spec.resources.device,
        "needs": Needs.of(spec.resources).text,
        "tags": spec.tags,
        "spec": new.spec_as_json,
        "pinned": new.pinned,
        "fence": 0,
        "priority": spec.priority,
        "wanted_at": seconds_of(spec.run_at) if spec.run_at else None,
        "timeout_seconds": spec.timeout_seconds,
        "lost_streak": 0,
        "retries": 0,
        "max_retries": spec.max_retries,
        "preempts": spec.preempt,
        "after": spec.after,
        "part_of": None,
        "copied_from": new.copied_from,
        "progress_seq": 0,
        "event_seq": 1,
    }


_NO_PLUGIN: dict[str, Any] = {"plugin": None, "plugin_record": None, "plugin_state": None}


def _plugin(conn: Connection, new: NewJob) -> dict[str, Any]:
    """Return the plug-in that a worker must have, and its version if the job uses a model that one made.

    Every worker has the families of Nightshift; the first attempt pins their version.
    """
    if isinstance(new.spec, RunJob):
        return _NO_PLUGIN | {"plugin": program_plugin(new.spec.program)}
    family, maker = _made_by(conn, new)
    if family is None or FAMILIES.is_builtin(family):
        return _NO_PLUGIN
    return {
        "plugin": family_plugin(family),
        "plugin_record": maker.get("record"),
        "plugin_state": maker.get("state_version"),
    }


def _made_by(conn: Connection, new: NewJob) -> tuple[str | None, Mapping[str, Any]]:
    """Return the job's family, and what the job that made its model has pinned of the package.

    A job of a schedule names a model that nothing has looked up yet; one that is not there is refused by the worker.
    """
    family = _family(new.spec) or new.pinned.get("family")
    model_ref = getattr(new.spec, "model_ref", None)
    if family is not None or model_ref is None:
        return family, new.pinned.get("plugin") or {}
    try:
        model = registry.resolve(conn, model_ref, new.owner_id)
    except RequestError:
        return None, {}
    return model.family, registry.maker_of(conn, model.job_id).get("plugin") or {}


def _family(spec: AnyJob) -> str | None:
    model = getattr(spec, "model", None)
    return None if model is None else str(model.family)


def _framework(spec: AnyJob) -> str | None:
    for part in (spec, getattr(spec, "model", None), getattr(spec, "inference", None)):
        framework = getattr(part, "framework", None)
        if framework is not None:
            return str(framework)
    return None


def _check_dependencies(conn: Connection, owner_id: str, after: list[str]) -> None:
    if not after:
        return
    found = set(conn.scalars(select(jobs.c.id).where(jobs.c.owner_id == owner_id, jobs.c.id.in_(after))))
    for position, job_id in enumerate(after):
        if job_id not in found:
            raise InvalidRequest.field(("after", position), f"there is no job {job_id!r} to wait for")


def _existing_job(conn: Connection, new: NewJob) -> Submitted:
    row = conn.execute(
        select(jobs.c.id, jobs.c.state, jobs.c.body_hash).where(
            jobs.c.owner_id == new.owner_id, jobs.c.idempotency_key == new.idempotency_key
        )
    ).one()
    if row.body_hash != new.body_hash:
        raise _other_body(row.id)
    return Submitted(row.id, JobState(row.state), False)


def _refuse_deleted(conn: Connection, new: NewJob) -> None:
    """Raise Conflict for a key whose job was deleted, InvalidRequest if that job had another body."""
    if new.idempotency_key is None:
        return
    mine = (deleted_jobs.c.owner_id == new.owner_id, deleted_jobs.c.idempotency_key == new.idempotency_key)
    deleted = conn.execute(select(deleted_jobs.c.id, deleted_jobs.c.body_hash).where(*mine)).one_or_none()
    if deleted is None:
        return
    if deleted.body_hash != new.body_hash:
        raise _other_body(deleted.id)
    raise Conflict(f"Job {deleted.id} of this Idempotency-Key was deleted; use a new key to run it again.")


def _other_body(job_id: str) -> InvalidRequest:
    detail = f"this key was used before with another body (job {job_id}); use a new key for a new job"
    return InvalidRequest.field(("Idempotency-Key",), detail)
