"""`skip_if_unchanged`: a tick makes no job while it would do what the last one did."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, insert

from shared.clock import db_now, sqlite_clock
from shared.datasets.models import Dataset, DatasetVersion
from shared.db.engine import write
from shared.jobs import transitions as job_transitions
from shared.jobs.states import AttemptOutcome
from shared.jobs.transitions import ArtifactRecord, ModelVersionRecord
from shared.models import aliases
from shared.schedules import transitions
from shared.specs.jobs import job_spec_adapter
from shared.specs.schedules import ScheduleSpec
from tests.support.factories import ERROR, OWNER, claim_job, make_spec, running_job
from tests.unit.shared.schedules.test_transitions import DAY, ticks_of

datasets, versions = Dataset.__table__, DatasetVersion.__table__  # type: ignore[attr-defined]


def add_version(engine: Engine, number: int) -> None:
    with write(engine) as conn:
        if number == 1:
            conn.execute(insert(datasets).values(name="shapes", kind="image", builtin=False, created_at=db_now()))
        row = {"name": "shapes", "version": number, "sha256": f"{number:064}", "size_bytes": 1, "summary": {}}
        conn.execute(insert(versions).values(**row, created_at=db_now()))


def schedule(engine: Engine, job: Any = None, **fields: Any) -> str:
    spec = job or make_spec(dataset="shapes", tags={"tick": "{tick}"}).model_dump(mode="json")
    body = {"name": "n", "cron": "0 2 * * *", "job": spec, "skip_if_unchanged": True, **fields}
    with write(engine) as conn:
        return transitions.create(conn, OWNER, ScheduleSpec.model_validate(body))


def tick(engine: Engine, schedule_id: str) -> Any:
    """A day later: what became of the newest tick."""
    sqlite_clock.offset += DAY
    with write(engine) as conn:
        transitions.take_due(conn, schedule_id)
    return ticks_of(engine, schedule_id)[-1]


def run(engine: Engine, facts: dict[str, Any], *, fails: bool = False) -> str:
    """The waiting job runs to its end with these facts pinned; its id."""
    lease = claim_job(engine).lease
    with write(engine) as conn:
        job_transitions.pin(conn, lease, facts)
        if fails:
            job_transitions.fail(conn, lease, outcome=AttemptOutcome.JOB_ERROR, error=ERROR)
        else:
            job_transitions.succeed(conn, lease, result={}, artifacts=[])
    return lease.job_id


def on(version: int) -> dict[str, Any]:
    return {"dataset": f"shapes@{version}", "dataset_sha256": f"{version:064}"}


@pytest.fixture
def engine(sqlite_engine: Engine) -> Engine:
    add_version(sqlite_engine, 1)
    return sqlite_engine


def test_with_the_same_data_and_settings_there_is_no_second_job(engine: Engine) -> None:
    nightly = schedule(engine)
    assert tick(engine, nightly).outcome == "submitted"
    job_id = run(engine, on(1))
    skipped = tick(engine, nightly)
    assert (skipped.outcome, skipped.job_id) == ("skipped", None)
    assert skipped.reason == f"unchanged since job {job_id}: the same settings, shapes@1"


def test_new_data_make_a_job_and_then_rest_again(engine: Engine) -> None:
    nightly = schedule(engine)
    tick(engine, nightly)
    run(engine, on(1))
    add_version(engine, 2)
    assert tick(engine, nightly).outcome == "submitted"
    run(engine, on(2))
    assert tick(engine, nightly).outcome == "skipped"


def test_other_settings_make_a_job_and_other_labels_do_not(engine: Engine) -> None:
    nightly = schedule(engine)
    tick(engine, nightly)
    run(engine, on(1))
    labelled = make_spec(dataset="shapes", name="again", tags={"a": "b"}).model_dump(mode="json")
    changed = make_spec(dataset="shapes", training={"epochs": 2, "batch_size": 128}).model_dump(mode="json")
    for job, outcome in ((labelled, "skipped"), (changed, "submitted")):
        with write(engine) as conn:
            transitions.change(conn, nightly, OWNER, {"job": job})
        assert tick(engine, nightly).outcome == outcome


def test_only_a_success_counts(engine: Engine) -> None:
    nightly = schedule(engine)
    tick(engine, nightly)
    run(engine, on(1), fails=True)
    assert tick(engine, nightly).outcome == "submitted"


def test_it_is_a_choice(engine: Engine) -> None:
    nightly = schedule(engine, skip_if_unchanged=False)
    tick(engine, nightly)
    run(engine, on(1))
    assert tick(engine, nightly).outcome == "submitted"


def test_by_hand_it_runs_all_the_same(engine: Engine) -> None:
    nightly = schedule(engine)
    tick(engine, nightly)
    run(engine, on(1))
    with write(engine) as conn:
        assert transitions.run_now(conn, nightly, OWNER)


def test_a_tick_that_waited_is_skipped_when_the_job_before_it_did_its_work(engine: Engine) -> None:
    nightly = schedule(engine, overlap="queue")
    tick(engine, nightly)
    assert tick(engine, nightly).outcome == "waiting"
    run(engine, on(1))
    with write(engine) as conn:
        transitions.promote(conn, nightly)
    assert [row.outcome for row in ticks_of(engine, nightly)] == ["submitted", "skipped"]


def test_data_that_are_gone_are_no_reason_to_skip(engine: Engine) -> None:
    nightly = schedule(engine)
    tick(engine, nightly)
    run(engine, on(1))
    with write(engine) as conn:
        conn.execute(versions.delete())
    assert tick(engine, nightly).outcome == "submitted"


def register(engine: Engine) -> None:
    lease = running_job(engine)
    stored = f"jobs/{lease.job_id}/model/model.safetensors"
    weights = ArtifactRecord("model/model.safetensors", stored, "a" * 64, 10, "application/octet-stream")
    record = ModelVersionRecord("m", "cnn", "torch")
    with write(engine) as conn:
        job_transitions.succeed(conn, lease, result={}, artifacts=[weights], register=record)


def test_a_champion_that_moved_makes_a_job(engine: Engine) -> None:
    register(engine)
    register(engine)
    body = {"kind": "finetune", "model_ref": "m@champion", "dataset": "shapes"}
    nightly = schedule(engine, job_spec_adapter.validate_python(body).model_dump(mode="json"))
    tick(engine, nightly)
    parent = {"ref": "m@champion", "folder": "x", "name": "m", "version": 1}
    run(engine, {**on(1), "parent": parent})
    skipped = tick(engine, nightly)
    assert skipped.outcome == "skipped"
    assert skipped.reason.endswith("shapes@1, m@1")
    with write(engine) as conn:
        aliases.set_alias(conn, "m", "champion", 2)
    assert tick(engine, nightly).outcome == "submitted"
