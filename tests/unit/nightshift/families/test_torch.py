"""What the ready-made learners in torch do beside what both frameworks do."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from tests.unit.nightshift.families.small import ROWS, build, pictures, snapshot, train

pytest.importorskip("torch")


def test_buffers_beside_the_weights_are_saved_once_they_changed() -> None:
    learner = build("torch")
    assert not [name for name in learner.state().arrays if name.startswith("buffers/")]
    train(learner, last=3)
    found = {name: array for name, array in learner.state().arrays.items() if name.startswith("buffers/")}
    assert found.keys() == {"buffers/calls", "buffers/last", "buffers/mean_norm.num_batches_tracked"}
    assert found["buffers/calls"] == 3
    assert not any("calls" in name or "num_batches" in name or "mask" in name for name in learner.weights())


def test_weights_load_into_the_module_itself() -> None:
    import torch

    learner = train(build("torch"), last=3)
    module = learner.network()
    tensors = {name: torch.from_numpy(array) for name, array in learner.weights().items()}
    missing, unexpected = module.load_state_dict(tensors, strict=False)
    assert set(missing) <= {"calls", "mask", "mean_norm.num_batches_tracked"}
    assert unexpected == []


def test_a_tied_weight_is_trained_and_saved_once() -> None:
    learner = train(build("torch", "Tied"), last=3)
    assert "2.weight" in learner.weights()
    assert "3.weight" not in learner.weights()
    other = build("torch", "Tied")
    other.load_state(learner.state())
    assert snapshot(train(other, 3)) == snapshot(train(learner, 3))


def test_another_kind_of_data_needs_a_network_and_a_loss() -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(ROWS, 3)).astype(np.float32)
    rows = {"x": x, "y": x @ np.float32([1, -2, 3])}
    learner = build("torch", "Line", augment=[], learning_rate=0.1, warmup_steps=0, lr_schedule="constant")
    learner.set_data(rows)
    for step in range(200):
        learner.train_step(np.arange(ROWS), step)
    assert learner.read_metrics().keys() == {"loss", "error", "learning_rate"}
    found: dict[str, Any] = learner.evaluate(rows, 16)
    errors = learner.predict(x, 7)[:, 0] - rows["y"]
    assert found == pytest.approx({"loss": np.square(errors).mean(), "error": np.abs(errors).mean()}, rel=1e-4)
    assert found["error"] < 0.2


def test_a_network_that_is_no_module_is_named() -> None:
    with pytest.raises(TypeError, match=r"network\(\) must return a torch.nn.Module; it returned function"):
        build("torch", "NotAModule")


def test_convolutions_run_with_channels_last() -> None:
    import torch

    learner = build("torch")
    seen = []
    learner.module.stem.register_forward_hook(lambda *args: seen.append(args[1][0]))
    train(learner, last=1)
    learner.predict(pictures()["x"], ROWS)
    for x in seen:
        assert x.is_contiguous(memory_format=torch.channels_last)
        assert (x >= 0).all()
        assert (x <= 1).all()
    assert learner.module.stem.weight.is_contiguous(memory_format=torch.channels_last)


def test_bfloat16_is_used_for_products_and_not_for_predictions() -> None:
    import torch

    learner = build("torch", precision="bfloat16")
    seen = []
    learner.module.stem.register_forward_hook(lambda *args: seen.append(args[2].dtype))
    train(learner, last=1).predict(pictures()["x"], ROWS)
    assert seen == [torch.bfloat16, torch.float32]


def test_the_public_package_imports_no_framework() -> None:
    code = "import sys, nightshift.families; print({'torch', 'tensorflow', 'numpy'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"
