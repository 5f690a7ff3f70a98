"""The engine of batch inference: chosen by what it computes and how fast, and said in the log."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightshift.families.learner import Array
from shared.errors import EngineDisagrees, UnsupportedJob
from shared.job_files.artifact_files import ONNX
from shared.specs.jobs import Inference
from worker.families.mlp.family import MlpModel
from worker.families.mlp.weights import initial
from worker.kinds import inference_engine
from worker.kinds.base_model import TrainedModel
from worker.kinds.inference_engine import InferenceEngine, measured_difference
from worker.onnx_models.export import exported
from worker.onnx_models.runtime import OnnxNetwork

FACTS = {
    "classes": ["a", "b", "c"],
    "preprocessing": {"task": "classes", "columns": [{"kind": "numbers", "name": "height"}]},
}
MODEL = MlpModel.model_validate({"target": "kind", "hidden": [4]})
WEIGHTS = initial(MODEL, FACTS, 1)
OTHERS = initial(MODEL, FACTS, 2)
INPUTS = np.linspace(-2, 2, 23, dtype=np.float32)[:, None]
BATCH = 4


@dataclass
class Framework:
    """A learner in plain numpy, which records the rows of each call."""

    calls: list[int] = field(default_factory=list)

    def predict(self, inputs: Array, batch_size: int) -> Array:
        self.calls.append(len(inputs))
        hidden = np.maximum(inputs @ WEIGHTS["dense0.weight"].T + WEIGHTS["dense0.bias"], 0)
        logits = hidden @ WEIGHTS["output.weight"].T + WEIGHTS["output.bias"]
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        found: Array = (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)
        return found

    def generate(self) -> str:
        return "of the learner"


@dataclass
class Opened:
    engine: InferenceEngine
    framework: Framework
    lines: list[str]

    def predict(self, inputs: Array = INPUTS) -> Array:
        found: Array = self.engine.learner.predict(inputs, BATCH)
        return found


Open = Callable[..., Opened]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Return an engine for the model; `speed` is how fast ONNX Runtime is, in the framework's."""

    def make(
        engine: str = "auto", *, speed: float = 2.0, device: str = "cpu", settled: str | None = None,
        family: str = "mlp", content: bytes | None = None, task: str = "predict",
    ) -> Opened:  # fmt: skip
        if content is not None:
            (tmp_path / ONNX).write_bytes(content)
        model: Any = MODEL if family == "mlp" else MODEL.model_copy(update={"family": family})
        parent = TrainedModel(tmp_path, model, FACTS)
        parent.__dict__["weights"] = WEIGHTS
        monkeypatch.setattr(inference_engine, "speed_of", lambda ours, theirs: speed)
        framework, lines = Framework(), list[str]()
        how = Inference.model_validate({"engine": engine, "task": task})
        chosen = inference_engine.choose(framework, parent, how, device, 1, settled, lines.append)  # type: ignore[arg-type]
        return Opened(chosen, framework, lines)

    return make


def plain() -> Array:
    return Framework().predict(INPUTS, BATCH)


@pytest.mark.parametrize("rows", [BATCH, len(INPUTS)])
def test_engines_are_measured_one_after_the_other(opened: Open, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Threads of one that has just computed look for work for a while, and slow down the other."""
    order = list[str]()
    for engine in (Framework, OnnxNetwork):

        def predict(self: Any, inputs: Array, batch_size: int, plain: Any = engine.predict) -> Array:
            order.append(type(self).__name__)
            found: Array = plain(self, inputs, batch_size)
            return found

        monkeypatch.setattr(engine, "predict", predict)
    opened().predict(INPUTS[:rows])
    measured = order[:-1]  # the last one computes the rows
    assert len(measured) >= 4
    assert measured == sorted(measured)


@pytest.mark.parametrize("engine", ["auto", "onnxruntime"])
def test_onnx_runtime_computes_where_it_agrees(opened: Open, engine: str) -> None:
    one = opened(engine)
    np.testing.assert_allclose(one.predict(), plain(), atol=1e-6)
    assert one.engine.name == "onnxruntime"
    assert sum(one.framework.calls) <= inference_engine.BATCHES * BATCH, "it computes no more than a few batches twice"
    (line,) = one.lines
    assert line.startswith("computes with ONNX Runtime")
    one.framework.calls.clear()
    one.predict()
    assert not one.framework.calls
    assert len(one.lines) == 1


def test_a_slower_onnx_runtime_is_not_used_unless_it_is_asked_for(opened: Open) -> None:
    slow = opened(speed=0.9)
    np.testing.assert_array_equal(slow.predict(), plain())
    assert (slow.engine.name, len(slow.lines)) == ("framework", 1)
    assert "0.9" in slow.lines[0]
    asked = opened("onnxruntime", speed=0.9)
    asked.predict()
    assert asked.engine.name == "onnxruntime"


def test_a_network_that_disagrees_is_not_used(opened: Open) -> None:
    wrong = exported(MODEL, OTHERS, FACTS)
    one = opened(content=wrong)
    np.testing.assert_array_equal(one.predict(), plain())
    assert one.engine.name == "framework"
    (line,) = one.lines
    assert "differ" in line
    with pytest.raises(EngineDisagrees, match="use auto or framework"):
        opened("onnxruntime", content=wrong).predict()


@pytest.mark.parametrize("content", [b"no network", b""])
def test_a_file_that_cannot_be_loaded_is_not_used(opened: Open, content: bytes) -> None:
    one = opened(content=content)
    np.testing.assert_array_equal(one.predict(), plain())
    (line,) = one.lines
    assert "cannot" in line
    with pytest.raises(UnsupportedJob, match=r"inference\.engine"):
        opened("onnxruntime", content=content)


@pytest.mark.parametrize("package", ["onnxruntime", "onnx"])
def test_a_missing_package_is_said(opened: Open, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    one = opened()
    np.testing.assert_array_equal(one.predict(), plain())
    (line,) = one.lines
    assert f"{package} is not installed" in line
    with pytest.raises(UnsupportedJob, match=f"{package} is not installed"):
        opened("onnxruntime")


def test_the_file_beside_the_weights_needs_no_onnx_package(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    content = exported(MODEL, WEIGHTS, FACTS)
    monkeypatch.setitem(sys.modules, "onnx", None)
    one = opened(content=content)
    one.predict()
    assert one.engine.name == "onnxruntime"


@pytest.mark.parametrize(
    ("how", "why"), [({"device": "gpu"}, "CPU"), ({"family": "own"}, "the family own has no ONNX")]
)
def test_where_there_is_no_network_the_learner_itself_is_used(
    opened: Open, how: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "family" in how:
        monkeypatch.setattr("worker.families.optional_part", lambda family, part: None)
    one = opened(**how)
    assert one.engine.learner is one.framework
    (line,) = one.lines
    assert why in line
    with pytest.raises(UnsupportedJob, match=why):
        opened("onnxruntime", **how)


def test_the_framework_that_is_asked_for_computes_without_a_word(opened: Open) -> None:
    one = opened("framework")
    assert one.engine.learner is one.framework
    assert (one.engine.name, one.lines) == ("framework", [])


def test_other_tasks_than_predict_are_computed_by_the_framework(opened: Open) -> None:
    one = opened(task="score")
    assert one.engine.learner is one.framework
    assert (one.engine.name, one.lines) == ("framework", [])


def test_other_methods_are_those_of_the_learner(opened: Open) -> None:
    assert opened().engine.learner.generate() == "of the learner"  # type: ignore[attr-defined]


def test_a_resumed_job_keeps_its_engine_and_measures_nothing(opened: Open) -> None:
    framework = opened(settled="framework")
    assert framework.engine.learner is framework.framework
    onnx = opened(settled="onnxruntime", speed=0.1)
    assert onnx.engine.name == "onnxruntime"
    onnx.predict()
    assert not onnx.framework.calls


def test_the_bytes_do_not_depend_on_when_the_engine_was_chosen(opened: Open) -> None:
    np.testing.assert_array_equal(opened().predict(), opened(settled="onnxruntime").predict())


def test_without_rows_nothing_is_decided(opened: Open) -> None:
    one = opened()
    assert one.predict(INPUTS[:0]).shape == (0, 3)
    assert (one.engine.name, one.lines) == (None, [])
    one.predict(INPUTS[:1])
    assert one.engine.name == "onnxruntime"


@pytest.mark.parametrize(
    ("found", "wanted", "difference"),
    [
        ([0.5, 1000.1], [0.5, 1000.0], 1e-4),
        ([0.50005], [0.5], 5e-5),
        ([np.nan], [np.nan], 0.0),
        ([np.nan], [0.5], np.inf),
        ([0.5], [np.inf], np.inf),
        ([0.5, 0.5], [0.5], np.inf),
    ],
)
def test_the_difference_is_relative_to_numbers_above_one(
    found: list[float], wanted: list[float], difference: float
) -> None:
    assert measured_difference(np.array(found), np.array(wanted)) == pytest.approx(difference, rel=1e-3)
