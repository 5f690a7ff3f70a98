"""/v1/devices, and what jobs may ask of devices: by HTTP, SDK and command line."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select, update

from shared.db.engine import read, write
from shared.db.schema import jobs, workers
from shared.jobs import transitions
from tests.support.api import Api, assert_problem
from tests.support.factories import claim_job, expire_lease, make_claimer, register_device, submit_job

GB = 1_000_000_000


def spec(**resources: Any) -> dict[str, Any]:
    return {"kind": "train", "dataset": "digits", "model": {"family": "cnn"}, "resources": resources}


def test_devices_are_listed_and_steered(api: Api) -> None:
    register_device(api.engine, "gpu0@a", device_uuid="GPU-1", memory_bytes=80 * GB, labels=["nvlink"])
    register_device(api.engine, "cpu0@b")
    [on_a, on_b] = api.get("/v1/devices").json()["items"]
    assert (on_a["id"], on_a["worker"], on_a["memory_bytes"], on_a["labels"]) == (
        "GPU-1", "gpu0@a", 80 * GB, ["nvlink"],
    )  # fmt: skip
    assert (on_b["id"], on_b["state"], on_b["cordoned_at"], on_b["is_held"]) == ("cpu0@b", "online", None, False)
    [cordoned] = api.post("/v1/devices/gpu0@a/cordon").json()["items"]
    assert cordoned["cordoned_at"] is not None
    [again] = api.post("/v1/devices/GPU-1/uncordon").json()["items"]
    assert again["cordoned_at"] is None
    assert_problem(api.post("/v1/devices/gpu7@a/cordon"), 404)


def test_draining_a_host_returns_its_jobs(api: Api) -> None:
    register_device(api.engine)
    submit_job(api.engine, owner_id="somebody else")
    job_id = claim_job(api.engine).lease.job_id
    [device] = api.post("/v1/devices/test/drain").json()["items"]
    assert (device["is_held"], device["job_id"]) == (True, None)  # another owner's
    with read(api.engine) as conn:
        assert conn.scalar(select(jobs.c.stop_requested).where(jobs.c.id == job_id)) == "drain"


def gone(api: Api, host: str) -> None:
    """Let the workers of a host be silent for longer than a lease."""
    with write(api.engine) as conn:
        conn.execute(update(workers).where(workers.c.host == host).values(heartbeat_at=0.0))


def test_a_host_that_is_gone_is_forgotten_and_a_living_one_is_not(api: Api) -> None:
    for name in ("cpu0@a", "cpu1@a", "cpu0@b"):
        register_device(api.engine, name)
    submit_job(api.engine)
    claim_job(api.engine, make_claimer("cpu1@a"))
    assert "cpu0@a is alive" in assert_problem(api.post("/v1/devices/a/forget"), 409)["detail"]
    gone(api, "a")
    assert "cpu1@a" in assert_problem(api.post("/v1/devices/a/forget"), 409)["detail"], "its attempt holds it"
    [other] = api.post("/v1/devices/cpu0@a/forget").json()["items"]
    assert (other["id"], other["state"]) == ("cpu0@a", "offline")
    job_id = api.get("/v1/devices").json()["items"][0]["job_id"]
    expire_lease(api.engine, job_id)
    with write(api.engine) as conn:
        transitions.rescue(conn, job_id=job_id, seen_fence=1, poison_limit=3)
    assert [one["id"] for one in api.post("/v1/devices/a/forget").json()["items"]] == ["cpu1@a"]
    assert [one["id"] for one in api.get("/v1/devices").json()["items"]] == ["cpu0@b"]
    assert [one["name"] for one in api.get("/v1/workers").json()["items"]] == ["cpu0@b"]
    assert_problem(api.post("/v1/devices/a/forget"), 404)
    register_device(api.engine, "cpu0@a")
    assert [one["id"] for one in api.get("/v1/devices").json()["items"]] == ["cpu0@a", "cpu0@b"]


UNMET = [
    ({"memory_gb": 100.0}, "resources.memory_gb", "100.0"),
    ({"model": "H100"}, "resources.model", "'H100'"),
    ({"labels": ["room=4"]}, "resources.labels", "room=4"),
    ({"device": "cpu", "memory_gb": 1.0}, "resources.device", "'cpu'"),
]


@pytest.mark.parametrize(("resources", "field", "value"), UNMET)
def test_what_no_known_device_has_is_refused_with_what_there_is(
    api: Api, resources: dict[str, Any], field: str, value: str
) -> None:
    register_device(api.engine, "gpu0@a", device_name="NVIDIA A100", memory_bytes=80 * GB, labels=["room=3"])
    answer = api.post("/v1/jobs", json=spec(**resources))
    detail = assert_problem(answer, 422, ("resources", field.partition(".")[2]))["detail"]
    assert detail.startswith(f"{field}: ")
    assert value in detail
    assert "a: 1 × gpu NVIDIA A100 (80 GB, room=3)" in detail


def test_a_gang_that_no_host_can_have_is_refused(api: Api) -> None:
    for name in ("cpu0@a", "cpu1@a", "cpu0@b"):
        register_device(api.engine, name)
    answer = api.post("/v1/jobs", json=spec(devices=3))
    detail = assert_problem(answer, 422, ("resources", "devices"))["detail"]
    assert "a: 2 × Test cpu" in detail
    assert api.post("/v1/jobs", json=spec(devices=2)).status_code == 202


NO_GANGS = [
    ({"training": {"batch_size": 1}}, "training.batch_size", "2 devices"),
    ({"kind": "evaluate", "model": None, "model_ref": "digits"}, "resources.devices", "evaluate"),
]


@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
def test_both_frameworks_have_gangs(api: Api, framework: str) -> None:
    body = {**spec(devices=2), "model": {"family": "cnn", "framework": framework}}
    assert api.post("/v1/jobs", json=body).status_code == 202


@pytest.mark.parametrize(("changes", "field", "reason"), NO_GANGS)
def test_what_cannot_be_a_gang_is_refused(api: Api, changes: dict[str, Any], field: str, reason: str) -> None:
    body = {name: value for name, value in {**spec(devices=2), **changes}.items() if value is not None}
    answer = api.post("/v1/jobs", json=body)
    [error] = assert_problem(answer, 422, tuple(field.split(".")))["errors"]
    assert reason in error["msg"]


def test_what_a_device_has_is_accepted_and_so_is_all_before_the_first_is_known(api: Api) -> None:
    assert api.post("/v1/jobs", json=spec(memory_gb=1000.0)).status_code == 202
    register_device(api.engine, "gpu0@a", device_name="NVIDIA A100", memory_bytes=80 * GB)
    wanted = spec(memory_gb=79.5, model="a100")
    answer = api.post("/v1/jobs", json=wanted)
    assert answer.status_code == 202
    assert answer.json()["spec"]["resources"]["memory_gb"] == 79.5


def test_a_label_that_no_device_can_have_is_refused(api: Api) -> None:
    assert_problem(api.post("/v1/jobs", json=spec(labels=["two words"])), 422, ("resources", "labels", 0))
