"""What keeps the stack in order: each service, on real rows and files."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine, update

import worker.maintenance
from nightshift.states import JobState
from shared.clock import db_now
from shared.db.engine import read, write
from shared.db.schema import checkpoints, jobs
from shared.errors import BrokerUnavailable
from shared.events import subscribe
from shared.job_files.layout import attempt_dir, job_dir
from shared.jobs import queries, transitions
from shared.jobs.states import AttemptOutcome, StopRequest
from shared.jobs.transitions import ArtifactRecord, Lease, LogRow
from shared.settings import Settings
from tests.support.factories import (
    ERROR,
    OWNER,
    claim_job,
    commit_checkpoint,
    expire_lease,
    running_job,
    submit_job,
)
from worker.maintenance import deadline_enforcer, dispatcher, pruner, rescuer
from worker.maintenance.service import Service, run_services


@pytest.fixture
def stack(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


def state_of(engine: Engine, job_id: str) -> str:
    with read(engine) as conn:
        return str(queries.get_job(conn, job_id, OWNER)["state"])


# -- rescuer, deadline_enforcer -------------------------------------------------------------------


def test_the_rescuer_brings_back_what_was_lost_and_only_that(engine: Engine, stack: Settings) -> None:
    kept, lost, unwanted = (running_job(engine) for _ in range(3))
    with write(engine) as conn:
        transitions.request_stop(conn, unwanted.job_id, StopRequest.CANCEL, OWNER)
    expire_lease(engine, lost.job_id)
    expire_lease(engine, unwanted.job_id)
    assert rescuer.run_once(engine, stack) == {"rescued": 1, "failed": 0, "stopped": 1}
    assert [state_of(engine, lease.job_id) for lease in (kept, lost, unwanted)] == ["running", "queued", "cancelled"]
    assert rescuer.run_once(engine, stack) == {"rescued": 0, "failed": 0, "stopped": 0}


@pytest.mark.parametrize("began", [True, False])
def test_a_lost_attempt_keeps_what_had_reached_sql(engine: Engine, stack: Settings, began: bool) -> None:
    lease = running_job(engine)
    logs = [LogRow("stdout", f"line {number}") for number in range(30)]
    with write(engine) as conn:
        transitions.record(conn, lease, progress={"step": 7, "phase": "validate"}, logs=logs)
        if began:
            transitions.begin(conn, lease, device_label="cpu", resumed_from=None, resumed_step=None, quarantined=[])
    expire_lease(engine, lease.job_id)
    rescuer.run_once(engine, stack)
    with read(engine) as conn:
        evidence = queries.attempts(conn, lease.job_id)[0]["evidence"]
    assert (evidence["phase"], evidence["step"]) == (("validate", 7) if began else (None, None))
    assert evidence["log_tail"] == [f"stdout: line {number}" for number in range(10, 30)]


def test_the_rescuer_ends_a_poison_job(engine: Engine, stack: Settings) -> None:
    job_id = submit_job(engine).job_id
    ends = []
    for _ in range(stack.poison_limit):
        with write(engine) as conn:
            conn.execute(update(jobs).values(run_at=db_now() - 1))
        claim_job(engine)
        expire_lease(engine, job_id)
        ends.append(rescuer.run_once(engine, stack))
    assert [end["failed"] for end in ends] == [0, 0, 1]
    assert state_of(engine, job_id) == "failed"


def test_jobs_past_their_deadline_time_out(engine: Engine, stack: Settings) -> None:
    job_id = submit_job(engine).job_id
    with write(engine) as conn:
        conn.execute(update(jobs).values(deadline_at=db_now() - 1))
    assert deadline_enforcer.run_once(engine, stack) == {"timed_out": 1}
    assert state_of(engine, job_id) == "failed"


# -- dispatcher -----------------------------------------------------------------------------------


class Queues:
    """Redis as the dispatcher sees it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **lengths: int) -> None:
        self.lengths = {"auto": 0, "cpu": 0, "gpu": 0, **lengths}
        self.rung: list[tuple[str, str]] = []
        monkeypatch.setattr(dispatcher, "queue_lengths", lambda: self.lengths)
        monkeypatch.setattr(dispatcher, "ring", lambda device, job_id: self.rung.append((device, job_id)))


def test_the_dispatcher_rings_what_is_missing(engine: Engine, stack: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [submit_job(engine, resources={"device": device}).job_id for device in ("auto", "auto", "auto", "cpu")]
    submit_job(engine, run_at=4e9)
    submit_job(engine, run_at=4e9, resources={"device": "gpu"})
    queues = Queues(monkeypatch, cpu=5)
    assert dispatcher.run_once(engine, stack) == {"queued": 0, "failed": 0, "rung": 1}
    assert queues.rung == [("auto", wanted[0])]


def test_the_dispatcher_leaves_an_idle_house_alone(
    engine: Engine, stack: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_asked() -> dict[str, int]:
        raise AssertionError("nothing is due: Redis need not be asked")

    monkeypatch.setattr(dispatcher, "queue_lengths", not_asked)
    assert dispatcher.run_once(engine, stack)["rung"] == 0


def test_the_dispatcher_does_without_redis(engine: Engine, stack: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    submit_job(engine)
    Queues(monkeypatch)

    def refuse(device: str, job_id: str) -> None:
        raise BrokerUnavailable("gone")

    monkeypatch.setattr(dispatcher, "ring", refuse)
    assert dispatcher.run_once(engine, stack)["rung"] == 0


def test_the_dispatcher_settles_a_whole_chain_in_one_pass(
    engine: Engine, stack: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    Queues(monkeypatch)
    lease = running_job(engine)
    chain = [lease.job_id]
    for _ in range(3):
        chain.append(submit_job(engine, after=chain[-1:]).job_id)
    with write(engine) as conn:
        transitions.fail(conn, lease, outcome=AttemptOutcome.JOB_ERROR, error=ERROR)
    assert dispatcher.run_once(engine, stack)["failed"] == 3
    assert {state_of(engine, job_id) for job_id in chain} == {"failed"}


# -- pruner ---------------------------------------------------------------------------------------


def write_file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    return path


def end_long_ago(engine: Engine, lease: Lease, artifacts: list[ArtifactRecord]) -> None:
    with write(engine) as conn:
        transitions.succeed(conn, lease, result={}, artifacts=artifacts)
        conn.execute(update(jobs).values(finished_at=db_now() - 1000))


def test_the_pruner_keeps_what_is_listed_and_removes_the_rest_of_a_final_job(engine: Engine, stack: Settings) -> None:
    root = stack.storage_root
    lease = running_job(engine)
    kept_checkpoint = commit_checkpoint(engine, lease, step=2)
    early = ArtifactRecord(
        "samples.png", f"jobs/{lease.job_id}/attempts/1/artifacts/samples.png", "a" * 64, 1, "image/png"
    )
    with write(engine) as conn:
        transitions.commit_artifacts(conn, lease, [early])
    for _ in range(2):
        with write(engine) as conn:
            transitions.release(conn, lease, outcome=AttemptOutcome.DRAINED)
        lease = claim_job(engine).lease
    folder = job_dir(root, lease.job_id)
    listed = [
        write_file(folder / kept_checkpoint.path / "state"),
        write_file(attempt_dir(root, lease.job_id, 1) / "artifacts" / "samples.png"),
        write_file(attempt_dir(root, lease.job_id, 3) / "artifacts" / "curves.png"),
    ]
    rest = [
        write_file(attempt_dir(root, lease.job_id, 2) / "scratch"),
        write_file(folder / "checkpoints" / ".tmp-2-abc" / "state"),
        write_file(folder / "checkpoints" / "9-without-row" / "state"),
    ]
    assert pruner.run_once(engine, stack)["attempts"] == 0, "it still runs"
    end_long_ago(engine, lease, [])
    counts = pruner.run_once(engine, stack)
    assert (counts["attempts"], counts["leftovers"]) == (1, 2)
    assert [path.exists() for path in listed] == [True] * 3
    assert [path.exists() for path in rest] == [False] * 3


def test_a_job_that_has_just_ended_is_left_alone(engine: Engine, stack: Settings) -> None:
    """A frozen runner of an older attempt may still be at work in its folder."""
    lease = running_job(engine)
    with write(engine) as conn:
        transitions.fail(conn, lease, outcome=AttemptOutcome.JOB_ERROR, error=ERROR)
    scratch = write_file(attempt_dir(stack.storage_root, lease.job_id, 1) / "scratch")
    assert pruner.run_once(engine, stack)["attempts"] == 0
    assert scratch.exists()


def test_files_of_deleted_checkpoints_go(engine: Engine, stack: Settings) -> None:
    lease = running_job(engine)
    kept, gone = commit_checkpoint(engine, lease, step=2), commit_checkpoint(engine, lease, step=1)
    folder = job_dir(stack.storage_root, lease.job_id)
    files = [write_file(folder / checkpoint.path / "state") for checkpoint in (kept, gone)]
    with write(engine) as conn:
        transitions.delete_checkpoints(conn, lease, [gone.id])
    assert pruner.run_once(engine, stack)["checkpoints"] == 1
    assert [path.exists() for path in files] == [True, False]
    assert pruner.run_once(engine, stack)["checkpoints"] == 0


@pytest.mark.parametrize("path", ["../../../precious", "/precious", ".", "..", ""])
def test_no_row_leads_the_pruner_out_of_its_job(engine: Engine, stack: Settings, path: str) -> None:
    lease = running_job(engine)
    precious = write_file(stack.data_dir / "precious" / "file")
    own = write_file(job_dir(stack.storage_root, lease.job_id) / "file")
    row = commit_checkpoint(engine, lease)
    wrong = path.replace("/precious", str(precious.parent)) if path[:1] == "/" else path
    with write(engine) as conn:
        conn.execute(update(checkpoints).where(checkpoints.c.id == row.id).values(path=wrong))
        transitions.delete_checkpoints(conn, lease, [row.id])
    pruner.run_once(engine, stack)
    assert precious.exists()
    assert own.exists()


# -- the skeleton ---------------------------------------------------------------------------------


def test_one_service_that_fails_does_not_hold_up_the_others(sqlite_engine: Engine, stack: Settings) -> None:
    def fail(engine: Engine, settings: Settings) -> dict[str, int]:
        raise RuntimeError("boom")

    emitted: list[tuple[str, str]] = []
    unsubscribe = subscribe(lambda event, fields: emitted.append((event, str(fields.get("error")))))
    done = run_services([Service("bad", fail), Service("good", lambda *_: {"n": 1})], sqlite_engine, stack)
    unsubscribe()
    assert done == {"good": {"n": 1}}
    assert ("maintenance.failed", "RuntimeError: boom") in emitted


def test_a_service_with_an_interval_waits_for_it(sqlite_engine: Engine, stack: Settings) -> None:
    rare = Service("rare", lambda *_: {"n": 1}, every_seconds=1000)
    assert run_services([rare], sqlite_engine, stack) == {"rare": {"n": 1}}
    assert run_services([rare], sqlite_engine, stack) == {}


def test_a_poke_during_a_pass_does_nothing(sqlite_engine: Engine, stack: Settings) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def slow(engine: Engine, settings: Settings) -> dict[str, int]:
        inside.set()
        go_on.wait(120)
        return {"n": 1}

    service = Service("slow", slow)
    thread = threading.Thread(target=run_services, args=([service], sqlite_engine, stack))
    thread.start()
    assert inside.wait(120)
    assert run_services([service], sqlite_engine, stack) == {}
    go_on.set()
    thread.join()


def test_all_services_together(engine: Engine, stack: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    queues = Queues(monkeypatch)
    lease = running_job(engine)
    expire_lease(engine, lease.job_id)
    done = worker.maintenance.run_all(engine, stack)
    assert done["rescuer"]["rescued"] == 1
    assert queues.rung == [("auto", lease.job_id)], "what comes back is rung for in the same pass"
    assert state_of(engine, lease.job_id) == JobState.QUEUED
