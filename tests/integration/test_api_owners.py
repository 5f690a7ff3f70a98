"""What one owner made, another may use and not change: data sets, models, and what jobs register."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select, text

from nightshift.errors import Forbidden, RequestError
from shared.datasets import registry
from shared.db import migrate
from shared.db.engine import make_engine, read, write
from shared.db.schema import datasets, models
from shared.fleet import keys
from shared.jobs import transitions
from shared.jobs.transitions import ArtifactRecord, ModelVersionRecord, PromotionRecord
from shared.models import ownership
from shared.schedules.transitions import run_now
from shared.settings import Settings
from tests.integration.test_api_datasets import npz
from tests.support.api import Api, assert_problem
from tests.support.factories import OWNER, running_job
from tests.unit.shared.datasets.test_registry import store
from tests.unit.shared.models.test_registry import trained

OTHER = "owner-2"
FILE = {"file": ("data.npz", npz())}


@pytest.fixture
def other(api: Api) -> str:
    """Another owner's key, in an installation that has the data set `shapes` and the model `digits` of `OWNER`."""
    assert api.post("/v1/datasets", files=FILE, data={"name": "shapes"}).status_code == 201
    for _ in range(2):
        trained(api.engine, "digits")
    return api.new_key(OTHER)


def shown(api: Api, path: str, key: str | None = None) -> Any:
    answer = api.get(path, key=key)
    assert answer.status_code == 200, answer.text
    return {name: value for name, value in answer.json().items() if name not in ("owner", "yours", "may_change")}


CHANGES: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/v1/datasets", {"files": {"file": ("data.npz", npz(seed=1))}, "data": {"name": "shapes"}}),
    ("POST", "/v1/datasets/shapes/append", {"files": FILE}),
    ("DELETE", "/v1/datasets/shapes/versions/1", {}),
    ("PATCH", "/v1/models/digits", {"json": {"description": "mine now"}}),
    ("PATCH", "/v1/models/digits/versions/2", {"json": {"description": "mine now"}}),
    ("PUT", "/v1/models/digits/aliases/champion", {"json": {"version": 2}}),
    ("PUT", "/v1/models/digits/aliases/mine", {"json": {"version": 2}}),
    ("POST", "/v1/models/digits/rollback", {}),
    ("DELETE", "/v1/models/digits/versions/2", {}),
]


@pytest.mark.parametrize(
    ("method", "path", "request_"), CHANGES, ids=[f"{method} {path}" for method, path, _ in CHANGES]
)
def test_what_is_anothers_is_not_changed(
    api: Api, other: str, method: str, path: str, request_: dict[str, Any]
) -> None:
    before = [shown(api, "/v1/datasets/shapes"), shown(api, "/v1/models/digits")]
    problem = assert_problem(api.send(method, path, key=other, **request_), 403)
    assert "belongs to another owner" in problem["detail"]
    assert ("'digits'" if "models" in path else "'shapes'") in problem["detail"]
    assert [shown(api, "/v1/datasets/shapes"), shown(api, "/v1/models/digits")] == before
    mine = api.send(method, path, **request_)
    assert mine.status_code in (200, 201, 204, 409), mine.text  # 409: nothing to roll back to


def test_what_is_anothers_can_be_used(api: Api, other: str) -> None:
    for path in ("datasets/shapes", "datasets/shapes/sample", "models/digits", "models/digits/history"):
        assert api.get(f"/v1/{path}", key=other).status_code == 200
    bodies: list[dict[str, Any]] = [
        {"kind": "train", "model": {"family": "cnn"}, "dataset": "shapes", "training": {"batch_size": 8}},
        {"kind": "finetune", "model_ref": "digits", "dataset": "digits", "register_as": "my-own"},
        {"kind": "batch_infer", "model_ref": "digits@2", "dataset": "shapes"},
    ]
    assert [api.post("/v1/jobs", key=other, json=body).status_code for body in bodies] == [202, 202, 202]


def test_lists_say_whose_they_are(api: Api, other: str) -> None:
    facts = ("owner", "yours", "may_change")
    for key, told in ((None, ["test", True, True]), (other, ["test", False, False])):
        for kind, name in (("datasets", "shapes"), ("models", "digits")):
            listed = {item["name"]: item for item in api.get(f"/v1/{kind}", key=key).json()["items"]}
            assert [listed[name][fact] for fact in facts] == told
            assert [api.get(f"/v1/{kind}/{name}", key=key).json()[fact] for fact in facts] == told
    assert [listed["digits"][fact] for fact in facts] == told, "a model may have a built-in set's name"
    sets = {item["name"]: item for item in api.get("/v1/datasets").json()["items"]}
    assert [sets["mnist"][fact] for fact in facts] == [None, False, False]


def test_nothing_is_registered_into_anothers_model(api: Api, other: str) -> None:
    register = {"kind": "train", "model": {"family": "cnn"}, "dataset": "digits", "register_as": "digits"}
    [error] = assert_problem(api.post("/v1/jobs", key=other, json=register), 422, ("register_as",))["errors"]
    assert "model 'digits' belongs to another owner" in error["msg"]
    schedule = {"name": "nightly", "cron": "0 2 * * *", "timezone": "UTC", "job": register}
    assert_problem(api.post("/v1/schedules", key=other, json=schedule), 422, ("job", "register_as"))
    assert api.post("/v1/jobs", json=register).status_code == 202


def test_a_tick_whose_model_became_anothers_fails_with_the_reason(api: Api) -> None:
    job = {"kind": "train", "model": {"family": "cnn"}, "dataset": "digits", "register_as": "digits"}
    key = api.new_key(OTHER)
    schedule = {"name": "nightly", "cron": "0 2 * * *", "timezone": "UTC", "job": job}
    made = api.post("/v1/schedules", key=key, json=schedule).json()
    trained(api.engine, "digits")
    with pytest.raises(RequestError, match="belongs to another owner"), write(api.engine) as conn:
        run_now(conn, made["id"], OTHER)


def test_a_built_in_data_set_has_no_owner_and_does_not_change(api: Api) -> None:
    api.submit()
    classes = npz(classes=10)
    assert api.post("/v1/datasets", files={"file": ("m.npz", classes)}, data={"name": "mnist"}).status_code == 201
    said = {
        "replace": api.post("/v1/datasets", files={"file": ("m.npz", npz(seed=1, classes=10))}, data={"name": "mnist"}),
        "append": api.post("/v1/datasets/mnist/append", files={"file": ("m.npz", classes)}),
        "delete": api.send("DELETE", "/v1/datasets/mnist/versions/1"),
        "delete digits": api.send("DELETE", "/v1/datasets/digits/versions/1"),
    }
    assert {assert_problem(answer, 409)["detail"] for answer in said.values()} == {
        "'mnist' is built in: it has no owner and cannot be changed.",
        "'digits' is built in: it has no owner and cannot be changed.",
    }
    again = api.post("/v1/datasets", files={"file": ("m.npz", classes)}, data={"name": "mnist"})
    assert (again.status_code, again.json()["version"], again.json()["owner"]) == (201, 1, None)


def test_models_and_data_sets_without_an_owner_may_be_changed_by_every_key(api: Api, other: str) -> None:
    with write(api.engine) as conn:
        for table in (datasets, models):
            conn.execute(table.update().values(owner_id=None))
    assert api.get("/v1/models/digits", key=other).json()["may_change"]
    assert api.send("PATCH", "/v1/models/digits", key=other, json={"description": "ours"}).status_code == 200
    assert api.post("/v1/datasets/shapes/append", key=other, files=FILE).status_code == 201
    assert api.get("/v1/datasets/shapes").json()["owner"] is None, "a change must not set the owner"


# -- by constraint, not by a look before ------------------------------------------------------------


def in_turn_or_at_once(*calls: Any) -> list[Any]:
    """What each said: its value, or the Forbidden that it raised."""

    def said(call: Any) -> Any:
        try:
            return call()
        except Forbidden as refused:
            return refused

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(said, calls))


def test_of_two_who_make_a_model_at_once_one_owns_it(engine: Engine) -> None:
    def claim(owner_id: str) -> str:
        with write(engine) as conn:
            ownership.claim(conn, "new", owner_id)
        return owner_id

    outcomes = in_turn_or_at_once(*(lambda owner=f"owner-{number}": claim(owner) for number in range(4)))
    [winner] = [outcome for outcome in outcomes if isinstance(outcome, str)]
    with read(engine) as conn:
        assert conn.scalars(select(models.c.owner_id)).all() == [winner]


def test_of_two_who_make_a_data_set_at_once_one_owns_it(engine: Engine, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    stored = [store(settings, seed=seed) for seed in range(2)]
    outcomes = in_turn_or_at_once(
        *(lambda n=number: registry.enter(engine, "new", stored[n], owner_id=f"owner-{n}") for number in range(2))
    )
    [winner] = [number for number, outcome in enumerate(outcomes) if not isinstance(outcome, Forbidden)]
    with read(engine) as conn:
        assert conn.scalars(select(datasets.c.owner_id)).all() == [f"owner-{winner}"]


def test_a_job_whose_model_became_anothers_keeps_what_it_trained(api: Api) -> None:
    lease = running_job(api.engine, owner_id=OTHER, register_as="digits")
    trained(api.engine, "digits")
    weights = ArtifactRecord(
        "model/model.safetensors", "jobs/x/m.safetensors", "a" * 64, 10, "application/octet-stream"
    )
    gate = PromotionRecord("champion", "test_accuracy", "digits@1", True, "better", 1, 0.9, 0.8)
    record = ModelVersionRecord("digits", "cnn", "torch", promotion=gate)
    with write(api.engine) as conn:
        assert transitions.succeed(conn, lease, result={"metrics": {}}, artifacts=[weights], register=record)
    key = api.new_key(OTHER)
    job = api.get(f"/v1/jobs/{lease.job_id}", key=key).json()
    assert job["state"] == "succeeded"
    assert "belongs to another owner" in job["result"]["model"]["not_registered"]
    assert (job["result"]["promoted"], job["result"]["promotion"]["version"]) == (False, None)
    assert [item["version"] for item in api.get("/v1/models/digits").json()["versions"]] == [1]
    assert api.post("/v1/models/mine/versions", key=key, json={"job": lease.job_id}).status_code == 201
    assert_problem(api.post("/v1/models/digits/versions", key=key, json={"job": lease.job_id}), 403)


# -- whose what was there before is -----------------------------------------------------------------


@pytest.mark.parametrize(("keys_of", "owner"), [([OWNER, OWNER], OWNER), ([OWNER, OTHER], None)])
def test_old_rows_get_the_owner_that_is_known(database_url: str, keys_of: list[str], owner: str | None) -> None:
    engine = make_engine(database_url)
    trained(engine, "digits")
    with write(engine) as conn:
        for number, of in enumerate(keys_of):
            keys.create(conn, f"key {number}", of)
    migrate.downgrade(database_url, "0018")
    with write(engine) as conn:
        for name, builtin in (("pets", False), ("mnist", True)):
            row = {"name": name, "builtin": builtin}
            sql = "INSERT INTO datasets (name, kind, builtin, created_at) VALUES (:name, 'image', :builtin, 1)"
            conn.execute(text(sql), row)
    migrate.upgrade(database_url)
    with read(engine) as conn:
        assert dict(conn.execute(select(models.c.name, models.c.owner_id)).all()) == {"digits": OWNER}  # type: ignore[arg-type]
        found = dict(conn.execute(select(datasets.c.name, datasets.c.owner_id)).all())  # type: ignore[arg-type]
    assert found == {"pets": owner, "mnist": None}
    engine.dispose()
