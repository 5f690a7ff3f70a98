"""How attempts end, and what becomes of their job."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import Engine, update

from nightshift.errors import NotFound
from nightshift.states import JobState
from shared.db.engine import read, write
from shared.db.schema import jobs
from shared.errors import LeaseLost
from shared.jobs import queries, transitions
from shared.jobs.states import AttemptOutcome, StopRequest
from shared.jobs.transitions import ArtifactRecord, Ending, Lease, ModelVersionRecord
from shared.models import registry
from tests.support.factories import (
    ERROR,
    OWNER,
    claim_job,
    commit_checkpoint,
    expire_lease,
    make_due,
    running_job,
    submit_job,
)

RETRYABLE = {"type": "unexpected_error", "message": "boom", "retryable": True}
CRASH = {"type": "crashed", "message": "the runner died", "retryable": True}
WEIGHTS = ArtifactRecord(
    "model/model.safetensors", "jobs/j/attempts/1/artifacts/model/model.safetensors", "a" * 64, 9, "x/y"
)


def show(engine: Engine, job_id: str) -> dict[str, Any]:
    with read(engine) as conn:
        return queries.job_view(queries.get_job(conn, job_id, OWNER))


def newest_attempt(engine: Engine, job_id: str) -> dict[str, Any]:
    with read(engine) as conn:
        return queries.attempts(conn, job_id)[0]


def ask(engine: Engine, job_id: str, request: StopRequest) -> JobState:
    with write(engine) as conn:
        return transitions.request_stop(conn, job_id, request, OWNER)


def test_a_first_death_keeps_the_jobs_place_in_the_queue(engine: Engine) -> None:
    """Training goes on at once after a kill, also where other jobs wait."""
    killed = running_job(engine)
    submit_job(engine, priority=9)
    with write(engine) as conn:
        assert transitions.fail(conn, killed, outcome=AttemptOutcome.CRASHED, error=CRASH) is JobState.QUEUED
    assert claim_job(engine).lease == Lease(killed.job_id, 2, killed.worker, killed.seconds)


# -- succeed --------------------------------------------------------------------------------------


def test_success_commits_result_files_and_model_together(engine: Engine) -> None:
    lease = running_job(engine)
    register = ModelVersionRecord("digits", "cnn", "torch", "digits@1", metrics={"test_accuracy": 0.98})
    with write(engine) as conn:
        assert transitions.succeed(
            conn,
            lease,
            result={"metrics": {"test_accuracy": 0.98}, "model": {"path": "model"}},
            artifacts=[WEIGHTS],
            register=register,
            ending=Ending(exit_code=0, peak_memory_bytes=5),
        )
    job = show(engine, lease.job_id)
    assert (job["state"], job["error"], job["worker"]) == ("succeeded", None, "cpu0@test")
    assert job["result"] == {
        "metrics": {"test_accuracy": 0.98},
        "model": {"path": "model", "registered": "digits@1"},
        "artifacts": ["model/model.safetensors"],
    }
    attempt = newest_attempt(engine, lease.job_id)
    assert (attempt["outcome"], attempt["exit_code"], attempt["peak_memory_bytes"]) == ("succeeded", 0, 5)
    with read(engine) as conn:
        assert queries.artifact(conn, lease.job_id, WEIGHTS.path)["stored_as"] == WEIGHTS.stored_as
        with pytest.raises(NotFound):
            queries.artifact(conn, lease.job_id, "nothing")
        assert registry.resolve(conn, "digits").job_id == lease.job_id


def test_success_told_twice_is_one_success(engine: Engine) -> None:
    """The answer to a COMMIT may be lost; the supervisor then says it again."""
    lease = running_job(engine)
    register = ModelVersionRecord("digits", "cnn", "torch")
    for _ in range(2):
        with write(engine) as conn:
            assert transitions.succeed(conn, lease, result={}, artifacts=[WEIGHTS], register=register)
    with read(engine) as conn:
        assert len(registry.show_model(conn, "digits")["versions"]) == 1


def test_a_cancelled_run_does_not_succeed(engine: Engine) -> None:
    lease = running_job(engine)
    ask(engine, lease.job_id, StopRequest.CANCEL)
    with write(engine) as conn:
        assert not transitions.succeed(conn, lease, result={}, artifacts=[WEIGHTS])
    with read(engine) as conn:
        assert queries.artifacts(conn, lease.job_id) == []
    assert show(engine, lease.job_id)["state"] == "running"


def test_a_finished_run_succeeds_and_says_so(engine: Engine) -> None:
    lease = running_job(engine)
    ask(engine, lease.job_id, StopRequest.FINISH)
    with write(engine) as conn:
        assert transitions.succeed(conn, lease, result={}, artifacts=[])
    assert (show(engine, lease.job_id)["state"], show(engine, lease.job_id)["stop_requested"]) == (
        "succeeded",
        "finish",
    )


def test_cancel_against_succeed_one_of_them_wins(engine: Engine) -> None:
    for _ in range(8):
        lease = running_job(engine)
        answers: dict[str, object] = {}
        barrier = threading.Barrier(2)

        def cancel(lease: Lease = lease, answers: dict[str, object] = answers, barrier: Any = barrier) -> None:
            barrier.wait()
            try:
                answers["cancel"] = ask(engine, lease.job_id, StopRequest.CANCEL)
            except Exception as error:
                answers["cancel"] = type(error).__name__

        def succeed(lease: Lease = lease, answers: dict[str, object] = answers, barrier: Any = barrier) -> None:
            barrier.wait()
            with write(engine) as conn:
                answers["succeed"] = transitions.succeed(conn, lease, result={}, artifacts=[])

        both = [threading.Thread(target=cancel), threading.Thread(target=succeed)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        assert answers in (
            {"cancel": JobState.RUNNING, "succeed": False},
            {"cancel": "Conflict", "succeed": True},
        )
        if answers["succeed"] is False:
            with write(engine) as conn:
                transitions.stop(conn, lease, outcome=AttemptOutcome.CANCELLED)


@pytest.mark.usefixtures("long_database_timeouts")
def test_versions_of_one_name_made_at_once_are_numbered_without_gap(engine: Engine) -> None:
    leases = [running_job(engine) for _ in range(6)]
    errors: list[BaseException] = []

    def succeed(lease: Lease) -> None:
        try:
            with write(engine) as conn:
                transitions.succeed(
                    conn, lease, result={}, artifacts=[WEIGHTS], register=ModelVersionRecord("m", "cnn", "torch")
                )
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=succeed, args=(lease,)) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with read(engine) as conn:
        model = registry.show_model(conn, "m")
    assert [version["version"] for version in model["versions"]] == [6, 5, 4, 3, 2, 1]
    assert model["aliases"] == {"champion": 1}


# -- fail -----------------------------------------------------------------------------------------


def fail(engine: Engine, lease: Lease, outcome: AttemptOutcome, error: dict[str, Any], **more: Any) -> JobState:
    with write(engine) as conn:
        return transitions.fail(conn, lease, outcome=outcome, error=error, **more)


def test_an_error_of_the_job_ends_it_with_its_type(engine: Engine) -> None:
    lease = running_job(engine)
    assert fail(engine, lease, AttemptOutcome.JOB_ERROR, ERROR) is JobState.FAILED
    job = show(engine, lease.job_id)
    assert (job["state"], job["error"]) == ("failed", ERROR)
    assert newest_attempt(engine, lease.job_id)["error"] == ERROR


def test_a_retryable_error_is_tried_again_so_often_and_later(engine: Engine) -> None:
    job_id = submit_job(engine, max_retries=2).job_id
    states = []
    for _ in range(3):
        lease = claim_job(engine).lease
        states.append(fail(engine, lease, AttemptOutcome.JOB_ERROR, RETRYABLE))
        if states[-1] is JobState.QUEUED:
            with write(engine) as conn:
                assert transitions.claim(conn, _claimer(), 30.0) is None, "a retry waits for its back-off"
            make_due(engine, job_id)
    assert states == [JobState.QUEUED, JobState.QUEUED, JobState.FAILED]
    assert (show(engine, job_id)["retries"], show(engine, job_id)["attempt"]) == (2, 3)


def _claimer() -> transitions.Claimer:
    return transitions.Claimer("cpu0@test", "cpu", "cpu", frozenset({"torch"}))


def test_a_poison_job_ends_after_three_deaths_with_evidence(engine: Engine) -> None:
    job_id = submit_job(engine).job_id
    ending = Ending(signal=9, peak_memory_bytes=123_000_000)
    for expected in (JobState.QUEUED, JobState.QUEUED, JobState.FAILED):
        make_due(engine, job_id)
        lease = claim_job(engine).lease
        assert fail(engine, lease, AttemptOutcome.OUT_OF_MEMORY, CRASH, ending=ending) is expected
    error = show(engine, job_id)["error"]
    assert not error["retryable"]
    for evidence in ("3 attempts", "out_of_memory", "signal 9", "123 MB"):
        assert evidence in error["message"]
    assert newest_attempt(engine, job_id)["signal"] == 9
    assert show(engine, job_id)["retries"] == 0, "deaths are counted apart from errors"


def test_a_job_that_gets_on_survives_any_number_of_deaths(engine: Engine) -> None:
    job_id = submit_job(engine).job_id
    for step in range(1, 7):
        make_due(engine, job_id)
        lease = claim_job(engine).lease
        commit_checkpoint(engine, lease, step=step)
        assert fail(engine, lease, AttemptOutcome.CRASHED, CRASH) is JobState.QUEUED


def test_a_first_death_is_taken_up_again_at_once(engine: Engine) -> None:
    lease = running_job(engine)
    fail(engine, lease, AttemptOutcome.CRASHED, CRASH)
    assert claim_job(engine).lease.fence == 2


@pytest.mark.parametrize(
    ("request_", "state"),
    [
        (StopRequest.CANCEL, JobState.CANCELLED),
        (StopRequest.PAUSE, JobState.PAUSED),
        (StopRequest.FINISH, JobState.QUEUED),
        (StopRequest.DRAIN, JobState.QUEUED),
    ],
)
def test_a_death_after_a_stop_request_ends_as_was_asked(engine: Engine, request_: StopRequest, state: JobState) -> None:
    lease = running_job(engine)
    with write(engine) as conn:
        transitions.request_stop(conn, lease.job_id, request_, None)
    assert fail(engine, lease, AttemptOutcome.CRASHED, CRASH) is state
    assert show(engine, lease.job_id)["state"] == state
    kept = {StopRequest.CANCEL: "cancel", StopRequest.FINISH: "finish"}.get(request_)
    assert show(engine, lease.job_id)["stop_requested"] == kept


def test_a_failure_told_twice_is_one_failure(engine: Engine) -> None:
    lease = running_job(engine)
    assert fail(engine, lease, AttemptOutcome.JOB_ERROR, RETRYABLE) is JobState.QUEUED
    assert fail(engine, lease, AttemptOutcome.JOB_ERROR, RETRYABLE) is JobState.QUEUED
    assert show(engine, lease.job_id)["retries"] == 1
    with pytest.raises(LeaseLost):
        fail(engine, lease, AttemptOutcome.CRASHED, RETRYABLE)


# -- stop, release --------------------------------------------------------------------------------


def test_pause_keeps_the_job_until_resume(engine: Engine) -> None:
    lease = running_job(engine, timeout_seconds=100.0)
    ask(engine, lease.job_id, StopRequest.PAUSE)
    with write(engine) as conn:
        assert transitions.stop(conn, lease, outcome=AttemptOutcome.PAUSED) is JobState.PAUSED
    job = show(engine, lease.job_id)
    assert (job["state"], job["worker"], job["stop_requested"], job["finished_at"]) == ("paused", None, None, None)
    with write(engine) as conn:
        assert transitions.resume(conn, lease.job_id, OWNER) is JobState.QUEUED
    assert show(engine, lease.job_id)["deadline_at"] is None
    assert claim_job(engine).lease.fence == 2


def test_cancel_beats_the_pause_that_was_on_its_way(engine: Engine) -> None:
    lease = running_job(engine)
    ask(engine, lease.job_id, StopRequest.PAUSE)
    ask(engine, lease.job_id, StopRequest.CANCEL)
    with write(engine) as conn:
        assert transitions.stop(conn, lease, outcome=AttemptOutcome.PAUSED) is JobState.CANCELLED
    assert newest_attempt(engine, lease.job_id)["outcome"] == "cancelled"
    assert show(engine, lease.job_id)["finished_at"] is not None


@pytest.mark.parametrize("outcome", [AttemptOutcome.DRAINED, AttemptOutcome.PREEMPTED])
def test_release_charges_nothing(engine: Engine, outcome: AttemptOutcome) -> None:
    lease = running_job(engine)
    with write(engine) as conn:
        transitions.request_stop(conn, lease.job_id, StopRequest.DRAIN, None)
        assert transitions.release(conn, lease, outcome=outcome) is JobState.QUEUED
    job = show(engine, lease.job_id)
    assert (job["state"], job["retries"], job["stop_requested"], job["worker"]) == ("queued", 0, None, None)
    assert newest_attempt(engine, lease.job_id)["outcome"] == outcome
    assert claim_job(engine).lease.fence == 2


@pytest.mark.parametrize(
    ("request_", "state"), [(StopRequest.CANCEL, JobState.CANCELLED), (StopRequest.PAUSE, JobState.PAUSED)]
)
def test_release_gives_way_to_what_was_asked(engine: Engine, request_: StopRequest, state: JobState) -> None:
    lease = running_job(engine)
    ask(engine, lease.job_id, request_)
    with write(engine) as conn:
        assert transitions.release(conn, lease, outcome=AttemptOutcome.DRAINED) is state
    assert newest_attempt(engine, lease.job_id)["outcome"] == state


def test_a_drained_job_keeps_its_place_a_preempted_one_makes_room(engine: Engine) -> None:
    for outcome, first_again in ((AttemptOutcome.DRAINED, True), (AttemptOutcome.PREEMPTED, False)):
        early = submit_job(engine)
        lease = claim_job(engine).lease
        late = submit_job(engine)
        with write(engine) as conn:
            transitions.release(conn, lease, outcome=outcome)
        order = [claim_job(engine).lease.job_id for _ in range(2)]
        assert order == ([early.job_id, late.job_id] if first_again else [late.job_id, early.job_id])


def test_release_is_not_for_other_endings(engine: Engine) -> None:
    lease = running_job(engine)
    with pytest.raises(ValueError, match="drained"), write(engine) as conn:
        transitions.release(conn, lease, outcome=AttemptOutcome.CANCELLED)


# -- rescue ---------------------------------------------------------------------------------------


def test_only_expired_leases_are_found_and_rescued(engine: Engine) -> None:
    lease = running_job(engine)
    with write(engine) as conn:
        assert transitions.expired(conn) == []
        assert transitions.rescue(conn, job_id=lease.job_id, seen_fence=1, poison_limit=3) is None
    expire_lease(engine, lease.job_id)
    with write(engine) as conn:
        assert transitions.expired(conn) == [(lease.job_id, 1)]
        assert transitions.rescue(conn, job_id=lease.job_id, seen_fence=2, poison_limit=3) is None
        assert transitions.rescue(conn, job_id=lease.job_id, seen_fence=1, poison_limit=3) is JobState.QUEUED
        assert transitions.rescue(conn, job_id=lease.job_id, seen_fence=1, poison_limit=3) is None
    assert newest_attempt(engine, lease.job_id)["outcome"] == "lost"


def test_a_lease_renewed_in_the_last_moment_is_kept(engine: Engine) -> None:
    lease = running_job(engine)
    expire_lease(engine, lease.job_id)
    with write(engine) as conn:
        transitions.renew(conn, lease)
    with write(engine) as conn:
        assert transitions.rescue(conn, job_id=lease.job_id, seen_fence=1, poison_limit=3) is None


def test_two_rescuers_at_once_rescue_once(engine: Engine) -> None:
    lease = running_job(engine)
    expire_lease(engine, lease.job_id)
    states: list[JobState | None] = []
    barrier = threading.Barrier(4)

    def rescue() -> None:
        barrier.wait()
        with write(engine) as conn:
            states.append(transitions.rescue(conn, job_id=lease.job_id, seen_fence=1, poison_limit=3))

    threads = [threading.Thread(target=rescue) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [state for state in states if state is not None] == [JobState.QUEUED]
    with read(engine) as conn:
        assert queries.get_job(conn, lease.job_id, OWNER)["lost_streak"] == 1


def test_rescue_of_a_poison_job_ends_it(engine: Engine) -> None:
    lease = running_job(engine)
    with write(engine) as conn:
        conn.execute(update(jobs).values(lost_streak=2))
    expire_lease(engine, lease.job_id)
    with write(engine) as conn:
        assert transitions.rescue(conn, job_id=lease.job_id, seen_fence=1, poison_limit=3) is JobState.FAILED
    assert "3 attempts in a row" in show(engine, lease.job_id)["error"]["message"]
