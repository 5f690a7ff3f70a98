"""Uploading data sets: streamed, counted, complete or refused."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import Engine

from tests.support.api import Api, assert_problem, running_api
from tests.support.dataset_files import idx_folder

BOUNDARY = "----boundary"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def npz(rows: int = 40, seed: int = 0, classes: int = 4) -> bytes:
    random = np.random.default_rng(seed)
    packed = io.BytesIO()
    np.savez(packed, x=random.integers(0, 255, (rows, 8, 8), np.uint8), y=np.arange(rows) % classes)
    return packed.getvalue()


def upload(api: Api, name: str, content: bytes, filename: str = "data.npz", **fields: str) -> Any:
    return api.post("/v1/datasets", files={"file": (filename, content)}, data={"name": name, **fields})


def part(name: str, content: bytes, *parameters: str) -> bytes:
    disposition = "; ".join([f'form-data; name="{name}"', *parameters])
    return f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + content + b"\r\n"


def left_behind(api: Api) -> list[Path]:
    return [path for path in (api.settings.storage_root / "uploads").glob("**/*") if path.is_file()]


def test_an_uploaded_data_set_can_be_seen_and_trained_on(api: Api) -> None:
    answer = upload(api, "shapes", npz())
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == "/v1/datasets/shapes"
    shown = api.get("/v1/datasets/shapes").json()
    assert shown == answer.json()
    assert (shown["version"], shown["kind"], len(shown["classes"])) == (1, "image", 4)
    assert "shapes" in [item["name"] for item in api.get("/v1/datasets").json()["items"]]
    assert api.submit(dataset="shapes", training={"batch_size": 8}).status_code == 202
    assert_problem(api.submit(dataset="shapes"), 422, ("training", "batch_size"))
    assert left_behind(api) == []


LANGUAGE_MODEL: dict[str, Any] = {"model": {"family": "gru_lm"}, "dataset": "tale"}


def test_a_text_too_short_for_the_batch_is_refused_in_a_job_and_in_a_schedule(api: Api) -> None:
    upload(api, "tale", b"one two three\n" * 1_000, "tale.txt")
    told = assert_problem(api.submit(**LANGUAGE_MODEL), 422, ("training", "batch_size"))["errors"][0]["msg"]
    assert told == (
        "64 is too large: tale@1 has 3,204 training tokens, which are 32 windows of 100, 6 of them for "
        "validation "
        "(training.validation_split); use at most 26"
    )
    schedule = {"name": "nightly", "cron": "0 2 * * *", "job": {"kind": "train", **LANGUAGE_MODEL}}
    assert_problem(api.post("/v1/schedules", json=schedule), 422, ("job", "training", "batch_size"))
    assert api.submit(**LANGUAGE_MODEL, training={"batch_size": 26}).status_code == 202


def test_a_built_in_set_says_whether_a_job_can_have_it(sqlite_engine: Engine, tmp_path: Path) -> None:
    idx_folder(tmp_path / "published" / "mnist")
    settings: dict[str, Any] = {"datasets_dir": tmp_path / "published"}
    with running_api(sqlite_engine, tmp_path, **settings) as api:
        assert api.submit(dataset="cifar10").status_code == 202
        assert availability(api) == {"digits": "on_first_use", "mnist": "on_first_use"} | dict.fromkeys(
            ("cifar10", "fashion_mnist"), "needs_download"
        )
    with running_api(sqlite_engine, tmp_path, **settings, dataset_downloads="never") as api:
        assert api.submit(dataset="mnist").status_code == 202
        told = assert_problem(api.submit(dataset="cifar10"), 422, ("dataset",))["errors"][0]["msg"]
        assert f"data_batch_5.bin, test_batch.bin (unpacked from cifar-10-binary.tar.gz) into {tmp_path}/" in told
        assert api.submit(dataset="digits").status_code == 202
        assert availability(api) == {
            "digits": "registered", "mnist": "on_first_use", "cifar10": "unavailable", "fashion_mnist": "unavailable"
        }  # fmt: skip


def availability(api: Api) -> dict[str, str]:
    shown = {item["name"]: item["availability"] for item in api.get("/v1/datasets").json()["items"]}
    assert shown == {name: api.get(f"/v1/datasets/{name}").json()["availability"] for name in shown}
    return shown


def test_a_promotion_is_not_judged_on_classes_that_the_model_does_not_learn(api: Api) -> None:
    upload(api, "shapes", npz(40))
    promote = {"metric": "test_accuracy", "evaluate_on": "digits"}
    assert_problem(
        api.submit(dataset="shapes", register_as="m", promote=promote, training={"batch_size": 8}),
        422,
        ("promote", "evaluate_on"),
    )


def test_other_content_is_a_new_version_and_the_same_is_not(api: Api) -> None:
    versions = [upload(api, "shapes", npz(seed=seed)).json()["version"] for seed in (0, 1, 0)]
    assert versions == [1, 2, 1]
    assert [item["version"] for item in api.get("/v1/datasets/shapes").json()["versions"]] == [1, 2]


def test_a_look_at_a_data_set(api: Api) -> None:
    upload(api, "shapes", npz())
    picture = api.get("/v1/datasets/shapes/sample")
    assert picture.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(picture.content)).size == (8 * (56 + 2) + 2, 4 * (56 + 2) + 2)  # 8 of each class train
    upload(api, "poems", "so much dépends upon\n\na red wheel\n\nbarrow".encode(), "poems.txt")
    text = api.get("/v1/datasets/poems/sample")
    assert text.headers["content-type"] == "text/plain; charset=utf-8"
    assert text.text.startswith("so much dépends upon\n")
    assert api.get("/v1/datasets/digits/sample").status_code == 200
    assert "first job" in assert_problem(api.get("/v1/datasets/mnist/sample"), 404)["detail"]
    assert_problem(api.get("/v1/datasets/none/sample"), 404)


def test_a_text_is_no_data_for_a_cnn(api: Api) -> None:
    assert upload(api, "poems", b"so much depends upon\n" * 200, "poems.txt").status_code == 201
    problem = assert_problem(api.submit(dataset="poems"), 422, ("dataset",))
    assert "text" in problem["errors"][0]["msg"]


@pytest.mark.parametrize("name", ["", "../x", "a b", "x" * 101, "a\u202eb", "digits"])
def test_a_bad_name_is_refused(api: Api, name: str) -> None:
    assert_problem(upload(api, name, npz()), 422, ("name",))
    assert left_behind(api) == []


def test_an_unknown_format_is_answered_with_those_there_are(api: Api) -> None:
    problem = assert_problem(upload(api, "shapes", npz(), format="parquet"), 422, ("format",))
    assert "npz" in problem["errors"][0]["msg"]


@pytest.mark.parametrize(
    ("parts", "loc"),
    [
        (part("name", b"x"), ("file",)),
        (part("file", b"x", 'filename="a.txt"'), ("name",)),
        (part("name", b"x") + part("name", b"y") + part("file", b"z"), ("name",)),
        (part("file", b"x") + part("file", b"y"), ("file",)),
        (part("nmae", b"x"), ("nmae",)),
        (part("name", b"\xff") + part("file", b"y"), ("name",)),
        (part("name", b"x" * 1_001) + part("file", b"y"), ("name",)),
    ],
)
def test_a_wrong_form_is_named(api: Api, parts: bytes, loc: tuple[str, ...]) -> None:
    body = parts + f"--{BOUNDARY}--\r\n".encode()
    assert_problem(api.post("/v1/datasets", content=body, headers=FORM), 422, loc)
    assert left_behind(api) == []


@pytest.mark.parametrize("body", [b"", b"nothing of the kind", part("file", b"x" * 10_000)[:-500], part("name", b"x")])
def test_a_truncated_upload_is_400(api: Api, body: bytes) -> None:
    assert_problem(api.post("/v1/datasets", content=body, headers=FORM), 400)
    assert left_behind(api) == []


@pytest.mark.parametrize("content_type", ["application/json", "application/x-tar", "", "multipart/mixed; boundary=x"])
def test_another_content_type_is_415(api: Api, content_type: str) -> None:
    assert_problem(api.post("/v1/datasets", content=b"x", headers={"Content-Type": content_type}), 415)


def test_a_boundary_is_needed(api: Api) -> None:
    headers = {"Content-Type": "multipart/form-data"}
    assert_problem(api.post("/v1/datasets", content=b"x", headers=headers), 400)


def test_an_upload_over_the_quota_is_413_whatever_it_announces(api: Api) -> None:
    object.__setattr__(api.settings, "max_upload_bytes", 1_000_000)

    def endless() -> Iterator[bytes]:
        yield part("name", b"big")
        yield f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"\r\n\r\n'.encode()
        yield from (b"x" * 100_000 for _ in range(1_000))

    assert_problem(api.post("/v1/datasets", content=endless(), headers=FORM), 413)
    assert_problem(upload(api, "big", b"x" * 1_100_000), 413)
    assert left_behind(api) == []


def test_a_hostile_file_is_refused_and_nothing_is_kept(api: Api) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("../../escape.png", b"x")
    answer = upload(api, "evil", packed.getvalue(), "evil.zip")
    assert answer.status_code == 422, answer.text
    assert_problem(api.get("/v1/datasets/evil"), 404)
    assert left_behind(api) == []


def append(api: Api, name: str, content: bytes, **fields: str) -> Any:
    return api.post(f"/v1/datasets/{name}/append", files={"file": ("more.npz", content)}, data=fields)


def test_appending_makes_a_version_and_every_version_can_be_looked_at(api: Api) -> None:
    upload(api, "shapes", npz(40))
    answer = append(api, "shapes", npz(20, seed=1))
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == "/v1/datasets/shapes@2"
    rows = [item["rows"] for item in answer.json()["versions"]]
    assert rows == [{"train": 32, "test": 8}, {"train": 52, "test": 8}]
    old, new = (api.get(f"/v1/datasets/shapes@{n}").json() for n in (1, 2))
    assert (old["version"], old["splits"]["train"]["count"]) == (1, 32)
    assert new == answer.json() == api.get("/v1/datasets/shapes").json()
    assert api.get("/v1/datasets/shapes@1/sample").headers["content-type"] == "image/png"
    assert_problem(api.get("/v1/datasets/shapes@3"), 404)
    assert api.get("/v1/datasets/shapes@0").status_code == 422
    assert left_behind(api) == []


def test_what_cannot_be_appended_is_refused(api: Api) -> None:
    upload(api, "shapes", npz(40))
    assert_problem(append(api, "nothing", npz(20)), 404)
    assert_problem(append(api, "digits", npz(20)), 422, ("name",))
    assert_problem(append(api, "shapes", npz(20), split="test"), 422, ("split",))
    assert_problem(append(api, "shapes", b"one\n\ntwo\n"), 422, ("file",))
    assert api.get("/v1/datasets/shapes").json()["version"] == 1


def test_a_version_is_deleted_when_no_job_needs_it(api: Api) -> None:
    upload(api, "shapes", npz(40))
    append(api, "shapes", npz(20, seed=1))
    promote = {"metric": "test_accuracy", "evaluate_on": "shapes@1"}
    job = api.submit(dataset="shapes", register_as="m", promote=promote, training={"batch_size": 8}).json()
    problem = assert_problem(api.send("DELETE", "/v1/datasets/shapes/versions/1"), 409)
    assert job["id"] in problem["detail"]
    assert api.send("DELETE", "/v1/datasets/shapes/versions/2").status_code == 204
    assert_problem(api.send("DELETE", "/v1/datasets/shapes/versions/2"), 404)
    api.post(f"/v1/jobs/{job['id']}/cancel")
    assert api.send("DELETE", "/v1/datasets/shapes/versions/1").status_code == 204
    assert_problem(api.get("/v1/datasets/shapes"), 404)


def test_an_evaluation_set_is_frozen_when_the_job_is_accepted(api: Api) -> None:
    upload(api, "shapes", npz(40))
    promote = {"metric": "test_accuracy", "evaluate_on": "shapes"}
    fields = {"dataset": "shapes", "register_as": "m", "promote": promote, "training": {"batch_size": 8}}
    assert api.submit(**fields).json()["spec"]["promote"]["evaluate_on"] == "shapes@1"
    append(api, "shapes", npz(20, seed=1))
    schedule = {"name": "nightly", "cron": "0 2 * * *", "job": api.submit(**fields).json()["spec"]}
    made = api.post("/v1/schedules", json=schedule).json()
    assert made["job"]["promote"]["evaluate_on"] == "shapes@2"
    assert made["skip_if_unchanged"] is False
    gone = {**promote, "evaluate_on": "shapes@7"}
    assert_problem(api.submit(**{**fields, "promote": gone}), 422, ("promote", "evaluate_on"))
    api.post("/v1/datasets", files={"file": ("t.txt", b"one two\n\nthree four\n" * 50)}, data={"name": "tale"})
    wrong = {**promote, "evaluate_on": "tale"}
    assert_problem(api.submit(**{**fields, "promote": wrong}), 422, ("promote", "evaluate_on"))


# -- files and tables -------------------------------------------------------------------------------

PEOPLE = b"name,age\nAda,36\nBea,\n"


def test_a_table_is_uploaded_shown_and_changed(api: Api) -> None:
    answer = upload(api, "people", PEOPLE, "people.csv", kind="table")
    assert answer.status_code == 201, answer.text
    shown = api.get("/v1/datasets/people").json()
    assert shown == answer.json()
    assert (shown["kind"], shown["splits"], shown["split"]) == ("table", {"rows": {"count": 2}}, None)
    name, age = shown["preview"]["columns"]
    assert (name["top"][0], age["nulls"], age["mean"]) == ({"value": "Ada", "count": 1}, 1, 36.0)
    report = shown["preview"]["report"]
    assert (report["missing"], report["with_missing"], report["duplicates"]) == (1, ["age"], {"count": 0, "of": 2})
    assert shown["preview"]["rows"] == [["Ada", 36], ["Bea", None]]
    sample = api.get("/v1/datasets/people/sample")
    assert (sample.text, sample.headers["content-type"]) == ("name,age\nAda,36\nBea,\n", "text/csv; charset=utf-8")
    assert upload(api, "people", PEOPLE, "people.csv").json()["version"] == 1
    assert upload(api, "people", PEOPLE + b"Cyd,7\n", "people.csv").json()["version"] == 2
    assert api.get("/v1/datasets/people@1").json()["preview"] == shown["preview"]
    told = api.post("/v1/datasets/people/append", files={"file": ("more.csv", PEOPLE)})
    assert "cannot be appended to" in assert_problem(told, 422, ("name",))["detail"]


def test_files_are_uploaded_as_a_zip_and_shown(api: Api) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("b/.hidden", "x")
        archive.writestr("a.bin", "xyz")
    shown = upload(api, "corpus", packed.getvalue(), "corpus.zip", kind="files").json()
    assert (shown["kind"], shown["classes"], shown["splits"]) == ("files", [], {"files": {"count": 2}})
    files = [{"path": "a.bin", "size_bytes": 3}, {"path": "b/.hidden", "size_bytes": 1}]
    assert shown["preview"] == {"files": files}
    assert api.get("/v1/datasets/corpus/sample").text == "a.bin\nb/.hidden\n"
    assert api.get("/v1/datasets/digits").json()["preview"] is None
    assert_problem(upload(api, "corpus", PEOPLE, "people.csv"), 422, ("kind",))


def test_sentences_with_tags_are_uploaded_and_refused_by_column(api: Api) -> None:
    good = b"Ada B-PER\nmet O\n\nEU B-ORG\n\n" * 10
    shown = upload(api, "news", good, "news.conll").json()
    assert (shown["kind"], shown["classes"], shown["tags"]) == ("text", [], ["B-ORG", "B-PER", "O"])
    assert shown["splits"]["test"]["tags"].keys() == {"B-ORG", "B-PER", "O"}
    assert upload(api, "shapes", npz(), "shapes.npz").json()["tags"] == []
    assert_problem(upload(api, "news", good + b"Ada B-PER x\n", "news.conll"), 422, ("file", "news.conll", 51, 3))


def test_a_wrong_kind_or_row_is_refused_by_field(api: Api) -> None:
    assert_problem(upload(api, "people", PEOPLE, "people.csv", kind="video"), 422, ("kind",))
    assert_problem(upload(api, "people", PEOPLE, "people.csv", kind="table", format="csv"), 422, ("format",))
    assert_problem(upload(api, "people", PEOPLE + b"1\n", "people.csv", kind="table"), 422, ("file", "people.csv", 4))
    told = assert_problem(upload(api, "people", PEOPLE, "people.csv"), 422, ("file", "people.csv", 1))
    assert "kind table" in told["detail"]
    assert left_behind(api) == []


def test_a_table_is_trained_on_by_the_target_that_the_job_names(api: Api) -> None:
    rows = b"age,job\n" + b"".join(b"%d,%s\n" % (n, (b"cook", b"smith")[n % 2]) for n in range(100))
    upload(api, "people", rows, "people.csv", kind="table")
    told = assert_problem(api.submit(dataset="people", model={"family": "mlp"}), 422, ("model", "target"))
    assert told["errors"][0]["msg"] == "is required: the column to predict. people@1 has age, job"
    made = api.submit(dataset="people", model={"family": "mlp", "target": "job"})
    assert made.status_code == 202, made.text
    spec = api.get(f"/v1/jobs/{made.json()['id']}").json()["spec"]
    assert (spec["model"]["target"], spec["model"]["hidden"], spec["training"]["batch_size"]) == ("job", [64, 64], 32)


@pytest.mark.parametrize(("kind", "noun"), [("table", "a table"), ("files", "plain files")])
def test_a_family_refuses_files_and_tables_at_submission(api: Api, kind: str, noun: str) -> None:
    upload(api, "people", PEOPLE, "people.csv", kind=kind)
    told = assert_problem(api.submit(dataset="people"), 422, ("dataset",))["errors"][0]["msg"]
    assert told == f"holds {noun}; cnn learns from image data"
    promote = {"metric": "test_accuracy", "evaluate_on": "people"}
    refused = api.submit(dataset="digits", register_as="m", promote=promote)
    told = assert_problem(refused, 422, ("promote", "evaluate_on"))["errors"][0]["msg"]
    assert told == f"holds {noun}; cnn is judged on image data"
