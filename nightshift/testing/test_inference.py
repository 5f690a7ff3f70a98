"""Batch inference of a model that a run left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nightshift.names import BATCH_INFER
from nightshift.testing.attempts import outcome
from nightshift.testing.cases import Case
from nightshift.testing.datasets import store_documents
from nightshift.testing.fixtures import Untouched
from nightshift.testing.reasons import fail
from shared.specs.families import FAMILIES
from shared.specs.jobs import job_spec_adapter


@pytest.fixture
def model(untouched: Untouched) -> Path:
    """Return the folder of a trained model."""
    return untouched.model


def spec_of(case: Case, output: str, inference: Mapping[str, Any]) -> dict[str, Any]:
    """Return a job of small chunks."""
    how = {"framework": case.framework, "output": output, "batch_size": 25, **inference}
    body = {"kind": BATCH_INFER, "model_ref": "parent", "dataset": "any", "inference": how}
    return job_spec_adapter.validate_json(json.dumps(body)).model_dump(mode="json")


@pytest.mark.parametrize(
    ("engine", "output"), [("framework", "parquet"), ("framework", "jsonl"), ("onnxruntime", "parquet")]
)
def test_a_killed_inference_leaves_the_bytes_of_one_never_touched(
    case: Case, engine: str, output: str, data_set: Path, model: Path, tmp_path: Path
) -> None:
    """Killed between chunks, with a damaged part and another number of threads, inference writes the same file."""
    if not case.inference:
        pytest.skip("the family has no tasks of batch inference")
    if engine == "onnxruntime" and FAMILIES[case.family].parts.export_onnx is None:
        pytest.skip("the family has no ONNX network")
    documents = [b"the %d cats saw %d dogs\n" % (n % 7, n % 3) * (1 + n % 4) for n in range(120)]
    for number, task in enumerate(case.inference):
        rows = store_documents(tmp_path, documents) if task["task"] == "score" else data_set
        if engine == "onnxruntime" and task["task"] != "predict":
            pytest.skip("ONNX Runtime computes no other task than predict")
        spec = spec_of(case, output, {**task, "engine": engine})
        untouched, killed = tmp_path / f"untouched{number}", tmp_path / f"killed{number}"
        if case.attempt(spec, untouched, rows, model=model) != 0:
            fail(f"the task {task['task']} fails")
        # It asks once before each chunk: killed before the third.
        if case.attempt(spec, killed, rows, model=model, kill_after=3) != -9:
            fail(f"the task {task['task']} does not ask whether to stop before each of its chunks")
        _damage(killed)
        if case.attempt(spec, killed, rows, model=model, threads=2) != 0:
            fail(f"the task {task['task']} cannot be resumed")
        name = f"artifacts/predictions.{output}"
        if (killed / name).read_bytes() != (untouched / name).read_bytes():
            fail(f"the task {task['task']}, killed and resumed, writes another predictions.{output}")
        if outcome(killed)["metrics"] != outcome(untouched)["metrics"]:
            fail(f"the task {task['task']}, killed and resumed, counts other rows")


def _damage(folder: Path) -> None:
    parts = sorted((folder / "checkpoints").iterdir())
    if len(parts) != 2:
        fail(f"inference that was killed before its third chunk left {len(parts)} parts instead of two")
    rows = parts[0] / "rows"
    rows.write_bytes(rows.read_bytes()[:-1] + b"!")
