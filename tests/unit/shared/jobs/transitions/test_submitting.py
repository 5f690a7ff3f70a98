"""submit: durable, once per idempotency key, complete."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import Engine

from nightshift.errors import InvalidRequest
from nightshift.states import JobState
from shared.db.engine import read, write
from shared.jobs import queries, transitions
from shared.jobs.transitions import NewJob, Submitted
from tests.support.factories import OWNER, job_in_state, make_spec, submit_job


def test_a_job_is_queued_with_everything_it_asked_for(engine: Engine) -> None:
    submitted = submit_job(engine, name="nightly", priority=7, tags={"team": "a"}, pinned={"dataset": "digits@1"})
    assert submitted.created
    with read(engine) as conn:
        job = queries.get_job(conn, submitted.job_id, OWNER)
        view = queries.job_view(job)
    assert view["state"] == "queued"
    assert (view["kind"], view["family"], view["framework"], view["dataset"]) == ("train", "cnn", "torch", "digits")
    assert (view["name"], view["priority"], view["tags"], view["attempt"]) == ("nightly", 7, {"team": "a"}, 0)
    assert view["spec"] == make_spec(name="nightly", priority=7, tags={"team": "a"}).model_dump(mode="json")
    assert job["pinned"] == {"dataset": "digits@1"}


@pytest.mark.parametrize(
    ("fields", "framework"),
    [
        ({"kind": "finetune", "model_ref": "digits", "framework": "tensorflow"}, "tensorflow"),
        ({"kind": "batch_infer", "model_ref": "digits", "inference": {"framework": "tensorflow"}}, "tensorflow"),
        ({"kind": "evaluate", "model_ref": "digits"}, "torch"),
    ],
)
def test_every_kind_says_its_framework_so_that_the_right_worker_claims_it(
    sqlite_engine: Engine, fields: dict[str, object], framework: str
) -> None:
    from shared.specs.jobs import job_spec_adapter

    spec = job_spec_adapter.validate_python({"dataset": "digits", **fields})
    with write(sqlite_engine) as conn:
        job_id = transitions.submit(conn, NewJob(OWNER, spec, pinned={"family": "cnn"})).job_id
        job = queries.get_job(conn, job_id, OWNER)
    assert (job["framework"], job["family"]) == (framework, "cnn")


def test_the_same_key_and_body_is_the_same_job(engine: Engine) -> None:
    first = submit_job(engine, idempotency_key="k", body_hash="a")
    again = submit_job(engine, idempotency_key="k", body_hash="a")
    assert again == Submitted(first.job_id, JobState.QUEUED, created=False)


def test_the_same_key_with_another_body_is_refused_and_names_the_job(engine: Engine) -> None:
    first = submit_job(engine, idempotency_key="k", body_hash="a")
    with pytest.raises(InvalidRequest, match=first.job_id):
        submit_job(engine, idempotency_key="k", body_hash="b")


def test_a_key_belongs_to_its_owner(engine: Engine) -> None:
    first = submit_job(engine, idempotency_key="k", body_hash="a")
    other = submit_job(engine, idempotency_key="k", body_hash="b", owner_id="somebody-else")
    assert other.created
    assert other.job_id != first.job_id


@pytest.mark.usefixtures("long_database_timeouts")
def test_fifty_submits_at_once_with_one_key_make_one_job(engine: Engine) -> None:
    results: list[Submitted] = []
    lock = threading.Lock()

    def submit() -> None:
        submitted = submit_job(engine, idempotency_key="k", body_hash="a")
        with lock:
            results.append(submitted)

    threads = [threading.Thread(target=submit) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 50
    assert len({submitted.job_id for submitted in results}) == 1
    assert sum(submitted.created for submitted in results) == 1


def test_run_at_of_the_spec_counts(engine: Engine) -> None:
    job_id = submit_job(engine, run_at="2033-05-18T05:33:20+02:00").job_id
    with read(engine) as conn:
        assert queries.job_view(queries.get_job(conn, job_id, OWNER))["run_at"] == "2033-05-18T03:33:20.000Z"


def test_a_dependency_must_exist_and_be_ones_own(engine: Engine) -> None:
    theirs = submit_job(engine, owner_id="somebody-else").job_id
    for job_id in (theirs, "0123456789abcdef"):
        with pytest.raises(InvalidRequest) as caught:
            submit_job(engine, after=[job_id])
        assert caught.value.errors[0].loc == ("after", 0)


@pytest.mark.parametrize(
    ("parent", "state"),
    [
        (JobState.QUEUED, JobState.WAITING),
        (JobState.SUCCEEDED, JobState.QUEUED),
        (JobState.FAILED, JobState.FAILED),
        (JobState.CANCELLED, JobState.FAILED),
    ],
)
def test_a_dependency_that_has_ended_counts_at_once(engine: Engine, parent: JobState, state: JobState) -> None:
    submitted = submit_job(engine, after=[job_in_state(engine, parent)])
    with read(engine) as conn:
        assert queries.get_job(conn, submitted.job_id, OWNER)["state"] == state
    assert submitted.state is state
