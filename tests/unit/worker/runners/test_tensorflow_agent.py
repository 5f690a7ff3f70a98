"""What the runner of a gang in TensorFlow shows of the gang's devices."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from shared.fleet.gpus import VISIBLE
from worker.runners.messages import Assignment

tf = pytest.importorskip("tensorflow")
tensorflow_agent = pytest.importorskip("worker.runners.tensorflow_agent")


def assignment(device: str, devices: list[str]) -> Assignment:
    body = {"job_id": "a" * 16, "fence": 1, "spec": {"kind": "run"}, "job_dir": "/", "work_dir": "/"}
    return Assignment.model_validate_json(json.dumps({**body, "device": device, "devices": devices}))


def test_the_process_sees_all_gpus_of_the_gang_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "GPU-1")
    seen: list[str] = []

    def lead() -> bool:
        seen.append(os.environ[VISIBLE])
        return True

    assert tensorflow_agent.run(assignment("gpu", ["GPU-1", "GPU-0"]), lead, seen.append) == 0
    assert seen == ["GPU-1,GPU-0"]


def test_a_cpu_that_cannot_be_divided_is_an_error_of_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: Any) -> None:
        raise RuntimeError("TensorFlow has started")

    monkeypatch.setattr(tf.config, "set_logical_device_configuration", started)
    said: list[Any] = []
    assert tensorflow_agent.run(assignment("cpu", ["a", "b"]), lambda: pytest.fail("no gang"), said.append) == 0
    assert "TensorFlow has started" in said[0].message
