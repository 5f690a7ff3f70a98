"""The API beside a bucket: what it takes is read by workers that share no folder with it, and what they leave it hands
out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine

from shared.datasets import gc
from shared.db.engine import make_engine
from shared.storage import storage_of
from tests.support.api import Api, assert_problem, running_api
from tests.support.lone_worker import LoneWorker
from tests.support.objects import ABucket, ObjectStore
from tests.support.stack import eventually

SMALL = {"family": "cnn", "image_size": [8, 8], "filters": [4], "pool": [True], "kernel_size": 3, "dense": [8]}


@pytest.fixture
def bucket(objects: ObjectStore) -> ABucket:
    return objects.bucket()


@pytest.fixture
def api(sqlite_url: str, tmp_path: Path, bucket: ABucket) -> Iterator[Api]:
    engine: Engine = make_engine(sqlite_url)
    with running_api(engine, tmp_path / "api", **bucket.values()) as api:
        yield api
    engine.dispose()


def upload(api: Api, name: str = "pets") -> Any:
    rows = np.random.default_rng(0)
    packed = BytesIO()
    np.savez(packed, x=rows.integers(0, 255, (120, 8, 8)).astype(np.uint8), y=np.arange(120) % 3)
    return api.post("/v1/datasets", data={"name": name}, files={"file": ("pets.npz", packed.getvalue())})


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_data_set_of_the_api_a_model_of_one_worker_and_rows_of_another(
    api: Api, bucket: ABucket, sqlite_url: str, tmp_path: Path
) -> None:
    assert upload(api).status_code == 201
    settings = {**bucket.values(), "torch_threads": 1}
    ids = []
    for name, body in (
        ("a", {"kind": "train", "model": SMALL, "training": {"max_steps": 6, "batch_size": 16}}),
        ("b", {"kind": "batch_infer"}),
    ):
        body |= {"model_ref": f"job:{ids[0]}"} if ids else {}
        made = api.post("/v1/jobs", json={**body, "dataset": "pets"})
        assert made.status_code == 202, made.text
        ids.append(made.json()["id"])
        worker = LoneWorker(name, sqlite_url, tmp_path / name, **settings)
        try:
            worker.start()  # a cold one: it imports its framework first
            eventually(f"the {body['kind']} has ended", worker.done, cap=240)
        finally:
            worker.close()
        assert api.get(f"/v1/jobs/{ids[-1]}").json()["state"] == "succeeded", api.get(f"/v1/jobs/{ids[-1]}").text
    rows = api.get(f"/v1/jobs/{ids[1]}/artifacts/predictions.parquet")
    assert pq.read_metadata(BytesIO(rows.content)).num_rows == 120
    left = {path.parent.name for path in (tmp_path / "b" / "storage-cache").rglob("model.safetensors")}
    assert left == {"model"}, "the model was brought to the second worker"


def test_a_store_that_is_away_is_said_to_be_so(api: Api, bucket: ABucket, objects: ObjectStore) -> None:
    assert upload(api, "before").status_code == 201
    shutil.rmtree(api.settings.storage_root)
    objects.stop()
    try:
        problem = assert_problem(upload(api), 503)
        assert "storage" in problem["detail"]
        assert "127.0.0.1" not in problem["detail"]
        assert_problem(api.get("/v1/datasets/before/sample"), 503)
    finally:
        objects.start()
    assert api.get("/v1/datasets/pets").status_code == 404
    assert upload(api).status_code == 201
    assert api.get("/v1/datasets/before/sample").status_code == 200


def test_a_deleted_version_leaves_the_bucket_when_it_is_pruned(api: Api, bucket: ABucket) -> None:
    assert upload(api).status_code == 201
    assert bucket.keys("datasets/")
    assert api.send("DELETE", "/v1/datasets/pets/versions/1").status_code == 204
    assert gc.clear(api.engine, storage_of(api.settings), -1) == 1
    assert bucket.keys("datasets/") == []
