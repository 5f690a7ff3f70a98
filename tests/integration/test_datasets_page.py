"""The pages of data sets: what their scripts are told, and the buttons that add and delete versions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, update

from shared.datasets import registry
from shared.db.engine import write
from shared.db.schema import jobs
from tests.integration.test_models_page import trained
from tests.support import full_disk
from tests.support.dataset_files import class_folders, labelled_images, npz
from tests.support.factories import submit_job
from tests.support.flower_app import FlowerApp, running_flower_app


@pytest.fixture
def flower(sqlite_engine: Engine, tmp_path: Path) -> Iterator[FlowerApp]:
    with running_flower_app(sqlite_engine, tmp_path, max_upload_bytes=1_000_000) as app:
        yield app


def pets(flower: FlowerApp, folder: Path) -> None:
    """`pets` in two versions: ten pictures, then six more, all of them training data."""
    settings = flower.settings
    registry.register(flower.engine, settings, "pets", class_folders(folder / "first", 5))
    registry.append(flower.engine, settings, "pets", class_folders(folder / "more", 3))


def pinned(flower: FlowerApp, job_id: str, ref: str) -> None:
    with write(flower.engine) as conn:
        conn.execute(update(jobs).where(jobs.c.id == job_id).values(pinned={"dataset": ref}))


def test_the_list_has_every_set_and_the_built_in_ones_without_a_job(flower: FlowerApp, tmp_path: Path) -> None:
    pets(flower, tmp_path)
    for ref in ("pets", "pets@1"):
        submit_job(flower.engine, owner_id=flower.owner, dataset=ref)
    found = {item["name"]: item for item in flower.data("/datasets/-/data")["datasets"]}
    assert list(found) == ["cifar10", "digits", "fashion_mnist", "mnist", "pets"]
    assert (found["pets"]["version"], found["pets"]["jobs"], found["pets"]["classes"]) == (2, 2, ["cats", "dogs"])
    for mnist in (found["mnist"], flower.data("/datasets/mnist/data")):
        assert (mnist["registered"], mnist["availability"]) == (False, "needs_download")
    assert [found[name]["availability"] for name in ("digits", "pets")] == ["on_first_use", "registered"]
    assert flower.client.get("/nightshift/datasets/unknown").status_code == 404
    assert flower.client.get("/nightshift/datasets/pets@9").status_code == 404


def test_a_set_shows_what_each_version_changed_and_who_used_and_holds_it(flower: FlowerApp, tmp_path: Path) -> None:
    pets(flower, tmp_path)
    trained(flower.engine, flower.owner, 0.9, "pets@1", name="maker")
    pinned(flower, submit_job(flower.engine, owner_id="somebody else", dataset="pets", name="secret").job_id, "pets@1")
    shown = flower.data("/datasets/pets/data")
    second, first = shown["versions"]
    assert (second["change"], first["change"]) == (
        {"rows": {"train": 6}, "classes": [], "gone": [], "tags": [], "gone_tags": []},
        None,
    )
    assert (first["jobs"], first["models"], second["jobs"]) == (1, 1, 0)
    assert [line.partition(" ")[0] for line in first["held_by"]] == ["job"]
    assert second["held_by"] == []
    assert [model["dataset_version"] for model in shown["models"]] == [1]
    assert shown["used"]["jobs"] == 1
    assert "secret" not in flower.client.get("/nightshift/datasets/pets").text
    assert flower.data("/datasets/pets@1/data")["splits"]["train"]["count"] == 8
    assert flower.data("/datasets/pets/data", before=2)["versions"] == [first]


def test_a_look_at_it_is_a_picture_that_is_fetched_once(flower: FlowerApp, tmp_path: Path) -> None:
    pets(flower, tmp_path)
    answer = flower.client.get("/nightshift/datasets/pets@1/sample")
    assert (answer.headers["Content-Type"], answer.content[:4]) == ("image/png", b"\x89PNG")
    again = flower.client.get("/nightshift/datasets/pets@1/sample", headers={"If-None-Match": answer.headers["Etag"]})
    assert again.status_code == 304


def test_a_version_is_deleted_unless_a_job_needs_it(flower: FlowerApp, tmp_path: Path) -> None:
    pets(flower, tmp_path)
    job_id = submit_job(flower.engine, owner_id=flower.owner, dataset="pets@1").job_id
    refused = flower.post("/datasets/pets/versions/1/delete")
    assert (refused.status_code, f"job {job_id}" in refused.json()["error"]) == (409, True)
    assert flower.post("/datasets/pets/versions/2/delete").status_code == 200
    assert [version["version"] for version in flower.data("/datasets/pets/data")["versions"]] == [1]


def send(flower: FlowerApp, content: Any, **query: str) -> httpx.Response:
    flower.client.get("/nightshift/datasets")
    token = {"X-XSRFToken": flower.client.cookies.get("_xsrf") or ""}
    return flower.client.post("/nightshift/datasets/-/add", params=query, content=content, headers=token)


def left(folder: Path) -> list[Path]:
    uploads = folder / "storage" / "uploads"
    return list(uploads.iterdir()) if uploads.is_dir() else []


def test_a_file_that_is_sent_becomes_a_version_and_another_is_appended(flower: FlowerApp, tmp_path: Path) -> None:
    x, y = labelled_images()
    file = npz(tmp_path / "sent.npz", x=x, y=y).read_bytes()
    answer = send(flower, file, name="mine", filename="sent.npz")
    assert (answer.status_code, answer.json()) == (200, {"message": "mine@1 registered.", "version": 1})
    assert send(flower, file, name="mine", filename="sent.npz", how="append").json()["version"] == 2
    second, first = flower.data("/datasets/mine/data")["versions"]
    assert (first["rows"], second["change"]["rows"]) == ({"train": 32, "test": 8}, {"train": 40})
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "query", "status", "said"),
    [
        (b"nonsense", {"name": "mine", "format": "npz"}, 422, "file"),
        (b"x", {"name": "../up"}, 422, "name"),
        (b"x", {"name": "digits"}, 422, "digits"),
        (b"x", {"name": "mine", "format": "pickle"}, 422, "format"),
        (b"x", {"name": "mine", "how": "guess"}, 422, "how"),
        (b"x" * 1_000_001, {"name": "mine"}, 413, "1000000 bytes"),
        (iter([b"x" * 500_000] * 3), {"name": "mine"}, 413, "1000000 bytes"),
    ],
)
def test_what_cannot_be_used_is_refused_and_nothing_is_kept(
    flower: FlowerApp, tmp_path: Path, content: Any, query: dict[str, str], status: int, said: str
) -> None:
    answer = send(flower, content, **query)
    assert (answer.status_code, said in answer.json()["error"]) == (status, True), answer.text
    assert left(tmp_path) == []
    assert "mine" not in {item["name"] for item in flower.data("/datasets/-/data")["datasets"]}


def test_what_is_anothers_is_shown_and_not_changed(flower: FlowerApp, tmp_path: Path) -> None:
    registry.register(flower.engine, flower.settings, "pets", class_folders(tmp_path / "pets", 5), owner_id="another")
    shown = flower.data("/datasets/pets/data")
    assert (shown["owner"], shown["yours"], shown["may_change"]) == ("another", False, False)
    refused = [
        send(flower, b"", name="pets"),
        send(flower, b"", name="pets", how="append"),
        flower.post("/datasets/pets/versions/1/delete"),
    ]
    assert [answer.status_code for answer in refused] == [403] * 3
    assert all("another owner" in answer.json()["error"] for answer in refused)
    assert flower.data("/datasets/pets/data") == shown


def test_a_file_needs_the_pages_token_and_a_page_that_may_write(sqlite_engine: Engine, tmp_path: Path) -> None:
    with running_flower_app(sqlite_engine, tmp_path, flower_read_only=True) as flower:
        assert send(flower, b"", name="mine").status_code == 403
        assert flower.post("/datasets/pets/versions/1/delete").status_code == 403
    with running_flower_app(sqlite_engine, tmp_path) as flower:
        answer = flower.client.post("/nightshift/datasets/-/add?name=mine", headers={"Connection": "close"})
        assert (answer.status_code, left(tmp_path)) == (403, [])


def test_a_disk_that_is_full_is_said(flower: FlowerApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full_disk.fill(monkeypatch)
    answer = send(flower, b"x", name="mine")
    assert (answer.status_code, "disk is full" in answer.json()["error"]) == (507, True), answer.text
    assert left(tmp_path) == []


def test_a_table_is_sent_and_its_page_has_the_look(flower: FlowerApp) -> None:
    assert send(flower, b"a,b\n1,x\n", name="mine", filename="t.csv", kind="table").status_code == 200
    shown = flower.data("/datasets/mine/data")
    assert [column["name"] for column in shown["preview"]["columns"]] == ["a", "b"]
    assert shown["data_kinds"] == ["image", "text", "files", "table"]
    assert send(flower, b"a\n", name="mine", kind="guess").status_code == 422
