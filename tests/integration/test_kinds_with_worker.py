"""All kinds through a real worker with both frameworks: each job uses the model of the one before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from shared.db.engine import read, write
from shared.jobs import transitions
from shared.jobs.transitions import NewJob
from shared.models import package
from shared.models.registry import show_model
from shared.specs.jobs import job_spec_adapter
from tests.support.factories import OWNER
from tests.support.redis import running_redis
from tests.support.stack import Stack, open_stack

pytest.importorskip("torch")
pytest.importorskip("tensorflow")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SMALL = {"image_size": [8, 8], "filters": [4], "pool": [True], "kernel_size": 3, "dense": [8]}
TRAINING = {"epochs": 1, "max_steps": 12, "batch_size": 32}


@pytest.fixture
def stack(tmp_path: Path, sqlite_url: str) -> Iterator[Stack]:
    settings = {"kinds": "unpainted", "frameworks": "torch,tensorflow", "torch_threads": 1, "preload": "true"}
    with running_redis(tmp_path) as redis, open_stack(tmp_path, sqlite_url, redis.url, **settings) as stack:
        yield stack


def run(stack: Stack, body: dict[str, Any]) -> tuple[Any, dict[str, Path]]:
    """The finished job, and where its artifacts lie."""
    with write(stack.engine) as conn:
        job_id = transitions.submit(conn, NewJob(OWNER, job_spec_adapter.validate_python(body))).job_id
    stack.ring(job_id)
    job = stack.finished(job_id)
    assert job.state == "succeeded", (job.error, stack.logs(job_id))
    storage = stack.folder / "data" / "storage"
    return job, {row.path: storage / row.stored_as for row in stack.artifacts(job_id)}


def test_trained_in_one_framework_tuned_in_the_other_predicted_and_evaluated(stack: Stack) -> None:
    stack.worker()
    model = {"family": "cnn", "framework": "tensorflow", **SMALL}
    named = {"dataset": "digits", "register_as": "small"}
    trained, first = run(stack, {"kind": "train", "model": model, "training": TRAINING, **named})
    tuned, files = run(
        stack, {"kind": "finetune", "model_ref": "small@1", "framework": "torch", "training": TRAINING, **named}
    )
    assert any(path.startswith("tensorboard/events.out.tfevents.") for path in files)
    for made in (first, files):
        assert made["summary.txt"].read_text().startswith("cnn mnist-3conv-tuned (")
        assert json.loads(made["model/summary.json"].read_text())["parameters"] > 0
    with read(stack.engine) as conn:
        versions = show_model(conn, "small")["versions"]
    assert [(v["version"], v["framework"], v["parent"]) for v in versions] == [
        (2, "torch", "small@1"),
        (1, "tensorflow", None),
    ]
    inference = {"framework": "tensorflow", "batch_size": 100}
    body = {"kind": "batch_infer", "model_ref": f"job:{tuned.id}", "dataset": "digits", "inference": inference}
    predicted, left = run(stack, body)
    assert predicted.family == "cnn"
    assert pq.read_metadata(left["predictions.parquet"]).num_rows == predicted.result["metrics"]["rows"] == 1797
    states = {row.state for row in stack.checkpoints(predicted.id)}
    assert (len(stack.checkpoints(predicted.id)), states) == (18, {"ready"}), "no part is superseded by another"
    assert sum(message.startswith("computes with") for _, message in stack.logs(predicted.id)) == 1
    with read(stack.engine) as conn:
        number, row = package.onnx_of(conn, "small", "2")
    assert (number, stack.root / row["stored_as"]) == (2, files["model/model.onnx"])
    asked, with_onnx = run(stack, {**body, "inference": {**inference, "engine": "onnxruntime"}})
    assert any(message.startswith("computes with ONNX Runtime") for _, message in stack.logs(asked.id))
    one, other = (
        np.stack(pq.read_table(found["predictions.parquet"])["probabilities"].to_numpy()) for found in (left, with_onnx)
    )
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)
    evaluated, left = run(stack, {"kind": "evaluate", "model_ref": f"job:{trained.id}", "dataset": "digits"})
    wanted = trained.result["metrics"]
    assert evaluated.result["metrics"]["test_accuracy"] == pytest.approx(wanted["test_accuracy"], abs=1e-3)
    assert {"evaluation.json", "roc.png"} <= left.keys()
