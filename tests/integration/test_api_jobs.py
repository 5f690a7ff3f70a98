"""Submitting, looking at and steering jobs over HTTP."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import Engine, func, select

from nightshift.states import FINAL_STATES, JobState
from shared.db.engine import read
from shared.db.schema import jobs
from tests.support.api import TRAIN, Api, assert_problem, running_api
from tests.support.factories import claim_job, job_in_state, running_job, submit_job


def test_a_submitted_job_is_there_with_its_preset_filled_in(api: Api) -> None:
    answer = api.submit(name="digits nightly", training={"epochs": 2}, tags={"team": "vision"}, priority=7)
    assert answer.status_code == 202
    accepted = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{accepted['id']}"
    assert (accepted["state"], accepted["created"]) == ("queued", True)

    shown = api.get(answer.headers["location"]).json()
    assert {key: shown[key] for key in ("name", "kind", "family", "framework", "dataset", "priority", "tags")} == {
        "name": "digits nightly", "kind": "train", "family": "cnn", "framework": "torch", "dataset": "digits",
        "priority": 7, "tags": {"team": "vision"},
    }  # fmt: skip
    assert shown["spec"]["model"]["filters"] == [32, 64, 64]
    assert shown["spec"]["training"]["epochs"] == 2
    assert shown["attempt"] == 0
    assert shown["created_at"].endswith("Z")


@pytest.mark.parametrize("device", ["auto", "cpu", "gpu"])
def test_the_doorbell_of_the_device_rings_after_the_job_is_written(api: Api, device: str) -> None:
    job_id = api.submit(resources={"device": device}).json()["id"]
    assert api.rung == [(device, job_id)]


def test_the_doorbell_rings_only_once_the_job_can_be_seen(api: Api) -> None:
    seen = []

    def look(device: str, job_id: str) -> None:
        with read(api.engine) as conn:
            seen.append(conn.scalar(select(jobs.c.state).where(jobs.c.id == job_id)))

    object.__setattr__(api.app.state.service, "ring", look)
    api.submit()
    assert seen == ["queued"]


def test_the_same_key_and_body_is_the_same_job(api: Api) -> None:
    first = api.submit("nightly-1")
    again = api.submit("nightly-1")
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == {**first.json(), "created": False}
    assert again.headers["location"] == first.headers["location"]
    assert len(api.get("/v1/jobs").json()["items"]) == 1


def test_the_same_key_with_another_body_is_refused(api: Api) -> None:
    api.submit("nightly-1")
    assert_problem(api.submit("nightly-1", priority=9), 422, ("Idempotency-Key",))


def test_two_owners_may_use_the_same_key(api: Api) -> None:
    headers = {"Idempotency-Key": "nightly-1"}
    mine = api.post("/v1/jobs", json=TRAIN, headers=headers).json()
    theirs = api.post("/v1/jobs", json={**TRAIN, "priority": 1}, headers=headers, key=api.new_key("someone")).json()
    assert mine["id"] != theirs["id"]


@pytest.mark.parametrize("key", ["", "a b", "x" * 256])
def test_a_bad_idempotency_key_is_named(api: Api, key: str) -> None:
    assert_problem(api.submit(key), 422, ("Idempotency-Key",))


@pytest.mark.usefixtures("long_database_timeouts")
def test_fifty_parallel_submits_with_one_key_make_one_job(engine: Engine, tmp_path: Any) -> None:
    with running_api(engine, tmp_path) as api:
        answers: list[Any] = []
        together = threading.Barrier(50)

        def submit() -> None:
            together.wait()
            answers.append(api.submit("only-one"))

        threads = [threading.Thread(target=submit) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [answer.status_code for answer in answers] == [202] * 50
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert sum(answer.json()["created"] for answer in answers) == 1
        assert len(api.rung) == 1
        with read(engine) as conn:
            assert conn.scalar(select(func.count()).select_from(jobs)) == 1


def test_run_at_keeps_a_job_back_and_the_past_means_now(api: Api) -> None:
    later = api.submit(run_at="2100-01-01T00:00:00+02:00").json()["id"]
    assert api.get(f"/v1/jobs/{later}").json()["run_at"] == "2099-12-31T22:00:00.000Z"
    past = api.submit(run_at="1999-01-01T00:00:00Z").json()["id"]
    shown = api.get(f"/v1/jobs/{past}").json()
    assert shown["run_at"] >= shown["created_at"]
    assert claim_job(api.engine).lease.job_id == past


def test_a_job_may_wait_for_others(api: Api) -> None:
    first = api.submit().json()["id"]
    assert api.submit(after=[first]).json()["state"] == "waiting"
    assert_problem(api.submit(after=["0" * 16]), 422, ("after", 0))


# -- what a spec names must exist -----------------------------------------------------------------


def test_an_unknown_data_set_is_answered_with_those_there_are(api: Api) -> None:
    problem = assert_problem(api.submit(dataset="digit"), 422, ("dataset",))
    assert "digits" in problem["errors"][0]["msg"]


def test_a_batch_larger_than_the_training_set_is_refused_with_its_size(api: Api) -> None:
    problem = assert_problem(api.submit(training={"batch_size": 1_400}), 422, ("training", "batch_size"))
    assert "1294" in problem["errors"][0]["msg"]  # 1,438 rows for training, a tenth of them (rounded) for validation
    assert api.submit(training={"batch_size": 1_294}).status_code == 202


# -- looking --------------------------------------------------------------------------------------


def test_jobs_are_listed_newest_first_page_by_page(api: Api) -> None:
    ids = [submit_job(api.engine).job_id for _ in range(5)]
    seen, cursor = [], None
    while True:
        page = api.get("/v1/jobs", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        assert len(page["items"]) <= 2
        seen += [job["id"] for job in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == ids[::-1]


def test_jobs_are_filtered(api: Api) -> None:
    paused = job_in_state(api.engine, JobState.PAUSED, tags={"team": "vision"})
    queued = job_in_state(api.engine, JobState.QUEUED, tags={"team": "speech"})

    def listed(**params: Any) -> set[str]:
        answer = api.get("/v1/jobs", params=params)
        assert answer.status_code == 200, answer.text
        return {job["id"] for job in answer.json()["items"]}

    assert listed(state="paused") == {paused}
    assert listed(state=["paused", "queued"]) == {paused, queued}
    assert listed(tag="team") == {paused, queued}
    assert listed(tag="team=speech") == {queued}
    assert listed(kind="train", family="cnn") == {paused, queued}
    assert listed(family="gan") == set()


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"state": "done"}, 422),
        ({"kind": "trian"}, 422),
        ({"family": "x"}, 422),
        ({"limit": 0}, 422),
        ({"limit": 201}, 422),
        ({"limit": "ten"}, 422),
        ({"limit": 2**70}, 422),
        ({"tag": "\x00"}, 422),
        ({"tag": ""}, 422),
        ({"tag": "x" * 500}, 422),
        ({"cursor": "x"}, 400),
        ({"cursor": "é"}, 400),
        ({"cursor": "\x00"}, 400),
        ({"cursor": ""}, 400),
    ],
)
def test_bad_filters_are_refused(api: Api, params: dict[str, Any], status: int) -> None:
    answer = api.get("/v1/jobs", params=params)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    if status == 422:
        assert {tuple(error["loc"][:2]) for error in answer.json()["errors"]} == {("query", name) for name in params}


def test_an_id_may_be_shortened_while_it_is_unique(api: Api) -> None:
    job_id = submit_job(api.engine).job_id
    assert api.get(f"/v1/jobs/{job_id[:6]}").json()["id"] == job_id
    assert api.post(f"/v1/jobs/{job_id[:6]}/pause").json()["id"] == job_id
    assert api.get(f"/v1/jobs/{job_id[:6]}/logs").status_code == 200


@pytest.mark.parametrize("job_id", ["0" * 16, "00000"])
def test_an_unknown_id_is_not_found(api: Api, job_id: str) -> None:
    assert_problem(api.get(f"/v1/jobs/{job_id}"), 404)
    assert_problem(api.post(f"/v1/jobs/{job_id}/cancel"), 404)
    assert_problem(api.get(f"/v1/jobs/{job_id}/events"), 404)


@pytest.mark.parametrize("job_id", ["abc", "g" * 16, "0" * 17, "%0A" + "0" * 15, "..%5c..", "%E2%80%AE1234", "%00123"])
def test_what_is_no_id_is_refused(api: Api, job_id: str) -> None:
    assert_problem(api.get(f"/v1/jobs/{job_id}"), 422, ("path", "job_id"))


PARTS = ["", "/metrics", "/attempts", "/checkpoints", "/artifacts", "/artifacts/model/config.json", "/logs", "/events"]


@pytest.mark.parametrize("part", PARTS)
def test_another_owners_job_is_not_found(api: Api, part: str) -> None:
    job_id = submit_job(api.engine, owner_id="someone").job_id
    assert_problem(api.get(f"/v1/jobs/{job_id}{part}"), 404)
    assert_problem(api.get(f"/v1/jobs/{job_id[:8]}{part}"), 404)
    assert api.get("/v1/jobs").json()["items"] == []


# -- steering -------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["cancel", "finish", "pause", "resume"])
def test_another_owners_job_cannot_be_steered(api: Api, verb: str) -> None:
    job_id = submit_job(api.engine, owner_id="someone").job_id
    assert_problem(api.post(f"/v1/jobs/{job_id}/{verb}"), 404)


def test_a_queued_job_stops_at_once_and_can_go_on(api: Api) -> None:
    job_id = submit_job(api.engine).job_id
    paused = api.post(f"/v1/jobs/{job_id}/pause")
    assert (paused.status_code, paused.json()["state"]) == (202, "paused")
    resumed = api.post(f"/v1/jobs/{job_id}/resume")
    assert (resumed.status_code, resumed.json()["state"]) == (202, "queued")
    assert api.rung == [("auto", job_id)]
    cancelled = api.post(f"/v1/jobs/{job_id}/cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (202, "cancelled")


@pytest.mark.parametrize("verb", ["cancel", "finish", "pause"])
def test_a_running_job_is_asked_and_asking_twice_is_harmless(api: Api, verb: str) -> None:
    job_id = running_job(api.engine).job_id
    for _ in range(2):
        answer = api.post(f"/v1/jobs/{job_id}/{verb}")
        assert answer.status_code == 202
        assert (answer.json()["state"], answer.json()["stop_requested"]) == ("running", verb)


@pytest.mark.parametrize("state", sorted(FINAL_STATES))
@pytest.mark.parametrize("verb", ["cancel", "finish", "pause", "resume"])
def test_a_final_job_cannot_be_steered(api: Api, state: JobState, verb: str) -> None:
    job_id = job_in_state(api.engine, state)
    assert_problem(api.post(f"/v1/jobs/{job_id}/{verb}"), 409)
    assert api.get(f"/v1/jobs/{job_id}").json()["state"] == state
