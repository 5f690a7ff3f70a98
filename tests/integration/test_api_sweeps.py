"""Sweeps over HTTP: what is accepted, what is refused and where, and requests to a sweep that runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select, update

from api.services import programs
from shared.datasets import references
from shared.db.engine import read, write
from shared.db.schema import jobs, model_versions, sweeps
from shared.settings import Settings
from tests.support.api import TRAIN, Api, assert_problem, running_api
from tests.support.plugins import installed, write_package
from tests.support.sweeps import work
from tests.unit.shared.models.test_registry import trained
from worker.maintenance import sweeper

SWEEP: dict[str, Any] = {
    "name": "rates",
    "job": TRAIN,
    "space": {
        "training.learning_rate": {"low": 0.001, "high": 0.1, "log": True},
        "training.optimizer": {"choices": ["adam", "sgd"]},
        "training.momentum": {"low": 0.0, "high": 0.9, "when": {"training.optimizer": "sgd"}},
    },
    "objective": {"metric": "test_accuracy"},
    "trials": 4,
    "concurrency": 2,
}


def submit(api: Api, **fields: Any) -> Any:
    return api.post("/v1/sweeps", json={**SWEEP, **fields})


def beat(api: Api) -> dict[str, int]:
    return sweeper.run_once(api.engine, Settings())


def refused(response: Any) -> dict[str, Any]:
    """Return the problem document of a sweep that is refused."""
    assert response.status_code == 422, response.text
    problem: dict[str, Any] = response.json()
    return assert_problem(response, 422, *(tuple(error["loc"]) for error in problem["errors"]))


def test_a_sweep_is_submitted_shown_listed_and_carried_on(api: Api) -> None:
    answer = submit(api)
    assert answer.status_code == 202, answer.text
    made = answer.json()
    assert answer.headers["Location"] == f"/v1/sweeps/{made['id']}"
    assert (made["state"], made["started"], made["trial_list"], made["best"]) == ("running", 0, [], None)
    assert made["objective"] == {"metric": "test_accuracy", "direction": "max"}
    assert made["job"]["dataset"].startswith("digits@")  # the version of now, for all trials
    while beat(api)["started"]:
        work(api.engine)
    shown = api.get(f"/v1/sweeps/{made['id'][:8]}").json()
    assert (shown["state"], shown["started"], shown["running"], shown["failed"]) == ("succeeded", 4, 0, 0)
    assert [trial["number"] for trial in shown["trial_list"]] == [0, 1, 2, 3]
    best = shown["trial_list"][shown["best"]]
    assert shown["best_value"] == best["value"] == max(trial["value"] for trial in shown["trial_list"])
    assert all(
        ("training.momentum" in trial["params"]) == (trial["params"]["training.optimizer"] == "sgd")
        for trial in shown["trial_list"]
    )
    listed = api.get("/v1/jobs", params={"sweep": made["id"]}).json()["items"]
    assert {job["id"] for job in listed} == {trial["job_id"] for trial in shown["trial_list"]}
    assert {job["sweep"]["id"] for job in listed} == {made["id"]}
    assert shown["events"][-1]["data"] == {"state": "succeeded", "best": shown["best"]}
    [item] = api.get("/v1/sweeps").json()["items"]
    assert (item["id"], item["best_value"]) == (made["id"], shown["best_value"])
    assert "trial_list" not in item


def test_the_same_key_and_body_are_the_same_sweep(api: Api) -> None:
    first, again = (api.post("/v1/sweeps", json=SWEEP, headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert first.json()["id"] == again.json()["id"]
    other = api.post("/v1/sweeps", json={**SWEEP, "trials": 5}, headers={"Idempotency-Key": "k"})
    refused(other)
    assert len(api.get("/v1/sweeps").json()["items"]) == 1


def test_pages_of_sweeps(api: Api) -> None:
    ids = [submit(api).json()["id"] for _ in range(3)]
    page = api.get("/v1/sweeps", params={"limit": 2}).json()
    rest = api.get("/v1/sweeps", params={"limit": 2, "cursor": page["next_cursor"]}).json()
    assert [item["id"] for item in page["items"] + rest["items"]] == ids[::-1]
    assert rest["next_cursor"] is None
    assert_problem(api.get("/v1/sweeps", params={"cursor": "x"}), 400)


@pytest.mark.parametrize(
    ("changes", "place", "told"),
    [
        ({"space": {"training.lr": {"low": 0.1, "high": 1}}}, ["space", "training.lr", "low"], "unknown field"),
        (
            {"space": {"training.learning_rate": {"low": 0.0, "high": 0.1}}},
            ["space", "training.learning_rate", "low"],
            "0.0: Input should be greater than 0",
        ),
        (
            {"space": {"training.batch_size": {"low": 1, "high": 10_000_000}}},
            ["space", "training.batch_size", "high"],
            "less than or equal",
        ),
        (
            {"space": {"training.optimizer": {"choices": ["adam", "adem"]}}},
            ["space", "training.optimizer", "choices", 1],
            "'adem'",
        ),
        (
            {"space": {"training.momentum": {"low": 0.1, "high": 0.9}}},
            ["space", "training.momentum", "low"],
            "adam has no momentum",
        ),
        ({"space": {"priority": {"low": 1, "high": 3}}}, ["space", "priority"], "cannot be varied"),
        ({"space": {}}, ["space"], "at least 1"),
        ({"job": {**TRAIN, "dataset": "nothing"}}, ["job", "dataset"], "nothing"),
        ({"job": {**TRAIN, "register_as": "digits"}}, ["job", "register_as"], "on_best.register_as"),
        ({"job": {"kind": "evaluate", "model_ref": "x", "dataset": "digits"}}, None, ""),
        ({"objective": {"metric": "test_accurracy"}}, ["objective", "metric"], "it has test_accuracy"),
        ({"objective": {"metric": "test_accuracy", "direction": "min"}}, ["objective", "direction"], "leave direction"),
        ({"trials": None}, ["trials"], "is required with the sampler tpe"),
        ({"sampler": "grid"}, ["space", "training.learning_rate", "step"], "is required for a float in a grid"),
        ({"sampler": "cmaes"}, ["sampler"], "use tpe"),
        ({"pruner": {"name": "asha", "metric": "val_f1"}}, ["pruner", "metric"], "use one of"),
        (
            {"pruner": "median", "job": {**TRAIN, "training": {"validation_split": 0.0}}},
            ["pruner", "metric"],
            "validation_split above 0",
        ),
        ({"on_best": {"promote": {"metric": "test_accuracy", "evaluate_on": "digits"}}}, None, "required with promote"),
        (
            {"on_best": {"register_as": "d", "promote": {"metric": "nothing", "evaluate_on": "digits"}}},
            ["on_best", "promote", "metric"],
            "is not judged by",
        ),
    ],
)
def test_what_is_refused_names_field_value_and_way_out(
    api: Api, changes: dict[str, Any], place: list[Any] | None, told: str
) -> None:
    problem = refused(submit(api, **changes))
    if place is not None:
        assert place in [error["loc"] for error in problem["errors"]], problem
    assert told in str(problem["errors"])
    with read(api.engine) as conn:
        assert conn.execute(select(sweeps.c.id)).all() == []


def test_an_unknown_schedule_is_refused(api: Api) -> None:
    assert_problem(submit(api, on_best={"schedule": "nightly"}), 404)


def test_a_grid_has_all_its_points_unless_fewer_are_asked_for(api: Api) -> None:
    space = {"training.batch_size": {"choices": [32, 64]}, "training.epochs": {"low": 1, "high": 3}}
    body = {"space": space, "sampler": "grid"}
    assert submit(api, **body, trials=None).json()["trials"] == 6
    assert submit(api, **body, trials=5).json()["trials"] == 5
    problem = refused(submit(api, **body, trials=7))
    assert "the 6 points of the grid" in problem["errors"][0]["msg"]


def test_the_curve_of_a_pruner_is_that_of_the_validation_part(api: Api) -> None:
    job = {**TRAIN, "training": {"validation_split": 0.2}}
    pruner = submit(api, job=job, pruner="asha").json()["pruner"]
    assert (pruner["name"], pruner["metric"], pruner["direction"]) == ("asha", "val_accuracy", "max")
    pruner = submit(api, job=job, pruner={"name": "median", "metric": "val_loss"}).json()["pruner"]
    assert (pruner["metric"], pruner["direction"]) == ("val_loss", "min")


def test_a_sweep_is_paused_resumed_stopped_extended_and_deleted(api: Api) -> None:
    sweep_id = submit(api).json()["id"]
    beat(api)
    assert api.post(f"/v1/sweeps/{sweep_id}/pause").json()["state"] == "paused"
    assert {job["state"] for job in api.get("/v1/jobs").json()["items"]} == {"paused"}
    api.rung.clear()
    assert api.post(f"/v1/sweeps/{sweep_id}/resume").json()["state"] == "running"
    assert len(api.rung) == 1
    work(api.engine)
    beat(api)
    assert_problem(api.send("DELETE", f"/v1/sweeps/{sweep_id}"), 409)
    assert api.post(f"/v1/sweeps/{sweep_id}/stop").json()["state"] == "stopping"
    beat(api)
    assert api.get(f"/v1/sweeps/{sweep_id}").json()["state"] == "stopped"
    assert_problem(api.post(f"/v1/sweeps/{sweep_id}/pause"), 409)
    more = api.post(f"/v1/sweeps/{sweep_id}/trials", json={"count": 2}).json()
    assert (more["state"], more["trials"]) == ("running", 6)
    refused(api.post(f"/v1/sweeps/{sweep_id}/trials", json={"count": 0}))
    beat(api)
    assert api.post(f"/v1/sweeps/{sweep_id}/cancel").json()["state"] == "cancelled"
    assert api.send("DELETE", f"/v1/sweeps/{sweep_id}").status_code == 204
    assert_problem(api.get(f"/v1/sweeps/{sweep_id}"), 404)
    assert len(api.get("/v1/jobs").json()["items"]) == 6


def test_a_version_of_data_that_a_sweep_needs_is_not_deleted(api: Api) -> None:
    made = submit(api).json()
    name, _, number = made["job"]["dataset"].partition("@")
    api.post(f"/v1/sweeps/{made['id']}/cancel")
    other = submit(api).json()["id"]
    with read(api.engine) as conn:
        assert references.holders(conn, name, [int(number)]) == {int(number): [f"sweep {other}"]}


@pytest.fixture
def programs_api(sqlite_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    installed(tmp_path / "packages", monkeypatch)
    write_package(tmp_path / "packages")
    programs._installed.cache_clear()
    with running_api(sqlite_engine, tmp_path, programs="walk") as found:
        yield found
    programs._installed.cache_clear()


def test_a_program_is_swept_by_its_parameters(programs_api: Api) -> None:
    api, job = programs_api, {"kind": "run", "program": "walk", "params": {"steps": 5}}
    body = {"job": job, "space": {"params.rate": {"low": 0.1, "high": 0.9}}, "objective": {"metric": "loss"}}
    made = submit(api, **body, pruner="median").json()
    assert (made["objective"]["direction"], made["pruner"]["metric"]) == ("min", "loss")
    assert made["job"]["params"]["steps"] == 5
    beat(api)
    [one, other] = api.get("/v1/jobs").json()["items"]
    assert one["spec"]["params"]["rate"] != other["spec"]["params"]["rate"]
    assert one["spec"]["params"]["target"] == 0.0  # complete, as a job's are
    own = submit(api, **{**body, "objective": {"metric": "distance"}})
    assert "give max or min" in refused(own)["errors"][0]["msg"]
    assert submit(api, **{**body, "objective": {"metric": "distance", "direction": "min"}}).status_code == 202
    wrong = submit(api, **{**body, "space": {"params.rate": {"low": 0.1, "high": 1.5}}})
    assert refused(wrong)["errors"][0]["loc"] == ["space", "params.rate", "high"]
    unknown = submit(api, **{**body, "space": {"params.pace": {"low": 0.1, "high": 0.5}}})
    assert "unknown field" in refused(unknown)["errors"][0]["msg"]


def test_a_fine_tuning_gets_its_familys_defaults_in_every_trial(api: Api) -> None:
    trained(api.engine, "digits")
    job = {"kind": "finetune", "model_ref": "digits", "dataset": "digits", "training": {"epochs": 1}}
    space = {"training.optimizer": {"choices": ["adam", "sgd"]}}
    made = submit(api, job=job, space=space, trials=None, sampler="grid").json()
    assert made["job"]["model_ref"] == "digits@1"
    beat(api)
    found = {job["spec"]["training"]["optimizer"]: job["spec"] for job in api.get("/v1/jobs").json()["items"][:2]}
    assert found["sgd"]["training"]["learning_rate"] == 0.01
    assert {spec["model_ref"] for spec in found.values()} == {"digits@1"}


def test_models_to_choose_from_are_of_one_family(api: Api) -> None:
    trained(api.engine, "digits")
    other = trained(api.engine, "digits")
    with write(api.engine) as conn:
        family = {"family": "gan"}
        conn.execute(update(model_versions).where(model_versions.c.job_id == other).values(family))
        model = {"family": "gan", "framework": "torch"}
        spec = conn.scalar(select(jobs.c.spec).where(jobs.c.id == other))
        conn.execute(update(jobs).where(jobs.c.id == other).values(**family, spec={**spec, "model": model}))
    job = {"kind": "finetune", "dataset": "digits", "training": {"epochs": 1}}
    space = {"model_ref": {"choices": ["digits@1", "digits@2"]}}
    [error] = refused(submit(api, job=job, space=space, trials=None, sampler="grid"))["errors"]
    assert error["loc"] == ["space", "model_ref"]
    assert "models of cnn and gan; use those of one family" in error["msg"]
