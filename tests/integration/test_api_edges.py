"""What every answer has around it: methods, redirects, headers; and what stands in the way of a whole service."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from nightshift.errors import ConfigurationError
from shared.datasets.ingest import build
from shared.db import migrate
from shared.db.engine import make_engine
from shared.settings import Settings
from tests.integration.test_api_datasets import npz, upload
from tests.support import databases, full_disk
from tests.support.api import Api, assert_problem


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/jobs", "GET, POST"),
        ("/v1/models/digits", "GET, PATCH"),
        ("/v1/models/digits/versions/1", "DELETE, PATCH"),
        ("/v1/schedules/nightly", "DELETE, GET, PATCH"),
    ],
)
def test_a_method_that_a_path_does_not_take_is_answered_with_all_it_takes(api: Api, path: str, methods: str) -> None:
    answer = api.send("OPTIONS", path)
    assert_problem(answer, 405)
    assert answer.headers["allow"] == methods


def test_no_answer_sends_anybody_to_the_host_that_the_request_names(api: Api) -> None:
    for path in ("/v1/jobs/", "/v1/models/", "/docs/"):
        answer = api.get(path, headers={"Host": "elsewhere.example"}, follow_redirects=False)
        assert_problem(answer, 404)
        assert "location" not in answer.headers


def test_types_are_not_guessed_and_what_a_key_was_needed_for_is_not_kept(api: Api) -> None:
    hook = {"name": "chat", "url": "https://example.com/hook"}
    made = api.post("/v1/webhooks", json=hook)
    assert made.json()["secret"]
    answers = [
        made,
        api.get("/v1/jobs"),
        api.get("/v1/none"),
        api.http.get("/v1/jobs"),
        api.post("/v1/jobs", content=b"{"),
    ]
    assert [answer.status_code for answer in answers] == [201, 200, 404, 401, 415]
    assert {answer.headers["cache-control"] for answer in answers} == {"no-store"}
    public = [api.http.get(path) for path in ("/healthz", "/docs", "/openapi.json", "/docs/files/swagger-ui.css")]
    assert {answer.headers["x-content-type-options"] for answer in [*answers, *public]} == {"nosniff"}


def test_a_disk_without_room_is_no_fault_of_the_upload(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_SPARE_BYTES", 10**18)
    problem = assert_problem(upload(api, "shapes", npz()), 507)
    assert "disk has 0 left" in problem["detail"]
    assert "allowed" not in problem["detail"]


def test_an_upload_that_fills_the_disk_is_507_and_nothing_is_kept(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    full_disk.fill(monkeypatch)
    assert_problem(upload(api, "shapes", npz()), 507)
    assert list((api.settings.storage_root / "uploads").iterdir()) == []


def test_a_database_that_is_not_utf_8_is_named_with_what_to_do(postgres_server: str, tmp_path: Path) -> None:
    ascii_only = "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
    with databases.postgres_database(postgres_server, "template0", ascii_only) as url:
        with pytest.raises(ConfigurationError, match=r"encoding SQL_ASCII.*CREATE DATABASE"):
            migrate.upgrade(url)
        engine = make_engine(url)
        http = TestClient(create_app(Settings(data_dir=tmp_path), engine, ping=lambda: None))
        for path in ("/readyz", "/v1/jobs"):
            answer = http.get(path, headers={"Authorization": "Bearer ns_any"})
            assert "encoding SQL_ASCII" in assert_problem(answer, 503)["detail"]
        engine.dispose()
