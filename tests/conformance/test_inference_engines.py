"""Whole jobs of batch inference with ONNX Runtime beside the same jobs with the framework that trained the model."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightshift.testing.attempts import THREADS, NullReporter, attempt
from shared.errors import EngineDisagrees
from shared.job_files.artifact_files import ONNX
from shared.specs.families import FAMILIES
from tests.support.kinds import Trained, infer, table
from tests.support.training import CASES, SERVER
from worker import kinds
from worker.kinds import inference_engine
from worker.kinds.base_model import read_model
from worker.onnx_models.export import exported
from worker.run_job import make_assignment

pytest.importorskip("torch")
pytest.importorskip("tensorflow")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Parents = Callable[[str], Trained]
EXPORTED = [name for name in CASES if FAMILIES[CASES[name].family].parts.export_onnx is not None]
PREDICTED = [name for name in EXPORTED if "predict" in FAMILIES[CASES[name].family].tasks]


def run(parent: Trained, folder: Path, engine: str, model: Path | None = None) -> list[str]:
    """Run a job in this process and return the lines of its log."""
    spec = infer(parent.case.framework, engine=engine, batch_size=50, **parent.case.inference[0])
    reporter = NullReporter()
    kinds.run(make_assignment(spec, folder, parent.data_set, THREADS, model or parent.model), reporter)  # type: ignore[arg-type]
    return [frame[1] for frame in reporter.frames if isinstance(frame, tuple)]


def engines(folder: Path) -> set[str | None]:
    parts = (folder / "checkpoints").glob("[0-9]*/part.json")
    return {json.loads(part.read_text())["engine"] for part in parts}


def numbers(folder: Path) -> np.ndarray[Any, Any]:
    column = table(folder)["probabilities"].to_pylist()
    return np.concatenate([np.asarray(row, np.float64) for row in column])


def copied(parent: Trained, folder: Path) -> Path:
    """The model's folder, whose ONNX file a test may change."""
    return Path(shutil.copytree(parent.model, folder / "model"))


@pytest.mark.parametrize("name", PREDICTED)
def test_both_engines_predict_the_same(name: str, parents: Parents, tmp_path: Path) -> None:
    parent = parents(name)
    lines = run(parent, tmp_path / "onnx", "onnxruntime")
    run(parent, tmp_path / "framework", "framework")
    assert (engines(tmp_path / "onnx"), engines(tmp_path / "framework")) == ({"onnxruntime"}, {"framework"})
    assert sum("computes with ONNX Runtime" in line for line in lines) == 1
    np.testing.assert_allclose(numbers(tmp_path / "onnx"), numbers(tmp_path / "framework"), rtol=0, atol=1e-4)
    one, other = table(tmp_path / "onnx"), table(tmp_path / "framework")
    assert one.schema == other.schema
    assert one["id"].to_pylist() == other["id"].to_pylist()


@pytest.mark.parametrize("name", EXPORTED)
def test_the_file_of_a_training_is_what_inference_writes_from_the_weights(name: str, parents: Parents) -> None:
    parent = parents(name)
    assignment: Any = make_assignment({}, parent.folder, parent.data_set, THREADS, parent.model)
    model = read_model(assignment)
    assert (parent.model / ONNX).read_bytes() == exported(model.model, model.weights, model.facts)


def test_a_model_without_the_file_is_computed_from_its_weights(parents: Parents, tmp_path: Path) -> None:
    parent = parents("cnn-torch")
    model = copied(parent, tmp_path)
    (model / ONNX).unlink()
    run(parent, tmp_path / "before", "onnxruntime", model)
    run(parent, tmp_path / "now", "onnxruntime")
    assert engines(tmp_path / "before") == {"onnxruntime"}
    np.testing.assert_array_equal(numbers(tmp_path / "before"), numbers(tmp_path / "now"))


@pytest.mark.parametrize("name", ["cnn-torch", "mlp-tensorflow"])
def test_a_network_of_other_weights_is_noticed(name: str, parents: Parents, tmp_path: Path) -> None:
    parent = parents(name)
    model = copied(parent, tmp_path)
    read = read_model(make_assignment({}, tmp_path, parent.data_set, THREADS, model))
    bias = read.weights["output.bias"]
    wrong = {**read.weights, "output.bias": bias + np.arange(len(bias), dtype=np.float32)}
    (model / ONNX).write_bytes(exported(read.model, wrong, read.facts))
    lines = run(parent, tmp_path / "auto", "auto", model)
    run(parent, tmp_path / "framework", "framework")
    (line,) = [line for line in lines if line.startswith("computes with")]
    assert f"computes with {parent.case.framework}: the outputs of ONNX Runtime" in line
    assert engines(tmp_path / "auto") == {"framework"}
    np.testing.assert_array_equal(numbers(tmp_path / "auto"), numbers(tmp_path / "framework"))
    with pytest.raises(EngineDisagrees):
        run(parent, tmp_path / "asked", "onnxruntime", model)
    assert not engines(tmp_path / "asked")


@pytest.mark.parametrize("name", ["gan-torch", "gru_lm-torch"])
def test_other_tasks_than_predict_are_computed_by_the_framework(name: str, parents: Parents, tmp_path: Path) -> None:
    parent = parents(name)
    assert (parent.model / ONNX).exists()
    run(parent, tmp_path, "auto")
    assert engines(tmp_path) == {"framework"}


def test_a_resumed_job_keeps_the_engine_of_its_rows(
    parents: Parents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed with ONNX Runtime, taken over where it is slower, and then where it is not installed."""
    parent = parents("cnn-torch")
    spec = infer("torch", engine="auto", batch_size=50)
    killed = tmp_path / "killed"
    asked = infer("torch", engine="onnxruntime", batch_size=50)
    assert attempt(asked, killed, parent.data_set, server=SERVER, model=parent.model, kill_after=3) == -9
    monkeypatch.setattr(inference_engine, "speed_of", lambda ours, theirs: 0.1)
    shutil.copytree(killed, tmp_path / "elsewhere")
    kinds.run(make_assignment(spec, killed, parent.data_set, THREADS, parent.model), NullReporter())  # type: ignore[arg-type]
    assert engines(killed) == {"onnxruntime"}
    run(parent, tmp_path / "whole", "onnxruntime")
    left = [(folder / "artifacts" / "predictions.parquet").read_bytes() for folder in (killed, tmp_path / "whole")]
    assert left[0] == left[1]

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    reporter, elsewhere = NullReporter(), tmp_path / "elsewhere"
    kinds.run(make_assignment(spec, elsewhere, parent.data_set, THREADS, parent.model), reporter)  # type: ignore[arg-type]
    said = [frame[1] for frame in reporter.frames if isinstance(frame, tuple)]
    assert any("2 chunks that onnxruntime computed before are computed again" in line for line in said)
    run(parent, tmp_path / "framework", "framework")
    np.testing.assert_array_equal(numbers(elsewhere), numbers(tmp_path / "framework"))
