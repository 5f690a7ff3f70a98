"""Archived and deleted jobs: what is hidden, what is refused, what is left, and what a kill in between leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, select, update

from nightshift.errors import Conflict, InvalidRequest, NotFound
from nightshift.states import JobState
from shared import failpoints
from shared.clock import db_now
from shared.db.engine import read, write
from shared.db.removals import LEFT, Kind
from shared.db.schema import deleted_jobs, jobs, metadata
from shared.failpoints import FailpointError
from shared.job_files.layout import job_dir
from shared.jobs import queries, transitions
from shared.jobs.queries import JobFilters
from shared.jobs.states import StopRequest
from shared.jobs.transitions import ArtifactRecord, LogRow, MetricRow, ModelVersionRecord
from shared.schedules import transitions as schedules
from shared.schedules.queries import get_schedule, history
from shared.settings import Settings
from shared.specs.jobs import job_spec_adapter
from shared.specs.schedules import ScheduleSpec
from tests.support.factories import OWNER, claim_job, commit_checkpoint, job_in_state, running_job, submit_job
from worker.maintenance import pruner


@pytest.fixture
def stack(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


def full_job(engine: Engine, stack: Settings | None = None, model: str | None = None) -> str:
    """A job that succeeded and left something everywhere."""
    lease = running_job(engine)
    stored = f"jobs/{lease.job_id}/attempts/1/artifacts/model/model.safetensors"
    with write(engine) as conn:
        transitions.record(conn, lease, metrics=[MetricRow("loss", 1, 0, 0.5)], logs=[LogRow("info", "hello")])
    checkpoint = commit_checkpoint(engine, lease)
    with write(engine) as conn:
        artifact = ArtifactRecord("model/model.safetensors", stored, "0" * 64, 3, "application/octet-stream")
        version = ModelVersionRecord(model, "cnn", "torch") if model else None
        transitions.succeed(conn, lease, result={"metrics": {}}, artifacts=[artifact], register=version)
    if stack is not None:
        for path in (stored, f"jobs/{lease.job_id}/{checkpoint.path}/state"):
            file = stack.storage_root / path
            file.parent.mkdir(parents=True)
            file.write_bytes(b"all")
    return lease.job_id


def delete(engine: Engine, job_id: str, owner: str = OWNER) -> None:
    with write(engine) as conn:
        transitions.delete_job(conn, job_id, owner)


def let_end(engine: Engine) -> None:
    """As if they had ended long ago."""
    with write(engine) as conn:
        conn.execute(update(jobs).where(jobs.c.finished_at.is_not(None)).values(finished_at=db_now() - 4000))


#: Tables that keep something of a deleted job.
KEPT = {"schedule_ticks", "deleted_attempts"}
#: Tables whose rows of a deleted job are deleted later, in batches.
LONG = {table.name for table, _ in LEFT[Kind.JOB]}


def rows_of(engine: Engine, job_id: str) -> list[str]:
    """Tables that still know the job."""
    with read(engine) as conn:
        tables = [table for table in metadata.tables.values() if "job_id" in table.c and table.name not in KEPT]
        return [table.name for table in tables if conn.execute(select(table).where(table.c.job_id == job_id)).first()]


def test_archived_jobs_are_listed_only_when_asked_for(engine: Engine) -> None:
    gone, there = (job_in_state(engine, JobState.SUCCEEDED, name=name) for name in ("gone", "there"))
    for _ in range(2):
        with write(engine) as conn:
            transitions.archive(conn, gone, OWNER)

    def names(search: str = "") -> set[str]:
        with read(engine) as conn:
            return {row["name"] for row in queries.list_jobs(conn, OWNER, JobFilters(search=search)).items}

    assert [names(), names("is:archived"), names("is:any")] == [{"there"}, {"gone"}, {"gone", "there"}]
    with read(engine) as conn:
        assert queries.job_view(queries.get_job(conn, gone, OWNER))["archived_at"]
    with write(engine) as conn:
        transitions.unarchive(conn, gone, OWNER)
    assert names() == {"gone", "there"}
    with write(engine) as conn, pytest.raises(NotFound):
        transitions.archive(conn, there, "somebody else")


@pytest.mark.parametrize("state", [state for state in JobState if not state.is_final])
def test_what_has_not_ended_is_neither_archived_nor_deleted(sqlite_engine: Engine, state: JobState) -> None:
    job_id = job_in_state(sqlite_engine, state)
    for put_away in (transitions.archive, transitions.delete_job):
        with write(sqlite_engine) as conn, pytest.raises(Conflict, match="cancel it first"):
            put_away(conn, job_id, OWNER)


def test_a_deleted_job_leaves_nothing(engine: Engine, stack: Settings) -> None:
    job_id, other = full_job(engine, stack), full_job(engine, stack)
    with pytest.raises(NotFound):
        delete(engine, job_id, "somebody else")
    let_end(engine)
    delete(engine, job_id)
    with read(engine) as conn, pytest.raises(NotFound):
        queries.get_job(conn, job_id, None)
    assert set(rows_of(engine, job_id)) <= LONG, "these follow, see test_removals"
    assert job_dir(stack.storage_root, job_id).exists(), "rows first"
    assert pruner.run_once(engine, stack)["deleted"] == 1
    assert not job_dir(stack.storage_root, job_id).exists()
    assert (job_dir(stack.storage_root, other) / "attempts/1/artifacts/model/model.safetensors").exists()
    assert pruner.run_once(engine, stack)["deleted"] == 0
    assert len(rows_of(engine, other)) > 4


def test_files_wait_until_a_frozen_runner_is_gone(engine: Engine, stack: Settings) -> None:
    job_id = full_job(engine, stack)
    delete(engine, job_id)
    assert pruner.run_once(engine, stack)["deleted"] == 0
    assert job_dir(stack.storage_root, job_id).exists()


def delete_and_prune(engine: Engine, stack: Settings, job_id: str) -> None:
    delete(engine, job_id)
    pruner.run_once(engine, stack)


@pytest.mark.parametrize("point", ["delete.before_commit", "delete.after_commit", "delete.files_removed"])
def test_a_deletion_that_is_interrupted_leaves_nothing_for_good(engine: Engine, stack: Settings, point: str) -> None:
    """The failpoint raises where a kill would end the process: what was not committed is rolled back either way."""
    job_id = full_job(engine, stack)
    let_end(engine)
    failpoints.arm(f"{point}:raise")
    try:
        with pytest.raises(FailpointError):
            delete_and_prune(engine, stack, job_id)
    finally:
        failpoints.arm("")
    if point == "delete.before_commit":
        assert rows_of(engine, job_id), "nothing has happened"
        delete(engine, job_id)
    pruner.run_once(engine, stack)
    assert set(rows_of(engine, job_id)) <= LONG
    assert not job_dir(stack.storage_root, job_id).exists()
    with read(engine) as conn:
        assert not conn.scalars(select(deleted_jobs.c.has_files)).one()


def test_a_key_is_not_free_again(engine: Engine) -> None:
    job_id = submit_job(engine, idempotency_key="one", body_hash="a").job_id
    with write(engine) as conn:
        transitions.request_stop(conn, job_id, StopRequest.CANCEL, OWNER)
    delete(engine, job_id)
    with pytest.raises(Conflict, match=f"{job_id}.*was deleted"):
        submit_job(engine, idempotency_key="one", body_hash="a")
    with pytest.raises(InvalidRequest, match="another body"):
        submit_job(engine, idempotency_key="one", body_hash="b")
    assert submit_job(engine, idempotency_key="one", body_hash="a", owner_id="another").created
    assert submit_job(engine, idempotency_key="two", body_hash="a").created


def test_a_job_that_is_needed_is_kept(engine: Engine) -> None:
    made = full_job(engine, model="digits")
    with pytest.raises(Conflict, match=r"digits@1 \(delete that version first\)"):
        delete(engine, made)
    other = full_job(engine)
    waits = submit_job(engine, after=[other]).job_id
    with pytest.raises(Conflict, match=f"job {waits}, which comes after it"):
        delete(engine, other)
    with write(engine) as conn:
        transitions.request_stop(conn, waits, StopRequest.CANCEL, OWNER)
    delete(engine, other)


def make_schedule(engine: Engine, **fields: object) -> str:
    job = {"kind": "train", "model": {"family": "cnn", "preset": "mnist-1conv"}, "dataset": "digits"}
    spec = ScheduleSpec.model_validate(
        {"name": "nightly", "cron": "0 3 * * *", "timezone": "UTC", "job": job, **fields}
    )
    with write(engine) as conn:
        return schedules.create(conn, OWNER, spec)


def test_another_owners_reference_to_a_job_does_not_keep_it(engine: Engine) -> None:
    """`job:<beginning>` is looked for among the jobs of its owner only."""
    job_id = full_job(engine)
    body = {"kind": "finetune", "model_ref": f"job:{job_id[:8]}", "dataset": "digits"}
    spec = job_spec_adapter.validate_python(body)
    with write(engine) as conn:
        transitions.submit(conn, transitions.NewJob(owner_id="owner-2", spec=spec))
        schedules.create(conn, "owner-2", ScheduleSpec(name="theirs", cron="0 2 * * *", timezone="UTC", job=body))
    delete(engine, job_id)
    assert set(rows_of(engine, job_id)) <= LONG


def test_history_of_a_schedule_outlives_its_jobs(engine: Engine) -> None:
    schedule = make_schedule(engine)
    with write(engine) as conn:
        job_id = schedules.run_now(conn, schedule, OWNER)
    with write(engine) as conn:
        transitions.request_stop(conn, job_id, StopRequest.CANCEL, OWNER)
    delete(engine, job_id)
    with read(engine) as conn:
        (tick,) = history(conn, schedule, OWNER).items
        assert get_schedule(conn, schedule, OWNER)
    assert (tick["job_id"], tick["job_state"], tick["outcome"]) == (job_id, None, "submitted")


def test_what_a_schedule_goes_by_is_kept(engine: Engine) -> None:
    schedule = make_schedule(engine, skip_if_unchanged=True)
    with write(engine) as conn:
        job_id = schedules.run_now(conn, schedule, OWNER)
    lease = claim_job(engine).lease
    with write(engine) as conn:
        transitions.succeed(conn, lease, result={"metrics": {}}, artifacts=[])
    with pytest.raises(Conflict, match="the schedule nightly, which skips a tick"):
        delete(engine, job_id)
    other = full_job(engine)
    starts = {"kind": "finetune", "model_ref": f"job:{other[:10]}", "dataset": "digits"}
    make_schedule(engine, name="tuned", job=starts)
    with pytest.raises(Conflict, match="the schedule tuned, whose jobs start from its model"):
        delete(engine, other)
