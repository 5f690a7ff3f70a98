"""What belongs to the service: readiness, outages, Prometheus, families, workers, models, results."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from api.metrics.http import HttpMetrics
from nightshift.states import JobState
from shared import doorbell
from shared.db.engine import make_engine, write
from shared.fleet import workers
from shared.fleet.workers import HostUsage, Usage
from shared.jobs import transitions
from shared.jobs.states import AttemptOutcome
from shared.jobs.transitions import Ending, LogRow, MetricRow, ModelVersionRecord
from shared.specs.families import FAMILIES
from tests.support.api import TRAIN, Api, assert_problem, running_api
from tests.support.factories import ERROR, commit_checkpoint, job_in_state, running_job, submit_job

# -- readiness and outages ------------------------------------------------------------------------


def test_a_whole_service_is_ready(api: Api) -> None:
    assert api.http.get("/healthz").json() == {"status": "alive"}
    ready = api.http.get("/readyz")
    assert ready.status_code == 200
    assert ready.json() == {"status": "ready", "parts": {"database": "ok", "migrations": "ok", "broker": "ok"}}


def test_without_its_broker_the_service_still_takes_jobs(api: Api) -> None:
    api.broker_is_up = False
    ready = api.http.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert ready.json()["parts"]["broker"] == "does not answer"
    assert api.submit().status_code == 202


def test_a_database_that_was_not_migrated_makes_it_unready(tmp_path: Path) -> None:
    api = _without_key(make_engine(f"sqlite:///{tmp_path / 'empty.db'}"), tmp_path)
    problem = assert_problem(api.http.get("/readyz"), 503)
    assert "nightshift migrate" in problem["detail"]


def test_an_old_schema_makes_it_unready(api: Api) -> None:
    with write(api.engine) as conn:
        conn.execute(text("UPDATE alembic_version SET version_num = 'old'"))
    problem = assert_problem(api.http.get("/readyz"), 503)
    assert "nightshift migrate" in problem["detail"]
    assert problem["parts"]["database"] == "ok"


ROUTES = [
    ("POST", "/v1/jobs"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs/0123456789abcdef"),
    ("POST", "/v1/jobs/0123456789abcdef/cancel"),
    ("GET", "/v1/jobs/0123456789abcdef/events"),
    ("GET", "/v1/jobs/0123456789abcdef/artifacts/x"),
    ("GET", "/v1/workers"),
    ("GET", "/v1/models"),
    ("GET", "/v1/datasets"),
    ("GET", "/metrics"),
    ("GET", "/readyz"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_without_a_database_every_route_is_503(tmp_path: Path, method: str, path: str) -> None:
    """Not 401, although no key can be checked, and not 500."""
    nowhere = make_engine("postgresql://nobody@127.0.0.1:1/none")
    api = _without_key(nowhere, tmp_path)
    answer = api.send(method, path, json=TRAIN if method == "POST" else None)
    assert_problem(answer, 503)
    assert "127.0.0.1" not in answer.text
    assert api.http.get("/healthz").status_code == 200


def _without_key(engine: Engine, folder: Path) -> Api:
    class Keyless(Api):
        def new_key(self, owner_id: str) -> str:
            return "ns_unknown"

    return Keyless(engine, folder)


def test_a_doorbell_that_cannot_ring_does_not_fail_the_submission(sqlite_engine: Engine, tmp_path: Path) -> None:
    """`ring_later` never raises; a Redis that refuses connections is the real thing."""
    with running_api(sqlite_engine, tmp_path, redis_url="redis://127.0.0.1:1/0") as api:
        object.__setattr__(api.app.state.service, "ring", doorbell.ring_later)
        answers = [api.submit() for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202] * 3


# -- prometheus -----------------------------------------------------------------------------------


def scrape(api: Api) -> dict[str, float]:
    answer = api.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_the_queue_is_measured_by_device(api: Api) -> None:
    submit_job(api.engine, resources={"device": "gpu"})
    submit_job(api.engine, resources={"device": "gpu"}, priority=9)
    submit_job(api.engine, run_at=4e9)
    running_job(api.engine, resources={"device": "cpu"})
    seen = scrape(api)
    assert seen['nightshift_queue_depth{device="gpu",priority="5"}'] == 1
    assert seen['nightshift_queue_depth{device="gpu",priority="9"}'] == 1
    assert seen['nightshift_queue_depth{device="auto",priority="5"}'] == 0  # not due before 2096
    assert seen['nightshift_queue_oldest_seconds{device="gpu",priority="5"}'] > 0
    assert seen['nightshift_queue_oldest_seconds{device="gpu",priority="4"}'] == 0
    assert seen['nightshift_jobs{state="queued"}'] == 3
    assert seen['nightshift_jobs{state="running"}'] == 1


def test_jobs_and_attempts_are_counted_by_how_they_ended(api: Api) -> None:
    for state in (JobState.SUCCEEDED, JobState.SUCCEEDED, JobState.FAILED):
        job_in_state(api.engine, state)
    seen = scrape(api)
    assert seen['nightshift_jobs_submitted_total{kind="train"}'] == 3
    assert seen['nightshift_job_seconds_count{kind="train",outcome="succeeded"}'] == 2
    assert seen['nightshift_job_seconds_bucket{kind="train",le="60.0",outcome="succeeded"}'] == 2
    assert seen['nightshift_attempts_ended_total{outcome="succeeded"}'] == 2
    assert seen['nightshift_attempts_ended_total{outcome="job_error"}'] == 1
    assert seen['nightshift_attempts_ended_total{outcome="lost"}'] == 0


def test_every_api_process_gives_the_same_answer_about_jobs(api: Api) -> None:
    """So that one of several may be believed: nothing about jobs is counted in a process."""
    job_in_state(api.engine, JobState.SUCCEEDED)
    other = HttpMetrics(api.engine, 30.0, {}).text().decode()
    ours = api.get("/metrics").text
    about_jobs = [
        line for line in ours.splitlines() if re.match(r"nightshift_(jobs|job_seconds|attempts|queue_depth)", line)
    ]
    assert len(about_jobs) > 50
    assert set(about_jobs) <= set(other.splitlines())


def test_devices_are_measured_from_heartbeats(api: Api) -> None:
    usage = Usage(16_000, 4_000, 75.0, 61.0, HostUsage(64_000, 8_000, 12.5))
    with write(api.engine) as conn:
        for name, device in (("gpu0@host", "gpu"), ("cpu0@host", "cpu"), ("gone@host", "cpu")):
            workers.register(conn, workers.WorkerInfo(name, "host", 1, device, "a device"))
        workers.heartbeat(conn, "gpu0@host", job_id=None, usage=usage)
        workers.deregister(conn, "gone@host")
    seen = scrape(api)
    gpu = '{device="gpu",device_name="a device",host="host",worker="gpu0@host"}'
    assert seen[f"nightshift_device_memory_bytes{gpu}"] == 16_000
    assert seen[f"nightshift_device_memory_used_bytes{gpu}"] == 4_000
    assert seen[f"nightshift_device_busy_ratio{gpu}"] == 0.75
    assert seen[f"nightshift_device_temperature_celsius{gpu}"] == 61
    assert seen[f"nightshift_worker_working{gpu}"] == 0
    assert not any("gone@host" in name for name in seen)
    assert not any("temperature" in name and "cpu0" in name for name in seen)


def test_requests_are_counted_by_route_and_not_by_path(api: Api) -> None:
    for number in range(3):
        api.get(f"/v1/jobs/{number:016x}")
        api.get(f"/nowhere/{number}")
    api.send("BREW", "/v1/jobs")
    seen = scrape(api)
    labels = 'method="GET",route="/v1/jobs/{job_id}"'
    assert seen[f'nightshift_http_requests_total{{{labels},status="404"}}'] == 3
    assert seen[f"nightshift_http_request_seconds_count{{{labels}}}"] == 3
    assert seen['nightshift_http_requests_total{method="GET",route="(none)",status="404"}'] == 3
    assert not any("nowhere" in name or "BREW" in name for name in seen)


# -- what there is --------------------------------------------------------------------------------


def test_families_say_what_can_be_asked_for(api: Api) -> None:
    families = {item["name"]: item for item in api.get("/v1/families").json()["items"]}
    assert set(families) == set(FAMILIES)
    cnn = families["cnn"]
    assert "train" in cnn["kinds"]
    assert "torch" in cnn["frameworks"]
    printed = cnn["presets"]["mnist-1conv-linear"]["training"]
    assert (printed["batch_size"], printed["epochs"], printed["lr_schedule"]) == (128, 10, "constant")
    assert cnn["model_schema"]["properties"]["filters"]["type"] == "array"
    for name in cnn["presets"]:  # the last has one output, for two classes; digits has ten
        expected = 422 if name == "cats-vs-dogs" else 202
        assert api.submit(model={"family": "cnn", "preset": name}).status_code == expected


def test_workers_are_listed_and_go_offline_without_a_heartbeat(api: Api) -> None:
    info = workers.WorkerInfo("cpu0@host", "host", 1, "cpu", "EPYC", frameworks=["torch"], versions={"torch": "2.13"})
    with write(api.engine) as conn:
        workers.register(conn, info)
    [worker] = api.get("/v1/workers").json()["items"]
    assert (worker["name"], worker["state"], worker["frameworks"]) == ("cpu0@host", "online", ["torch"])
    with write(api.engine) as conn:
        conn.execute(text("UPDATE workers SET heartbeat_at = heartbeat_at - 100"))
    assert api.get("/v1/workers").json()["items"][0]["state"] == "offline"


def test_a_worker_tells_the_id_of_ones_own_job_only_and_whether_it_listens(api: Api) -> None:
    lease = running_job(api.engine)
    with write(api.engine) as conn:
        workers.register(conn, workers.WorkerInfo("cpu0@test", "test", 1, "cpu", "cpu"))
        workers.heartbeat(conn, "cpu0@test", job_id=lease.job_id, listening=False)
    [mine] = api.get("/v1/workers").json()["items"]
    assert (mine["job_id"], mine["state"]) == (lease.job_id, "not_listening")
    [theirs] = api.get("/v1/workers", key=api.new_key("somebody else")).json()["items"]
    assert theirs["job_id"] is None


def test_models_show_versions_and_aliases(api: Api) -> None:
    for accuracy in (0.97, 0.98):
        lease = running_job(api.engine)
        record = ModelVersionRecord("digits", "cnn", "torch", "digits@1", None, {"test_accuracy": accuracy})
        with write(api.engine) as conn:
            assert transitions.succeed(conn, lease, result={"metrics": {}}, artifacts=[], register=record)
    [listed] = api.get("/v1/models").json()["items"]
    assert (listed["name"], listed["latest_version"], listed["champion"]["version"]) == ("digits", 2, 1)
    shown = api.get("/v1/models/digits").json()
    assert [version["version"] for version in shown["versions"]] == [2, 1]
    assert shown["aliases"] == {"champion": 1}
    assert shown["versions"][1]["metrics"] == {"test_accuracy": 0.97}


def test_built_in_data_sets_are_listed_before_anybody_used_them(api: Api) -> None:
    listed = {item["name"]: item for item in api.get("/v1/datasets").json()["items"]}
    assert listed["digits"]["version"] is None
    assert api.get("/v1/datasets/digits").json()["versions"] == []
    api.submit()
    assert api.get("/v1/datasets/digits").json()["version"] == 1


# -- what a job leaves ----------------------------------------------------------------------------


def test_metrics_attempts_checkpoints_and_logs(api: Api) -> None:
    lease = running_job(api.engine)
    with write(api.engine) as conn:
        transitions.begin(conn, lease, device_label="EPYC", resumed_from=None, resumed_step=None, quarantined=[])
        points = [MetricRow(name, step, 0, step / 10) for name in ("loss", "accuracy") for step in range(1, 101)]
        transitions.record(conn, lease, metrics=points, logs=[LogRow("info", f"line {n}") for n in range(5)])
    checkpoint = commit_checkpoint(api.engine, lease, step=50, is_best=True)
    with write(api.engine) as conn:
        ending = Ending(exit_code=1, peak_memory_bytes=5)
        transitions.fail(conn, lease, outcome=AttemptOutcome.JOB_ERROR, error=ERROR, ending=ending)

    def items(part: str, **params: Any) -> list[dict[str, Any]]:
        answer = api.get(f"/v1/jobs/{lease.job_id}/{part}", params=params)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["items"])

    assert len(items("metrics")) == 200
    assert [point["step"] for point in items("metrics", name="loss", after_step=98)] == [99, 100]
    assert 10 <= len(items("metrics", name="loss", max_points=20)) <= 20
    [attempt] = items("attempts")
    assert (attempt["attempt"], attempt["outcome"], attempt["exit_code"]) == (1, "job_error", 1)
    assert attempt["error"] == ERROR
    [shown] = items("checkpoints")
    assert (shown["id"], shown["step"], shown["is_best"], shown["state"]) == (checkpoint.id, 50, True, "ready")
    assert api.get(f"/v1/jobs/{lease.job_id}").json()["error"] == ERROR

    first = api.get(f"/v1/jobs/{lease.job_id}/logs", params={"limit": 3}).json()
    rest = api.get(f"/v1/jobs/{lease.job_id}/logs", params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert [line["message"] for line in first["items"] + rest["items"]] == [f"line {n}" for n in range(5)]
    assert rest["next_cursor"] is None
