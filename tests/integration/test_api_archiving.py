"""Archive and delete over HTTP, from the pages, with the SDK and on the command line."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine

from nightshift.states import JobState
from tests.support.api import Api
from tests.support.factories import job_in_state, submit_job
from tests.support.flower_app import running_flower_app

TRAIN = {"kind": "train", "model": {"family": "cnn", "preset": "mnist-1conv"}, "dataset": "digits"}


def cancelled(api: Api) -> str:
    job_id = str(api.post("/v1/jobs", json=TRAIN, headers={"Idempotency-Key": "k"}).json()["id"])
    assert api.post(f"/v1/jobs/{job_id}/cancel").status_code == 202
    return job_id


def test_a_job_is_archived_found_and_brought_back(api: Api) -> None:
    job_id = cancelled(api)
    shown = api.post(f"/v1/jobs/{job_id[:8]}/archive")
    assert (shown.status_code, bool(shown.json()["archived_at"])) == (200, True)
    assert api.get("/v1/jobs").json()["items"] == []
    assert [row["id"] for row in api.get("/v1/jobs", params={"q": "is:archived"}).json()["items"]] == [job_id]
    assert api.post(f"/v1/jobs/{job_id}/unarchive").json()["archived_at"] is None
    assert len(api.get("/v1/jobs").json()["items"]) == 1


def test_a_job_is_deleted_once_it_has_ended(api: Api) -> None:
    job_id = cancelled(api)
    assert api.send("DELETE", f"/v1/jobs/{job_id}", key=api.new_key("someone")).status_code == 404
    assert api.send("DELETE", f"/v1/jobs/{job_id}").status_code == 204
    assert api.get(f"/v1/jobs/{job_id}").status_code == 404
    again = api.post("/v1/jobs", json=TRAIN, headers={"Idempotency-Key": "k"})
    assert (again.status_code, "was deleted" in again.json()["detail"]) == (409, True)
    other = api.post("/v1/jobs", json=TRAIN).json()["id"]
    refused = api.send("DELETE", f"/v1/jobs/{other}")
    assert (refused.status_code, "cancel it first" in refused.json()["detail"]) == (409, True)


def test_a_search_over_http(api: Api) -> None:
    api.post("/v1/jobs", json={**TRAIN, "training": {"learning_rate": 0.5}})
    assert len(api.get("/v1/jobs", params={"q": "lr > 0.1 state:queued"}).json()["items"]) == 1
    assert api.get("/v1/jobs", params={"q": "lr < 0.1"}).json()["items"] == []
    refused = api.get("/v1/jobs", params={"q": "state:nowhere"})
    assert (refused.status_code, "there is no state" in refused.json()["detail"]) == (422, True)


def test_pages_put_jobs_away_unless_they_are_read_only(sqlite_engine: Engine, tmp_path: Path) -> None:
    with running_flower_app(sqlite_engine, tmp_path) as flower:
        job_id = submit_job(sqlite_engine, owner_id=flower.owner).job_id
        assert flower.post(f"/jobs/{job_id}/delete").status_code == 409
        assert flower.post(f"/jobs/{job_id}/cancel").status_code == 200
        assert flower.post(f"/jobs/{job_id}/archive").status_code == 200
        assert flower.data("/jobs/data")["total"] == 0
        assert flower.data("/jobs/data", q="is:archived")["items"][0]["archived"] is True
        assert flower.post(f"/jobs/{job_id}/delete").json() is None
        assert flower.client.get(f"/nightshift/jobs/{job_id}").status_code == 404
        theirs = job_in_state(sqlite_engine, JobState.SUCCEEDED)
        assert flower.post(f"/jobs/{theirs}/delete").status_code == 404
    with running_flower_app(sqlite_engine, tmp_path, flower_read_only=True) as flower:
        kept = submit_job(sqlite_engine, owner_id=flower.owner).job_id
        for action in ("archive", "unarchive", "delete"):
            assert flower.post(f"/jobs/{kept}/{action}").status_code == 403
