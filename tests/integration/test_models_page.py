"""The pages of models: what their scripts are told, and the moves of aliases that they ask for."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update

from nightshift.errors import NotFound
from shared.db.engine import read, write
from shared.db.schema import jobs, model_versions
from shared.jobs import transitions
from shared.jobs.transitions import ArtifactRecord, ModelVersionRecord
from shared.models import aliases, overview
from tests.support.factories import claim_job, submit_job
from tests.support.flower_app import FlowerApp, running_flower_app


@pytest.fixture
def flower(sqlite_engine: Engine, tmp_path: Path) -> Iterator[FlowerApp]:
    with running_flower_app(sqlite_engine, tmp_path) as app:
        yield app


def trained(engine: Engine, owner: str, accuracy: float, dataset: str = "digits@1", **fields: Any) -> str:
    """A job that left a version of `digits`."""
    submit_job(engine, owner_id=owner, **fields)
    lease = claim_job(engine).lease
    weights = ArtifactRecord("model/model.safetensors", f"jobs/{lease.job_id}/m", "a" * 64, 10, "application/x")
    measured = {"loss": 1 - accuracy, "samples_per_second": 100.0, "test_accuracy": accuracy}
    register = ModelVersionRecord("digits", "cnn", "torch", dataset, metrics=measured)
    with write(engine) as conn:
        transitions.succeed(conn, lease, result={"metrics": measured}, artifacts=[weights], register=register)
    return lease.job_id


@pytest.fixture
def digits(flower: FlowerApp) -> FlowerApp:
    """The model `digits` has three versions; the job behind the last belongs to another owner."""
    trained(flower.engine, flower.owner, 0.90, name="first", training={"epochs": 1})
    trained(flower.engine, flower.owner, 0.95, name="second", training={"epochs": 2})
    secret = trained(flower.engine, flower.owner, 0.93, "digits@2", name="secret")
    with write(flower.engine) as conn:
        conn.execute(update(jobs).where(jobs.c.id == secret).values(owner_id="somebody else"))
    return flower


def test_the_list_says_which_version_a_name_means_and_how_its_versions_did(digits: FlowerApp) -> None:
    (model,) = digits.data("/models/-/data")["models"]
    assert (model["name"], model["champion"]["version"], model["versions"]) == ("digits", 1, 3)
    assert (model["metric"], model["points"]) == ("test_accuracy", [[1, 0.9], [2, 0.95], [3, 0.93]])


def test_a_model_shows_its_versions_and_whose_jobs_made_them(digits: FlowerApp) -> None:
    model = digits.data("/models/digits/data")
    assert next(iter(model["senses"].items())) == ("test_accuracy", "max"), "what tells most comes first"
    assert model["senses"]["samples_per_second"] is None
    assert [version["version"] for version in model["versions"]] == [3, 2, 1]
    assert [version["job"] and version["job"]["name"] for version in model["versions"]] == [None, "second", "first"]
    assert "secret" not in digits.client.get("/nightshift/models/digits").text
    assert digits.client.get("/nightshift/models/unknown").status_code == 404


def test_versions_are_compared_side_by_side(digits: FlowerApp) -> None:
    comparison = digits.data("/models/digits/data", compare="1,2,3")["comparison"]
    metrics = {row["name"]: row for row in comparison["metrics"]}
    assert metrics["test_accuracy"]["values"] == [0.9, 0.95, 0.93]
    assert metrics["test_accuracy"]["best"] == [1]
    assert metrics["loss"] == {"name": "loss", "sense": None, "values": [1 - 0.9, 1 - 0.95, 1 - 0.93], "best": []}, (
        "a point of a curve"
    )
    assert metrics["samples_per_second"]["best"] == []
    assert not comparison["same_dataset"]
    settings = {row["name"]: row["values"] for row in comparison["settings"]}
    assert settings == {"name": ["first", "second", None], "training.epochs": [1, 2, None]}
    assert comparison["jobs"][2] is None
    assert digits.data("/models/digits/data", compare="1,2")["comparison"]["same_dataset"]
    assert digits.data("/models/digits/data", compare="1,99")["comparison"] is None, "one that is gone is left out"


@pytest.mark.parametrize("compare", ["x", "1,2,3,4,5,6,7,8,9", "1,²", "99999999999"])
def test_a_comparison_of_nonsense_is_refused(digits: FlowerApp, compare: str) -> None:
    answer = digits.client.get("/nightshift/models/digits/data", params={"compare": compare})
    assert (answer.status_code, "compare" in answer.json()["error"]) == (422, True)


def test_an_unknown_version_cannot_be_compared(digits: FlowerApp) -> None:
    with read(digits.engine) as conn, pytest.raises(NotFound, match="digits@9"):
        overview.side_by_side(conn, "digits", [1, 9], None)


def test_an_alias_moves_and_rolls_back_and_says_who_and_why(digits: FlowerApp) -> None:
    moved = digits.post("/models/digits/aliases", {"version": 2, "alias": "champion", "reason": "better"})
    assert (moved.status_code, moved.json()["message"]) == (200, "digits@champion points at version 2.")
    rolled = digits.post("/models/digits/rollback", {"alias": "champion", "reason": None})
    assert "version 1 again" in rolled.json()["message"]
    model = digits.data("/models/digits/data")
    assert [(item["alias"], item["version"]) for item in model["aliases"]] == [("champion", 1)]
    found = [(item["change"], item["to_version"], item["why"], item["who"]) for item in model["history"]["items"][:2]]
    assert found == [("rollback", 1, None, "test"), ("set", 2, "better", "test")]


def test_what_is_anothers_is_shown_and_not_changed(flower: FlowerApp, tmp_path: Path) -> None:
    for accuracy in (0.9, 0.95):
        trained(flower.engine, "somebody else", accuracy)
    model = flower.data("/models/digits/data")
    assert (model["owner"], model["yours"], model["may_change"]) == ("somebody else", False, False)
    assert flower.data("/models/-/data")["models"][0]["owner"] == "somebody else"
    changes: dict[str, dict[str, Any]] = {
        "aliases": {"version": 2},
        "rollback": {},
        "describe": {"description": "mine"},
        "versions/1/describe": {"tags": {"a": "b"}},
        "register": {"job": untold(flower.engine, flower.owner, tmp_path)},
    }
    for path, body in changes.items():
        refused = flower.post(f"/models/digits/{path}", body)
        assert (refused.status_code, "another owner" in refused.json()["error"]) == (403, True), path
    after = flower.data("/models/digits/data")
    assert [after[part] for part in ("aliases", "versions", "history", "description")] == [
        model[part] for part in ("aliases", "versions", "history", "description")
    ]


def test_what_cannot_be_done_is_said(digits: FlowerApp) -> None:
    assert digits.post("/models/digits/rollback").status_code == 409
    assert digits.post("/models/digits/aliases", {"version": 9}).status_code == 404
    refused = digits.post("/models/digits/aliases", {"version": 1, "alias": "7"})
    assert (refused.status_code, "must not be a number" in refused.json()["error"]) == (422, True)


def test_a_button_needs_the_pages_token_and_the_same_site(digits: FlowerApp) -> None:
    body = {"version": 2}
    assert digits.client.post("/nightshift/models/digits/aliases", json=body).status_code == 403
    assert digits.post("/models/digits/aliases", body, Origin="http://elsewhere").status_code == 403
    with read(digits.engine) as conn:
        assert aliases.current(conn, "digits", "champion") == 1


def test_read_only_changes_nothing(sqlite_engine: Engine, tmp_path: Path) -> None:
    with running_flower_app(sqlite_engine, tmp_path, flower_read_only=True) as flower:
        trained(flower.engine, flower.owner, 0.9)
        trained(flower.engine, flower.owner, 0.95)
        assert flower.post("/models/digits/aliases", {"version": 2}).status_code == 403
        assert flower.data("/models/digits/data")["aliases"][0]["version"] == 1


def test_a_long_history_comes_in_pages(digits: FlowerApp) -> None:
    with write(digits.engine) as conn:
        for number in range(30):
            aliases.set_alias(conn, "digits", "candidate", 1 + number % 3)
    first = digits.data("/models/digits/data")["history"]
    rest = digits.data("/models/digits/history", cursor=first["next"])
    assert (len(first["items"]), len(rest["items"]), rest["next"]) == (20, 11, None)


def test_what_a_promotion_decided_is_told_with_its_version(engine: Engine) -> None:
    """On both databases: it lies inside the job's result."""
    trained(engine, "me", 0.9)
    second = trained(engine, "me", 0.8)
    verdict = {"promoted": False, "alias": "champion", "reason": "worse by 0.1", "metric": "test_accuracy"}
    with write(engine) as conn:
        conn.execute(update(jobs).where(jobs.c.id == second).values(result={"metrics": {}, "promotion": verdict}))
    with read(engine) as conn:
        versions = overview.detail(conn, "digits", "me")["versions"]
        compared = overview.side_by_side(conn, "digits", [1, 2], "me")
        (model,) = overview.overview(conn)
    told = {"promoted": False, "alias": "champion", "reason": "worse by 0.1"}
    assert [version["promotion"] for version in versions] == [told, None]
    assert [row["best"] for row in compared["metrics"] if row["name"] == "test_accuracy"] == [[0]]
    assert model["points"] == [(1, 0.9), (2, 0.8)]


def untold(engine: Engine, owner: str, folder: Path, *more: str) -> str:
    """A job that left a model, with more files, and registered it nowhere."""
    submit_job(engine, owner_id=owner, pinned={"dataset": "digits@1", "parent": {"ref": "digits@1"}}, priority=9)
    lease = claim_job(engine).lease
    stored = f"jobs/{lease.job_id}/attempts/1/artifacts/model"
    (folder / "storage" / stored).mkdir(parents=True)
    records = []
    for name in ("config.json", "model.safetensors", *more):
        (folder / "storage" / stored / name).write_bytes(name.encode() * 1000)
        size = 1000 * len(name)
        records.append(ArtifactRecord(f"model/{name}", f"{stored}/{name}", "a" * 64, size, "application/x"))
    with write(engine) as conn:
        transitions.succeed(conn, lease, result={"metrics": {"test_accuracy": 0.97}}, artifacts=records)
    return lease.job_id


def test_a_finished_job_becomes_a_version_afterwards_and_its_files_are_downloaded(
    digits: FlowerApp, tmp_path: Path
) -> None:
    job_id = untold(digits.engine, digits.owner, tmp_path)
    answer = digits.post("/models/digits/register", {"job": job_id[:12], "description": "by hand"})
    assert (answer.status_code, answer.json()["version"]) == (200, 4)
    newest = digits.data("/models/digits/data")["versions"][0]
    told = {key: newest[key] for key in ("version", "dataset", "parent", "description", "metrics")}
    assert told == {
        "version": 4, "dataset": "digits@1", "parent": "digits@1", "description": "by hand",
        "metrics": {"test_accuracy": 0.97},
    }  # fmt: skip
    assert newest["job"]["id"] == job_id
    again = digits.post("/models/digits/register", {"job": job_id})
    assert (again.status_code, "already registered as digits@4" in again.json()["error"]) == (409, True)
    assert digits.post("/models/first/register", {"job": job_id}).json()["version"] == 1, "under another name too"
    assert digits.data("/models/first/data")["aliases"][0]["alias"] == "champion"

    files = digits.client.get("/nightshift/models/digits/versions/4/files")
    assert files.headers["Content-Disposition"] == 'attachment; filename="digits-4.zip"'
    with zipfile.ZipFile(io.BytesIO(files.content)) as archive:
        assert archive.namelist() == ["digits-4/config.json", "digits-4/model.safetensors"]
        assert archive.testzip() is None
        assert archive.read("digits-4/config.json") == b"config.json" * 1000
    assert digits.client.get("/nightshift/models/first/versions/champion/files").status_code == 200
    assert digits.client.get("/nightshift/models/digits/versions/9/files").status_code == 404


def test_only_a_job_of_ones_own_that_left_a_model_can_be_registered(digits: FlowerApp, tmp_path: Path) -> None:
    theirs = untold(digits.engine, "somebody else", tmp_path)
    waiting = submit_job(digits.engine, owner_id=digits.owner).job_id
    assert digits.post("/models/digits/register", {"job": theirs}).status_code == 404
    refused = digits.post("/models/digits/register", {"job": waiting})
    assert (refused.status_code, "queued" in refused.json()["error"]) == (422, True)
    assert digits.data("/models/digits/data")["total"] == 3


def test_a_model_and_a_version_are_described_and_that_is_in_the_history(digits: FlowerApp) -> None:
    assert digits.post("/models/digits/describe", {"description": "Reads\nnumbers."}).status_code == 200
    body = {"description": "the best", "tags": {"team": "vision", "old": "yes"}}
    assert digits.post("/models/digits/versions/2/describe", body).status_code == 200
    digits.post("/models/digits/versions/2/describe", {"tags": {"old": None}})
    model = digits.data("/models/digits/data")
    second = model["versions"][1]
    assert (model["description"], second["description"]) == ("Reads\nnumbers.", "the best")
    assert second["tags"] == {"team": "vision"}
    found = [(line["change"], line["to_version"], line["why"]) for line in model["history"]["items"][:3]]
    assert found[1:] == [("describe", 2, "the best; tags: team=vision, old=yes"), ("describe", None, "Reads numbers.")]
    assert digits.post("/models/digits/versions/9/describe", body).status_code == 404
    assert digits.post("/models/nothing/describe", {"description": "x"}).status_code == 404
    digits.post("/models/digits/describe", {"description": ""})
    assert digits.data("/models/digits/data")["description"] is None


def test_of_a_thousand_versions_the_newest_come_and_curves_keep_what_stands_out(digits: FlowerApp) -> None:
    row = {"name": "long", "job_id": "f" * 16, "family": "cnn", "framework": "torch", "tags": {}, "created_at": 1.0}
    measured = dict.fromkeys(range(1, 1001), 0.9) | {500: 0.1, 501: 0.99}
    rows = [row | {"version": number, "metrics": {"test_accuracy": value}} for number, value in measured.items()]
    with write(digits.engine) as conn:
        conn.execute(model_versions.insert(), rows)
        aliases.set_alias(conn, "long", "champion", 333)
    model = digits.data("/models/long/data")
    numbers = [version["version"] for version in model["versions"]]
    assert (model["total"], numbers[0], len(numbers), model["next"]) == (1000, 1000, 25, 976)
    assert digits.data("/models/long/data", before=26)["next"] is None
    curve = model["charts"]["test_accuracy"]
    assert len(curve["version"]) <= 210
    assert {1, 333, 500, 501, 1000} <= set(curve["version"])
    compared = digits.data("/models/long/data", compare="3,500")["comparison"]
    assert compared["versions"] == [3, 500], "also of versions that are on no page"
