"""Downloading what a job left: the right bytes under the right names, in ranges, and never a file no row names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from shared.db.engine import write
from shared.jobs import transitions
from shared.jobs.transitions import ArtifactRecord
from shared.storage import storage_of
from tests.support.api import Api, assert_problem, running_api
from tests.support.factories import running_job

FILES = {
    "model/model.safetensors": (b"weights" * 1_000, "application/octet-stream"),
    "evaluation.json": (b'{"accuracy": 0.98}', "application/json"),
    "curves.png": (b"\x89PNG\r\n", "image/png"),
}


@pytest.fixture(params=["file", "s3"])
def api(request: pytest.FixtureRequest, sqlite_engine: Engine, tmp_path: Path) -> Iterator[Api]:
    """With its storage in a folder, and in a bucket."""
    values = request.getfixturevalue("objects").bucket().values() if request.param == "s3" else {}
    with running_api(sqlite_engine, tmp_path, **values) as api:
        yield api


@pytest.fixture
def job_id(api: Api) -> str:
    """A job that succeeded and left FILES."""
    lease = running_job(api.engine)
    records = [_store(api, lease.job_id, path, *content) for path, content in FILES.items()]
    with write(api.engine) as conn:
        assert transitions.succeed(conn, lease, result={"metrics": {}}, artifacts=records)
    return lease.job_id


def _store(api: Api, job_id: str, path: str, content: bytes, media_type: str) -> ArtifactRecord:
    stored_as = f"jobs/{job_id}/attempts/1/artifacts/{path}"
    file = api.settings.storage_root / stored_as
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    record = ArtifactRecord(path, stored_as, hashlib.sha256(content).hexdigest(), len(content), media_type)
    storage_of(api.settings).keep_files({stored_as: record.sha256})
    return record


def test_artifacts_are_listed_with_their_hashes_and_not_where_they_lie(api: Api, job_id: str) -> None:
    items = api.get(f"/v1/jobs/{job_id}/artifacts").json()["items"]
    assert {item["path"] for item in items} == set(FILES)
    for item in items:
        content, media_type = FILES[item["path"]]
        assert item["sha256"] == hashlib.sha256(content).hexdigest()
        assert (item["size_bytes"], item["media_type"]) == (len(content), media_type)
        assert "stored_as" not in item
    assert api.get(f"/v1/jobs/{job_id}").json()["result"]["artifacts"]


@pytest.mark.parametrize("path", FILES)
def test_a_download_says_what_it_is(api: Api, job_id: str, path: str) -> None:
    content, media_type = FILES[path]
    answer = api.get(f"/v1/jobs/{job_id}/artifacts/{path}")
    assert (answer.status_code, answer.content) == (200, content)
    assert answer.headers["content-type"] == media_type
    assert answer.headers["etag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    assert answer.headers["content-disposition"].endswith(f'filename="{path.rpartition("/")[2]}"')
    assert answer.headers["x-content-type-options"] == "nosniff"
    head = api.send("HEAD", f"/v1/jobs/{job_id}/artifacts/{path}")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(content)))


def test_a_download_goes_on_where_it_stopped(api: Api, job_id: str) -> None:
    path, content = "model/model.safetensors", FILES["model/model.safetensors"][0]

    def fetch(**headers: str) -> Any:
        return api.get(f"/v1/jobs/{job_id}/artifacts/{path}", headers=headers)

    etag = fetch().headers["etag"]
    rest = fetch(**{"Range": "bytes=5000-", "If-Range": etag})
    assert (rest.status_code, rest.content) == (206, content[5000:])
    assert rest.headers["content-range"] == f"bytes 5000-{len(content) - 1}/{len(content)}"
    assert fetch(**{"Range": "bytes=0-6", "If-Range": '"other"'}).content == content
    unchanged = fetch(**{"If-None-Match": etag})
    assert (unchanged.status_code, unchanged.content) == (304, b"")


@pytest.mark.parametrize(("value", "status"), [("bytes=99999-", 416), ("bytes=x", 400), ("lines=1-2", 400)])
def test_a_bad_range_is_a_problem(api: Api, job_id: str, value: str, status: int) -> None:
    answer = api.get(f"/v1/jobs/{job_id}/artifacts/evaluation.json", headers={"Range": value})
    assert_problem(answer, status)
    assert answer.headers.get("content-range", "bytes */18") == "bytes */18"


@pytest.mark.parametrize(
    "path",
    ["none.png", "model", "model/", "model/../evaluation.json", "../../../nightshift.db", "%2e%2e/evaluation.json",
     "/etc/passwd", "EVALUATION.JSON", "evaluation.json/", "model%5cmodel.safetensors"],
)  # fmt: skip
def test_only_names_in_the_list_can_be_fetched(api: Api, job_id: str, path: str) -> None:
    answer = api.get(f"/v1/jobs/{job_id}/artifacts/{path}")
    if answer.status_code != 404:  # the client itself resolved `..` to a name that is in the list
        assert answer.request.url.path.endswith(f"{job_id}/artifacts/evaluation.json")
    else:
        assert_problem(answer, 404)


def test_a_row_that_points_out_of_the_storage_leads_nowhere(api: Api) -> None:
    lease = running_job(api.engine)
    outside = api.settings.storage_root.parent / "api_key"
    outside.parent.mkdir(parents=True, exist_ok=True)
    outside.write_text("secret")
    record = ArtifactRecord("key", "../api_key", "0" * 64, 6, "text/plain")
    with write(api.engine) as conn:
        assert transitions.succeed(conn, lease, result={"metrics": {}}, artifacts=[record])
    assert_problem(api.get(f"/v1/jobs/{lease.job_id}/artifacts/key"), 404)
