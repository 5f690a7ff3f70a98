"""The pages of models: what their scripts are told, and the moves of aliases that they ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update

from shared.db.engine import read, write
from shared.db.schema import jobs
from shared.errors import NotFound
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
    """The model `digits` in three versions, the last one somebody else's."""
    trained(flower.engine, flower.owner, 0.90, name="first", training={"epochs": 1})
    trained(flower.engine, flower.owner, 0.95, name="second", training={"epochs": 2})
    trained(flower.engine, "somebody else", 0.93, "digits@2", name="secret")
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
    assert (metrics["test_accuracy"]["best"], metrics["loss"]["best"]) == ([1], [1])
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
    assert (moved.status_code, moved.json()["message"]) == (200, "digits@champion points at version 2 now.")
    rolled = digits.post("/models/digits/rollback", {"alias": "champion", "reason": None})
    assert "version 1 again" in rolled.json()["message"]
    model = digits.data("/models/digits/data")
    assert [(item["alias"], item["version"]) for item in model["aliases"]] == [("champion", 1)]
    found = [(item["change"], item["to_version"], item["why"], item["who"]) for item in model["history"]["items"][:2]]
    assert found == [("rollback", 1, None, "test"), ("set", 2, "better", "test")]


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
