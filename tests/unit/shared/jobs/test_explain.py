"""Why a job is where it is: each state names its decisive reason, for people and for programs."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine

from nightshift.states import JobState
from shared.clock import format_duration
from shared.db.engine import read, write
from shared.fleet.workers import WorkerInfo, describe, heartbeat, register
from shared.jobs import queries, transitions
from shared.jobs.explain import Reason, Why, explain
from shared.jobs.states import AttemptOutcome, StopRequest
from shared.jobs.transitions import Ending
from tests.support.factories import (
    ERROR,
    OWNER,
    claim_job,
    expire_lease,
    job_in_state,
    make_claimer,
    make_due,
    running_job,
    submit_job,
)
from tests.support.paths import ROOT

LEASE = 30.0


def why(engine: Engine, job_id: str) -> Why:
    with read(engine) as conn:
        job = queries.get_job(conn, job_id, None)
        return explain(job, queries.explain_context(conn, job, LEASE))


def only(found: Why, code: str) -> Reason:
    [reason] = [reason for reason in found.reasons if reason.code == code]
    return reason


def codes(found: Why) -> list[str]:
    return [reason.code for reason in found.reasons]


def worker(engine: Engine, name: str = "cpu0@test", device: str = "cpu", *frameworks: str, **more: Any) -> None:
    info = WorkerInfo(name, "test", 1, device, device, frameworks=list(frameworks or ("torch", "tensorflow")), **more)
    with write(engine) as conn:
        register(conn, info)


# -- queued ---------------------------------------------------------------------------------------


def test_no_worker_at_all(sqlite_engine: Engine) -> None:
    found = why(sqlite_engine, submit_job(sqlite_engine).job_id)
    assert codes(found) == ["no_worker"]
    assert found.sentence.startswith("It is queued: no worker is online")


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ({"resources": {"device": "gpu"}}, "device gpu and torch"),
        ({"model": {"family": "cnn", "framework": "tensorflow"}}, "requires: tensorflow"),
    ],
)
def test_no_worker_for_that_device_or_framework(sqlite_engine: Engine, job: dict[str, Any], words: str) -> None:
    worker(sqlite_engine, "cpu0@test", "cpu", "torch")
    found = why(sqlite_engine, submit_job(sqlite_engine, **job).job_id)
    assert codes(found) == ["no_suitable_worker"]
    assert words in found.sentence
    assert only(found, "no_suitable_worker").fields["workers_online"] == 1


def test_a_framework_that_does_not_work_on_a_device_is_told_with_its_reason(sqlite_engine: Engine) -> None:
    why_not = {"tensorflow": "it finds no GPU"}
    worker(sqlite_engine, "cpu0@test")
    worker(sqlite_engine, "gpu0@test", "gpu", "torch", unusable=why_not)
    model = {"family": "cnn", "framework": "tensorflow"}
    found = why(sqlite_engine, submit_job(sqlite_engine, model=model, resources={"device": "gpu"}).job_id)
    assert codes(found) == ["no_suitable_worker"]
    assert "on gpu0@test tensorflow does not work: it finds no GPU" in found.sentence
    assert only(found, "no_suitable_worker").fields["unusable"] == {"gpu0@test": "it finds no GPU"}


def test_a_worker_whose_disk_is_full_is_named_with_its_reason(engine: Engine) -> None:
    job_id = submit_job(engine).job_id
    worker(engine, "cpu0@test")
    with write(engine) as conn:
        heartbeat(conn, "cpu0@test", disk_full="2.0 MB are free")
    found = why(engine, job_id)
    assert codes(found) == ["disk_full"]
    assert "the only worker that can run it takes no jobs because its disk is full" in found.sentence
    assert only(found, "disk_full").fields == {"workers": [{"name": "cpu0@test", "reason": "2.0 MB are free"}]}
    worker(engine, "cpu1@test")
    with write(engine) as conn:
        heartbeat(conn, "cpu1@test", left_because="GPU is lost")
    assert codes(why(engine, job_id)) == ["device_failed", "disk_full"]
    with write(engine) as conn:
        heartbeat(conn, "cpu0@test")
    assert codes(why(engine, job_id)) == ["worker_free"]


def test_a_worker_that_left_its_device_is_named_with_its_reason(engine: Engine) -> None:
    job_id = submit_job(engine, resources={"device": "gpu"}).job_id
    worker(engine, "cpu0@test")
    worker(engine, "gpu0@test", "gpu")
    with write(engine) as conn:
        describe(conn, "gpu0@test", [], {"torch": "GPU is lost", "tensorflow": "GPU is lost"})
        heartbeat(conn, "gpu0@test", left_because="GPU is lost")
    found = why(engine, job_id)
    assert codes(found) == ["device_failed"]
    assert "the only worker that can run it left its device" in found.sentence
    assert only(found, "device_failed").fields == {"workers": [{"name": "gpu0@test", "reason": "GPU is lost"}]}
    worker(engine, "gpu1@test", "gpu")
    assert codes(why(engine, job_id)) == ["worker_free"]


def test_a_worker_for_jobs_that_require_its_device_takes_no_other(engine: Engine) -> None:
    worker(engine, "cpu0@test", takes_auto=False)
    any_device = submit_job(engine).job_id
    found = why(engine, any_device)
    assert codes(found) == ["no_suitable_worker"]
    assert "take only jobs that require their device (cpu0@test)" in found.sentence
    with write(engine) as conn:
        assert transitions.claim(conn, replace(make_claimer(), takes_auto=False), LEASE) is None
    required = submit_job(engine, resources={"device": "cpu"}).job_id
    assert codes(why(engine, required)) == ["worker_free"], "the job for any device is not ahead of it"
    with write(engine) as conn:
        claimed = transitions.claim(conn, replace(make_claimer(), takes_auto=False), LEASE)
    assert claimed is not None
    assert claimed.lease.job_id == required


def test_others_ahead_are_counted_as_a_claim_would_take_them(engine: Engine) -> None:
    worker(engine, "cpu0@test", "cpu", "torch")
    submit_job(engine, priority=6)
    submit_job(engine)
    submit_job(engine, resources={"device": "gpu"}, priority=9)  # not for this worker
    submit_job(engine, run_at=4e9, priority=9)  # not due
    mine = submit_job(engine).job_id
    submit_job(engine, priority=1)
    found = why(engine, mine)
    assert codes(found) == ["worker_free", "jobs_ahead"]
    assert only(found, "jobs_ahead").fields == {"count": 2}
    assert "2 queued jobs are ahead of it" in found.sentence


def test_busy_workers_are_named_with_what_they_hold(engine: Engine) -> None:
    worker(engine)
    busy = running_job(engine)
    found = why(engine, submit_job(engine).job_id)
    assert only(found, "workers_busy").fields["workers"] == [{"name": "cpu0@test", "job_id": busy.job_id}]
    assert "the only worker that can run it is busy" in found.sentence
    theirs = why(engine, submit_job(engine, owner_id="somebody else").job_id)
    assert only(theirs, "workers_busy").fields["workers"] == [{"name": "cpu0@test", "job_id": None}]
    assert busy.job_id not in theirs.sentence


def test_a_worker_that_lost_its_queue_does_not_count_as_free(engine: Engine) -> None:
    worker(engine)
    job_id = submit_job(engine).job_id
    with write(engine) as conn:
        heartbeat(conn, "cpu0@test", listening=False)
    found = why(engine, job_id)
    assert codes(found) == ["not_listening"]
    assert "cpu0@test has lost the subscription to its queue" in found.sentence
    assert only(found, "not_listening").fields == {"workers": ["cpu0@test"]}
    worker(engine, "cpu1@test")
    assert only(why(engine, job_id), "worker_free").fields == {"workers": ["cpu1@test"]}


def test_a_time_in_the_future(sqlite_engine: Engine) -> None:
    found = why(sqlite_engine, submit_job(sqlite_engine, run_at=4e9).job_id)
    assert codes(found) == ["run_at"]
    assert only(found, "run_at").fields["until"].startswith("2096-")


def test_back_off_names_the_error(sqlite_engine: Engine) -> None:
    lease = running_job(sqlite_engine)
    error = {"type": "unexpected_error", "message": "the disk hiccuped", "retryable": True}
    with write(sqlite_engine) as conn:
        transitions.fail(conn, lease, outcome=AttemptOutcome.JOB_ERROR, error=error, ending=Ending(exit_code=0))
    found = why(sqlite_engine, lease.job_id)
    assert codes(found) == ["back_off", "attempt_ended"]
    fields = only(found, "back_off").fields
    assert (fields["error"], fields["attempt"], fields["retries"], fields["exit_code"]) == (error, 1, 1, 0)
    assert "attempt 1 ended: job error (the disk hiccuped)" in found.sentence
    make_due(sqlite_engine, lease.job_id)
    assert "back_off" not in codes(why(sqlite_engine, lease.job_id))


# -- the other states -------------------------------------------------------------------------------


def test_dependencies(engine: Engine) -> None:
    first, second = running_job(engine), submit_job(engine).job_id
    waits = submit_job(engine, after=[first.job_id, second]).job_id
    found = why(engine, waits)
    assert found.sentence.startswith("It is waiting for 2 other jobs: ")
    assert {(r.fields["job_id"], r.fields["state"]) for r in found.reasons} == {
        (first.job_id, "running"),
        (second, "queued"),
    }
    with write(engine) as conn:
        transitions.fail(conn, first, outcome=AttemptOutcome.JOB_ERROR, error=ERROR)
        transitions.resolve_dependencies(conn)
    found = why(engine, waits)
    assert codes(found) == ["failed", "dependency", "dependency"]
    assert f"job {first.job_id} is failed" in found.sentence


def test_running_says_what_it_does(engine: Engine) -> None:
    worker(engine)
    lease = running_job(engine)
    assert codes(why(engine, lease.job_id)) == ["starting"]
    with write(engine) as conn:
        transitions.record(conn, lease, progress={"phase": "validate", "step": 1200, "total_steps": 5000})
        transitions.request_stop(conn, lease.job_id, StopRequest.PAUSE, OWNER)
    found = why(engine, lease.job_id)
    assert codes(found) == ["doing", "stop_requested"]
    assert "attempt 1 on cpu0@test is validating at step 1,200 of 5,000, last heartbeat " in found.sentence
    assert "it will pause at the end of its step" in found.sentence
    fields = only(found, "doing").fields
    assert (fields["phase"], fields["step"], fields["worker"]) == ("validate", 1200, "cpu0@test")
    assert 0 <= fields["heartbeat_age_seconds"] < 30


def test_progress_of_an_earlier_attempt_is_not_the_present_one(engine: Engine) -> None:
    lease = running_job(engine)
    with write(engine) as conn:
        transitions.record(conn, lease, progress={"phase": "train", "step": 7})
        transitions.release(conn, lease, outcome=AttemptOutcome.DRAINED)
    claim_job(engine)
    assert codes(why(engine, lease.job_id)) == ["starting", "attempt_ended"]


def test_a_worker_that_went_silent(sqlite_engine: Engine) -> None:
    lease = running_job(sqlite_engine)
    expire_lease(sqlite_engine, lease.job_id)
    found = why(sqlite_engine, lease.job_id)
    assert codes(found) == ["silent"]
    assert "has sent no heartbeat" in found.sentence


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (JobState.PAUSED, "nightshift resume"),
        (JobState.SUCCEEDED, "It succeeded: attempt 1 on cpu0@test succeeded"),
        (JobState.FAILED, "It failed: bad_data: made to fail."),
        (JobState.CANCELLED, "It was cancelled by request, while it was not running."),
    ],
)
def test_how_it_ended(sqlite_engine: Engine, state: JobState, words: str) -> None:
    found = why(sqlite_engine, job_in_state(sqlite_engine, state))
    assert words in found.sentence
    assert codes(found) == [state.value]


def test_a_cancel_of_a_running_job(sqlite_engine: Engine) -> None:
    lease = running_job(sqlite_engine)
    with write(sqlite_engine) as conn:
        transitions.request_stop(conn, lease.job_id, StopRequest.CANCEL, OWNER)
        transitions.stop(conn, lease, outcome=AttemptOutcome.CANCELLED)
    assert why(sqlite_engine, lease.job_id).sentence == "It was cancelled by request, while attempt 1 was running."


def test_tries_that_did_not_count_are_told_with_their_evidence(sqlite_engine: Engine) -> None:
    job_id = submit_job(sqlite_engine).job_id
    crash = {"type": "crashed", "message": "killed by SIGSEGV", "retryable": True}
    for _ in range(3):
        make_due(sqlite_engine, job_id)
        lease = claim_job(sqlite_engine, make_claimer()).lease
        with write(sqlite_engine) as conn:
            ending = Ending(signal=11, peak_memory_bytes=5)
            transitions.fail(conn, lease, outcome=AttemptOutcome.CRASHED, error=crash, ending=ending)
    found = why(sqlite_engine, job_id)
    assert codes(found) == ["failed", "attempt_ended", "attempt_ended"]
    assert [(r.fields["attempt"], r.fields["signal"]) for r in found.reasons] == [(3, 11), (2, 11), (1, 11)]
    assert "3 attempts in a row died without a new checkpoint" in found.sentence


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-1, "0.0 s"), (0.44, "0.4 s"), (42, "42 s"), (300, "5 min"), (12_000, "3 h 20 min"), (400_000, "4 days")],
)
def test_lengths_of_time_are_spelled(seconds: float, said: str) -> None:
    assert format_duration(seconds) == said


def test_every_code_is_documented() -> None:
    root = ROOT
    code = "".join(path.read_text() for path in (root / "shared/jobs/explain").glob("*.py"))
    codes = set(re.findall(r'Reason\(\s*"(\w+)"', code))
    listed = set(re.findall(r"^\| `(\w+)`", (root / "docs/why.md").read_text(), re.M))
    assert codes == listed
