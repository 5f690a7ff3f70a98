"""Families over HTTP: what is offered, what a job may name, which workers can run it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert, update

from shared.db.engine import write
from shared.db.schema import artifacts, jobs
from shared.fleet import conformance
from shared.specs.families import FAMILIES
from tests.support.api import Api, assert_problem, running_api
from tests.support.own_family import offer, write_family


@pytest.fixture
def api(
    sqlite_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Api]:
    write_family(tmp_path / "packages", **getattr(request, "param", {}))
    offer(tmp_path / "packages", monkeypatch, "built-in,linear,gone")
    with running_api(sqlite_engine, tmp_path) as found:
        yield found
    monkeypatch.undo()
    FAMILIES.forget()


def train(api: Api, **model: Any) -> Any:
    body = {"kind": "train", "dataset": "digits", "model": {"family": "linear", **model}}
    return api.post("/v1/jobs", json=body)


def families(api: Api) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in api.get("/v1/families").json()["items"]}


def test_an_offered_family_is_listed_beside_those_of_nightshift(api: Api) -> None:
    found = families(api)
    assert list(found) == ["cnn", "gan", "gru_lm", "mlp", "tagger", "text_classifier", "linear", "gone"]
    linear = found["linear"]
    assert (linear["package"], linear["frameworks"], linear["error"]) == ("nightshift-linear 1.0", ["torch"], None)
    assert linear["kinds"] == ["train", "finetune", "batch_infer", "evaluate"]
    assert linear["presets"]["small"]["training"] == {"epochs": 2, "learning_rate": 0.1}
    assert set(linear["model_schema"]["properties"]) >= {"image_size", "image_channels"}
    assert found["gone"]["error"] == "no installed package has a family of this name"
    assert found["cnn"]["package"].startswith("nightshift ")


def promises(api: Api) -> dict[str, str | None]:
    return {name: one["promise"] for name, one in families(api).items()}


def report(api: Api, record: str, passed: bool) -> None:
    with write(api.engine) as conn:
        conformance.store(conn, "family linear", record, "nightshift-linear 1.0", {"passed": passed})


def test_it_is_exact_once_the_kit_has_shown_it_for_its_package(api: Api) -> None:
    record = FAMILIES.installed["linear"].record_sha256
    report(api, "of another version", passed=True)
    assert promises(api) == {
        "cnn": "exact", "gan": "exact", "gru_lm": "exact", "mlp": "exact", "tagger": "exact",
        "text_classifier": "exact", "linear": "resumable", "gone": None,
    }  # fmt: skip
    report(api, record, passed=True)
    assert promises(api)["linear"] == "exact"
    report(api, record, passed=False)
    assert promises(api)["linear"] == "resumable"


def test_a_job_of_a_family_of_nightshift_stays_exact_when_its_package_is_pinned(api: Api) -> None:
    body = {"kind": "train", "dataset": "digits", "model": {"family": "cnn"}}
    job_id = api.post("/v1/jobs", json=body).json()["id"]
    assert api.get(f"/v1/jobs/{job_id}").json()["promise"] == "exact"
    plugin = {"plugin": "family cnn", "package": "nightshift 0.1", "record": "r", "state_version": 1, "promise": None}
    with write(api.engine) as conn:
        conn.execute(update(jobs).values(pinned={"plugin": plugin}, plugin="family cnn", plugin_record="r"))
    assert api.get(f"/v1/jobs/{job_id}").json()["promise"] == "exact"


def test_a_job_shows_what_a_resumed_run_is_worth(api: Api) -> None:
    job_id = train(api).json()["id"]

    def promise() -> str | None:
        (listed,) = api.get("/v1/jobs").json()["items"]
        shown = api.get(f"/v1/jobs/{job_id}").json()
        assert shown["promise"] == listed["promise"]
        return shown["promise"]  # type: ignore[no-any-return]

    assert promise() is None
    plugin = {"plugin": "family linear", "package": "nightshift-linear 1.0", "record": "r", "state_version": 1}
    with write(api.engine) as conn:
        conn.execute(update(jobs).values(pinned={"plugin": plugin}, plugin_record="r"))
    assert promise() == "resumable"
    report(api, "r", passed=True)
    assert promise() == "exact"


def test_a_job_of_it_is_stored_in_full_and_needs_a_worker_that_has_it(api: Api, sqlite_engine: Engine) -> None:
    answer = train(api)
    assert answer.status_code == 202, answer.text
    job = api.get(f"/v1/jobs/{answer.json()['id']}").json()
    assert job["family"] == "linear"
    assert job["spec"]["model"] == {
        "family": "linear", "framework": "torch", "preset": "small", "image_size": [28, 28], "image_channels": 1,
    }  # fmt: skip
    assert job["spec"]["training"]["learning_rate"] == 0.1
    with sqlite_engine.connect() as conn:
        row = conn.execute(jobs.select().where(jobs.c.id == job["id"])).one()
    assert (row.plugin, row.plugin_record) == ("family linear", None)


def test_a_job_of_a_family_of_nightshift_needs_no_package(api: Api, sqlite_engine: Engine) -> None:
    answer = api.post("/v1/jobs", json={"kind": "train", "dataset": "digits", "model": {"family": "cnn"}})
    with sqlite_engine.connect() as conn:
        assert conn.scalar(jobs.select().with_only_columns(jobs.c.plugin)) is None
    assert answer.status_code == 202


@pytest.mark.parametrize(
    ("model", "loc", "message"),
    [
        (
            {"family": "gone"},
            ("model", "family"),
            "unknown family; families: cnn, gan, gru_lm, mlp, tagger, text_classifier, linear",
        ),
        ({"image_channels": 2}, ("model", "image_channels"), "1 or 3"),
        ({"image_chanels": 1}, ("model", "image_chanels"), "did you mean 'image_channels'?"),
        ({"framework": "tensorflow"}, ("model", "framework"), "use one of torch"),
        ({"preset": "large"}, ("model", "preset"), "presets of linear: small"),
    ],
)
def test_what_does_not_fit_is_refused_by_field(
    api: Api, model: dict[str, Any], loc: tuple[str, ...], message: str
) -> None:
    problem = assert_problem(train(api, **model), 422, loc)
    assert message in problem["errors"][0]["msg"]


def test_jobs_of_it_are_found(api: Api) -> None:
    made = train(api).json()["id"]
    assert [job["id"] for job in api.get("/v1/jobs?family=linear").json()["items"]] == [made]
    assert api.get("/v1/jobs?family=gone").json()["items"] == []


def test_the_openapi_document_describes_it(api: Api) -> None:
    document = api.get("/openapi.json").json()
    model = document["components"]["schemas"]["TrainJob"]["properties"]["model"]
    assert list(model["discriminator"]["mapping"]) == [
        "cnn",
        "gan",
        "gru_lm",
        "linear",
        "mlp",
        "tagger",
        "text_classifier",
    ]
    assert "LinearModel" in document["components"]["schemas"]


@pytest.mark.parametrize("api", [{"declaration": "import not_installed_anywhere"}], indirect=True)
def test_a_broken_family_is_listed_and_stops_nothing(api: Api) -> None:
    assert "No module named 'not_installed_anywhere'" in families(api)["linear"]["error"]
    problem = assert_problem(train(api), 422, ("model", "family"))
    assert "the family linear cannot be used" in problem["errors"][0]["msg"]
    answer = api.post("/v1/jobs", json={"kind": "train", "dataset": "digits", "model": {"family": "cnn"}})
    assert answer.status_code == 202


_WEIGHTS = {
    "fence": 1, "path": "model/model.safetensors", "sha256": "0" * 64, "size_bytes": 1,
    "media_type": "application/octet-stream", "created_at": 0.0,
}  # fmt: skip


def test_use_of_its_model_needs_the_version_that_made_it(api: Api, sqlite_engine: Engine) -> None:
    made = train(api).json()["id"]
    plugin = {"plugin": "family linear", "package": "nightshift-linear 0.9", "record": "9" * 64, "state_version": 3}
    with sqlite_engine.begin() as conn:
        conn.execute(update(jobs).where(jobs.c.id == made).values(state="succeeded", pinned={"plugin": plugin}))
        conn.execute(insert(artifacts).values(**_WEIGHTS, job_id=made, stored_as=f"jobs/{made}/model.safetensors"))
    answer = api.post("/v1/jobs", json={"kind": "finetune", "model_ref": f"job:{made}", "dataset": "digits"})
    assert answer.status_code == 202, answer.text
    with sqlite_engine.connect() as conn:
        row = conn.execute(jobs.select().where(jobs.c.id == answer.json()["id"])).one()
    assert (row.plugin, row.plugin_record, row.plugin_state) == ("family linear", "9" * 64, 3)
    assert row.pinned["plugin"] == plugin
