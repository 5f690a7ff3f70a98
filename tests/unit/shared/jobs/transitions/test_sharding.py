"""Shards in SQL: made with their job in one transaction, kept in step with it, and merged by it."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, select, update

from nightshift.errors import Conflict
from nightshift.names import SHARD
from nightshift.states import JobState
from shared.clock import db_now
from shared.db.engine import read, write
from shared.db.schema import jobs
from shared.fleet import workers
from shared.fleet.workers import WorkerInfo
from shared.jobs import queries, transitions
from shared.jobs.explain import explain
from shared.jobs.queries import JobFilters
from shared.jobs.states import AttemptOutcome, StopRequest
from shared.jobs.transitions import CheckpointRecord, NewJob, Submitted, sharding
from shared.specs.jobs import job_spec_adapter
from tests.support.factories import ERROR, OWNER, claim_job, submit_job

RESULT = {"metrics": {"rows": 9.0, "errors": 1.0}, "model": None}


def submit(engine: Engine, shards: Any = 3, key: str | None = None, **fields: Any) -> Submitted:
    how = {"task": "generate", "count": 40, "shards": shards}
    body = {"kind": "batch_infer", "model_ref": "cats", "inference": how, **fields}
    new = NewJob(OWNER, job_spec_adapter.validate_python(body), "hash", key, {"family": "gan"})
    with write(engine) as conn:
        return transitions.submit(conn, new)


def rows(engine: Engine, job_id: str) -> list[Any]:
    """The shards of a job in their order."""
    with read(engine) as conn:
        found = conn.execute(select(jobs).where(jobs.c.part_of == job_id)).all()
    return sorted(found, key=lambda row: row.pinned["shard"])


def row(engine: Engine, job_id: str) -> Any:
    with read(engine) as conn:
        return conn.execute(select(jobs).where(jobs.c.id == job_id)).one()


def states(engine: Engine, job_id: str) -> list[str]:
    return [shard.state for shard in rows(engine, job_id)]


def maintain(engine: Engine) -> None:
    with write(engine) as conn:
        transitions.resolve_dependencies(conn)
        transitions.align_shards(conn)


def succeed(engine: Engine) -> Any:
    claimed = claim_job(engine)
    with write(engine) as conn:
        assert transitions.succeed(conn, claimed.lease, result=RESULT, artifacts=[])
    return claimed


def test_the_job_waits_for_its_shards_and_then_merges(engine: Engine) -> None:
    submitted = submit(engine, key="once", name="cats", tags={"team": "vision"}, priority=7)
    assert (submitted.state, submitted.is_due) == (JobState.WAITING, True)
    shards = rows(engine, submitted.job_id)
    assert [shard.pinned["shard"] for shard in shards] == [0, 1, 2]
    assert {(shard.kind, shard.state, shard.priority, shard.family) for shard in shards} == {
        (SHARD, "queued", 7, "gan")
    }
    assert {shard.spec["inference"]["shards"] for shard in shards} == {1}
    assert submit(engine, key="once", name="cats", tags={"team": "vision"}, priority=7).job_id == submitted.job_id
    for _ in shards:
        assert row(engine, submitted.job_id).state == "waiting"
        succeed(engine)
    whole = row(engine, submitted.job_id)
    assert whole.state == "queued", "the last shard lets it go on at once"
    assert whole.progress["step"] == 30
    claimed = succeed(engine)
    assert (claimed.lease.job_id, claimed.kind) == (submitted.job_id, "batch_infer")
    assert row(engine, submitted.job_id).result["metrics"] == RESULT["metrics"]


def test_shards_are_hidden_unless_asked_for(engine: Engine) -> None:
    submitted = submit(engine)
    with read(engine) as conn:
        assert [item["id"] for item in queries.list_jobs(conn, OWNER).items] == [submitted.job_id]
        for filters in (JobFilters(kind=SHARD), JobFilters(search="kind:shard")):
            found = queries.list_jobs(conn, OWNER, filters).items
            assert {item["part_of"] for item in found} == {submitted.job_id}
            assert sorted((item["shard"], item["shards"]) for item in found) == [(1, 3), (2, 3), (3, 3)]
        assert [item["shard"] for item in queries.list_shards(conn, submitted.job_id)] == [1, 2, 3]
        assert sum(queries.stats(conn).jobs.values()) == 1


def test_auto_divides_among_the_workers_that_can_run_the_job(engine: Engine) -> None:
    assert rows(engine, submit(engine, "auto").job_id) == []
    with write(engine) as conn:
        for number, frameworks in enumerate((["torch"], ["torch", "tensorflow"], ["tensorflow"])):
            info = WorkerInfo(f"cpu{number}@test", "test", 1, "cpu", "CPU", frameworks=frameworks)
            workers.register(conn, info)
    assert len(rows(engine, submit(engine, "auto").job_id)) == 2


def test_shards_wait_for_the_jobs_that_the_job_comes_after(engine: Engine) -> None:
    first = submit_job(engine)
    submitted = submit(engine, after=[first.job_id])
    assert (states(engine, submitted.job_id), submitted.is_due) == (["waiting"] * 3, False)
    told = f"Job {submitted.job_id} is waiting; it cannot be asked to pause now"
    with pytest.raises(Conflict, match=told), write(engine) as conn:
        transitions.request_stop(conn, submitted.job_id, StopRequest.PAUSE, OWNER)
    with read(engine) as conn:
        job = queries.get_job(conn, submitted.job_id, OWNER)
        why = explain(job, queries.explain_context(conn, job, 30.0))
    assert why.sentence.startswith(f"It is waiting for 1 other job: job {first.job_id} is queued")
    claimed = claim_job(engine)
    with write(engine) as conn:
        transitions.fail(conn, claimed.lease, outcome=AttemptOutcome.JOB_ERROR, error=ERROR)
    for _ in range(2):
        maintain(engine)
    assert (states(engine, submitted.job_id), row(engine, submitted.job_id).state) == (["failed"] * 3, "failed")


def test_a_shard_that_fails_fails_the_job_and_ends_the_others(engine: Engine) -> None:
    submitted = submit(engine, max_retries=0)
    failing, running = claim_job(engine), claim_job(engine)
    with write(engine) as conn:
        transitions.fail(conn, failing.lease, outcome=AttemptOutcome.JOB_ERROR, error=ERROR)
    maintain(engine)
    whole = row(engine, submitted.job_id)
    place = failing.pinned["shard"] + 1
    assert whole.error["type"] == ERROR["type"]
    assert whole.error["message"] == f"shard {place} of 3 (job {failing.lease.job_id}) failed: made to fail"
    assert sorted(states(engine, submitted.job_id)) == ["cancelled", "failed", "running"]
    with write(engine) as conn:
        assert transitions.renew(conn, running.lease).stop_requested is StopRequest.CANCEL
    with pytest.raises(Conflict, match="still stopping"), write(engine) as conn:
        transitions.delete_job(conn, submitted.job_id, OWNER)
    with write(engine) as conn:
        transitions.stop(conn, running.lease, outcome=AttemptOutcome.CANCELLED)
        transitions.delete_job(conn, submitted.job_id, OWNER)
        assert conn.execute(select(jobs.c.id)).all() == []


def test_a_pause_and_a_resume_reach_every_shard(engine: Engine) -> None:
    submitted = submit(engine)
    running = claim_job(engine)
    with write(engine) as conn:
        assert transitions.request_stop(conn, submitted.job_id, StopRequest.PAUSE, OWNER) is JobState.PAUSED
    assert sorted(states(engine, submitted.job_id)) == ["paused", "paused", "running"]
    with write(engine) as conn:
        assert transitions.resume(conn, submitted.job_id, OWNER) is JobState.WAITING
        transitions.stop(conn, running.lease, outcome=AttemptOutcome.PAUSED)
    assert sorted(states(engine, submitted.job_id)) == ["paused", "queued", "queued"], "its request came first"
    maintain(engine)
    assert states(engine, submitted.job_id) == ["queued"] * 3


def test_cancel_and_finish(engine: Engine) -> None:
    for begins, wanted in ((False, "cancelled"), (True, "waiting")):
        submitted = submit(engine)
        claimed = claim_job(engine) if begins else None
        with write(engine) as conn:
            assert transitions.request_stop(conn, submitted.job_id, StopRequest.FINISH, OWNER) == wanted
        requests = {shard.stop_requested for shard in rows(engine, submitted.job_id)}
        assert requests == {"finish" if begins else "cancel"}
        if claimed is not None:
            with write(engine) as conn:
                assert transitions.request_stop(conn, submitted.job_id, StopRequest.CANCEL, OWNER) == "cancelled"
                assert transitions.renew(conn, claimed.lease).stop_requested is StopRequest.CANCEL
            assert sorted(states(engine, submitted.job_id)) == ["cancelled", "cancelled", "running"]


def test_an_edit_of_the_priority_reaches_the_shards(engine: Engine) -> None:
    submitted = submit(engine)
    claim_job(engine)
    with write(engine) as conn:
        transitions.edit(conn, submitted.job_id, {"priority": 9}, OWNER, OWNER)
    assert sorted(shard.priority for shard in rows(engine, submitted.job_id)) == [5, 9, 9]
    assert row(engine, submitted.job_id).priority == 9


def test_what_one_shard_pins_holds_for_all(engine: Engine) -> None:
    submitted = submit(engine)
    first, second = claim_job(engine), claim_job(engine)
    with write(engine) as conn:
        one = transitions.pin(conn, first.lease, {"threads": 4, "parent": {"folder": "a"}})
        other = transitions.pin(conn, second.lease, {"threads": 2, "parent": {"folder": "b"}})
        agreed = [transitions.agree(conn, each.lease, name) for each, name in ((first, "one"), (second, "other"))]
    assert (one["threads"], other["threads"], other["parent"]) == (4, 4, {"folder": "a"})
    assert agreed == ["one", "one"]
    pinned = row(engine, submitted.job_id).pinned
    assert pinned == {"family": "gan", "shards": 3, "threads": 4, "parent": {"folder": "a"}, "engine": "one"}
    assert {shard.pinned["shard"] for shard in rows(engine, submitted.job_id)} == {0, 1, 2}


def test_the_progress_is_that_of_all_shards(engine: Engine) -> None:
    submitted = submit(engine, timeout_seconds=60)
    one, other = claim_job(engine), claim_job(engine)
    progress = {"step": 5, "total_steps": 13, "whole_steps": 40, "samples_per_second": 2.0, "phase": "infer"}
    with write(engine) as conn:
        transitions.record(conn, one.lease, progress=progress)
        transitions.record(conn, other.lease, progress={**progress, "step": 9, "samples_per_second": 6.0})
    whole = row(engine, submitted.job_id)
    found = {name: whole.progress[name] for name in ("step", "total_steps", "percent", "eta_seconds")}
    assert found == {"step": 14, "total_steps": 40, "percent": 35.0, "eta_seconds": 3.25}
    assert whole.started_at is not None
    assert whole.deadline_at == pytest.approx(whole.started_at + 60)
    assert {shard.deadline_at for shard in rows(engine, submitted.job_id)} == {None}
    with write(engine) as conn:
        conn.execute(update(jobs).where(jobs.c.id == submitted.job_id).values(deadline_at=db_now() - 1))
        assert transitions.expire_deadlines(conn) == [submitted.job_id]
    maintain(engine)
    assert row(engine, submitted.job_id).error["type"] == "timed_out"
    assert {shard.stop_requested for shard in rows(engine, submitted.job_id)} == {"cancel"}


def test_why_says_what_the_shards_do(engine: Engine) -> None:
    submitted = submit(engine, 2)
    claimed = claim_job(engine)
    with read(engine) as conn:
        job = queries.get_job(conn, submitted.job_id, OWNER)
        why = explain(job, queries.explain_context(conn, job, 30.0))
    place = claimed.pinned["shard"] + 1
    assert why.sentence.startswith("It is waiting for 2 of its shards: shard ")
    assert f"shard {place} (job {claimed.lease.job_id}) is running on cpu0@test" in why.sentence
    assert "no worker is online" in why.sentence, "why the other one is queued"
    assert [reason.code for reason in why.reasons] == ["shard", "shard", "queued_shard"]


def test_a_damaged_part_is_named_to_the_merge(engine: Engine) -> None:
    submitted = submit(engine, 2)
    for step in (20, 40):
        claimed = claim_job(engine)
        part = CheckpointRecord(id=str(step), path=f"checkpoints/{step}", step=step, sha256="a", size_bytes=1)
        with write(engine) as conn:
            transitions.commit_checkpoint(conn, claimed.lease, part)
            transitions.succeed(conn, claimed.lease, result=RESULT, artifacts=[])
    with read(engine) as conn:
        parts, damaged = queries.shard_parts(conn, submitted.job_id)
    assert (sorted(one.step for found in parts.values() for one in found), damaged) == ([20, 40], False)
    merging = claim_job(engine)
    with write(engine) as conn:
        begun = {"device_label": "cpu", "resumed_from": None, "resumed_step": 20}
        transitions.begin(conn, merging.lease, **begun, quarantined=["40"])
    with read(engine) as conn:
        parts, damaged = queries.shard_parts(conn, submitted.job_id)
    assert ([one.step for found in parts.values() for one in found], damaged) == ([20], True)


def test_no_shard_is_controlled_by_itself(engine: Engine) -> None:
    submitted = submit(engine)
    shard = rows(engine, submitted.job_id)[0]
    with pytest.raises(Conflict, match=f"is a shard of job {submitted.job_id}"):
        transitions.refuse_shard(shard._mapping)


def test_progress_without_any_shard_begun() -> None:
    assert sharding.whole_progress([]) == {"step": 0, "epoch": 0, "phase": "load"}
