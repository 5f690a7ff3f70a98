"""Programs over HTTP: what is offered, what a job may ask for, what is refused by field."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from api.services import programs
from shared.db.engine import write
from shared.db.schema import jobs, webhook_deliveries
from shared.fleet import conformance
from tests.support.api import Api, assert_problem, running_api
from tests.support.plugins import JUDGED, forget_modules, installed, write_package


@pytest.fixture
def api(sqlite_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    installed(tmp_path / "packages", monkeypatch)
    write_package(tmp_path / "packages")
    programs._installed.cache_clear()
    with running_api(sqlite_engine, tmp_path, programs="walk,gone") as found:
        yield found
    programs._installed.cache_clear()


def reinstall(tmp_path: Path, more: str) -> None:
    """Install the package with more arguments of its Program, as after a restart of the API."""
    write_package(tmp_path / "packages", more=more)
    forget_modules()
    programs._installed.cache_clear()


def submit(api: Api, **fields: Any) -> Any:
    return api.post("/v1/jobs", json={"kind": "run", "program": "walk", **fields})


def test_programs_are_listed_with_their_parameters_and_errors(api: Api) -> None:
    walk, gone = api.get("/v1/programs").json()["items"]
    assert (walk["name"], walk["package"], walk["promise"], walk["error"]) == (
        "walk",
        "nightshift-walk 1.0",
        "resumable",
        None,
    )
    assert set(walk["params_schema"]["properties"]) >= {"steps", "rate"}
    assert (gone["name"], gone["error"]) == ("gone", "no installed package has a program of this name")


def test_a_program_is_exact_once_the_kit_has_shown_it(api: Api) -> None:
    record = programs._installed("walk,gone")["walk"].record_sha256
    with write(api.engine) as conn:
        conformance.store(conn, "program walk", record, "nightshift-walk 1.0", {"passed": True})
    assert api.get("/v1/programs").json()["items"][0]["promise"] == "exact"


def test_a_job_is_stored_with_all_its_parameters(api: Api) -> None:
    answer = submit(api, params={"steps": 3}, register_as="walks")
    assert answer.status_code == 202, answer.text
    job = api.get(f"/v1/jobs/{answer.json()['id']}").json()
    assert job["spec"]["params"] == {
        "steps": 3,
        "rate": 0.9,
        "killed_at": None,
        "marker": "",
        "told_secret": None,
        "target": 0.0,
    }
    assert (job["kind"], job["family"], job["framework"], job["dataset"]) == ("run", None, None, None)


@pytest.mark.parametrize(
    ("fields", "loc", "message"),
    [
        ({"program": "other"}, ["program"], "there is no program 'other'; programs: walk"),
        ({"program": "gone"}, ["program"], "there is no program 'gone'"),
        ({"params": {"steps": 0}}, ["params", "steps"], "greater than or equal to 1"),
        ({"params": {"step": 3}}, ["params", "step"], "unknown field"),
        ({"dataset": "digits"}, ["dataset"], "walk reads no data set"),
        ({"framework": "torch"}, ["framework"], "walk needs no framework"),
        ({"secrets": ["lower"]}, ["secrets", 0], "should match pattern"),
        ({"model": {"family": "cnn"}}, ["model"], "unknown field"),
    ],
)
def test_what_does_not_fit_is_refused_by_field(api: Api, fields: dict[str, Any], loc: list[Any], message: str) -> None:
    problem = assert_problem(submit(api, **fields), 422, tuple(loc))
    assert message in problem["errors"][0]["msg"]


@pytest.mark.parametrize(
    ("kinds", "fields", "message"),
    [
        ('("image", "text")', {}, "is required: walk reads image or text data"),
        ('("text",)', {"dataset": "digits"}, "holds image data; walk reads text data"),
        ('("image",)', {"dataset": "digits"}, None),
        (
            '("table", "text", "files")',
            {"dataset": "digits"},
            "holds image data; walk reads text data or a table or plain files",
        ),
    ],
)
def test_a_program_reads_the_kinds_of_data_that_it_declares(
    api: Api, tmp_path: Path, kinds: str, fields: dict[str, Any], message: str | None
) -> None:
    reinstall(tmp_path, f", dataset_kinds={kinds}")
    answer = submit(api, **fields)
    if message is None:
        assert answer.status_code == 202, answer.text
    else:
        assert assert_problem(answer, 422, ("dataset",))["errors"][0]["msg"] == message


def test_a_schedule_and_a_rerun_take_a_program(api: Api) -> None:
    job = {"kind": "run", "program": "walk", "params": {"steps": 2}}
    schedule = api.post("/v1/schedules", json={"name": "nightly-walk", "cron": "0 2 * * *", "job": job})
    assert schedule.status_code == 201, schedule.text
    job_id = submit(api, params={"steps": 2}).json()["id"]
    again = api.post(f"/v1/jobs/{job_id}/rerun", json={"set": {"params.steps": 5}})
    assert again.json()["spec"]["params"]["steps"] == 5, again.text


def test_a_schedules_job_needs_the_program_and_webhooks_tell_of_it(api: Api, sqlite_engine: Engine) -> None:
    hook = api.post("/v1/webhooks", json={"name": "ops", "url": "https://example.org/h", "events": ["job.cancelled"]})
    assert hook.status_code == 201, hook.text
    job = {"kind": "run", "program": "walk", "params": {"steps": 2}}
    api.post("/v1/schedules", json={"name": "nightly-walk", "cron": "0 2 * * *", "job": job})
    made = api.post("/v1/schedules/nightly-walk/run")
    assert made.status_code == 202, made.text
    assert made.json()["spec"]["params"] | {"steps": 2, "rate": 0.9} == made.json()["spec"]["params"]
    with sqlite_engine.connect() as conn:
        assert conn.scalar(select(jobs.c.plugin)) == "program walk"
    assert api.post(f"/v1/jobs/{made.json()['id']}/cancel").status_code == 202
    with sqlite_engine.connect() as conn:
        told = conn.execute(select(webhook_deliveries.c.event_type, webhook_deliveries.c.body)).all()
    assert [(kind, made.json()["id"] in body) for kind, body in told] == [("job.cancelled", True)]


PROMOTE = {"metric": "distance", "evaluate_on": "digits"}


def judged(api: Api, promote: dict[str, Any], **fields: Any) -> Any:
    return submit(api, dataset="digits", **{"register_as": "walks", "promote": promote, **fields})


def test_a_promotion_is_stored_with_the_version_that_decides(api: Api, tmp_path: Path) -> None:
    reinstall(tmp_path, JUDGED)
    answer = judged(api, PROMOTE)
    assert answer.status_code == 202, answer.text
    assert api.get(f"/v1/jobs/{answer.json()['id']}").json()["spec"]["promote"]["evaluate_on"] == "digits@1"
    (walk, _) = api.get("/v1/programs").json()["items"]
    assert (walk["evaluates"], walk["metrics"]) == (True, {"distance": {"label": "distance", "better": "min"}})


@pytest.mark.parametrize(
    ("promote", "loc", "message"),
    [
        ({"metric": "test_loss"}, ["promote", "metric"], "walk is not judged by 'test_loss'; it is by distance"),
        ({"mode": "max"}, ["promote", "mode"], "of distance the better one is the min; leave mode out"),
        ({"confidence": 0.9}, ["promote", "confidence"], "no scores per example to resample; omit it"),
        ({"evaluate_on": "nothing"}, ["promote", "evaluate_on"], "nothing"),
        ({"evaluate_on": "mnist"}, ["promote", "evaluate_on"], "'mnist' has no version yet"),
    ],
)
def test_a_promotion_that_cannot_be_decided_is_refused(
    api: Api, tmp_path: Path, promote: dict[str, Any], loc: list[str], message: str
) -> None:
    reinstall(tmp_path, JUDGED)
    assert message in assert_problem(judged(api, {**PROMOTE, **promote}), 422, tuple(loc))["errors"][0]["msg"]


def test_a_promotion_needs_a_name_and_a_program_that_evaluates(api: Api, tmp_path: Path) -> None:
    reinstall(tmp_path, JUDGED)
    assert_problem(judged(api, PROMOTE, register_as=None), 422, ("register_as",))
    reinstall(tmp_path, ', dataset_kinds=("image",)')
    problem = assert_problem(judged(api, PROMOTE), 422, ("promote",))
    assert problem["errors"][0]["msg"] == "walk has no function to evaluate models with; leave it out"
    reinstall(tmp_path, JUDGED.replace('("image",)', '("text",)'))
    answer = submit(api, dataset="digits", register_as="walks", promote=PROMOTE)
    assert_problem(answer, 422, ("dataset",))


@pytest.mark.parametrize(
    ("declaration", "error"),
    [
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("PROGRAM = 3", "leads to int"),
        ("import nothing_here", "nothing_here"),
    ],
)
def test_a_broken_program_is_listed_and_refused_and_stops_nothing(
    api: Api, tmp_path: Path, declaration: str, error: str
) -> None:
    write_package(tmp_path / "packages", declaration=declaration)
    forget_modules()
    programs._installed.cache_clear()
    (walk, _) = api.get("/v1/programs").json()["items"]
    assert error in walk["error"]
    assert (walk["params_schema"], walk["promise"], walk["metrics"]) == (None, None, {})
    assert error in assert_problem(submit(api), 422, ("program",))["errors"][0]["msg"]
    assert api.submit().status_code == 202


def test_one_program_waits_for_another(api: Api) -> None:
    first = submit(api, params={"steps": 2}).json()["id"]
    second = submit(api, after=[first]).json()["id"]
    assert api.get(f"/v1/jobs/{second}").json()["state"] == "waiting"
    assert first in api.get(f"/v1/jobs/{second}/why").json()["sentence"]
