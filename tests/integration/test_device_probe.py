"""The real frameworks, tried where no GPU is to be seen: each says why it does not work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("framework", "reasons"),
    [
        ("torch", ("has no CUDA", "No CUDA GPUs are available", "NVIDIA driver")),
        ("tensorflow", ("has no CUDA", "finds no GPU")),
    ],
)
def test_a_framework_that_sees_no_gpu_says_why(framework: str, reasons: tuple[str, ...]) -> None:
    if find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    command = [sys.executable, "-m", "worker.runners.device_probe", framework]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["framework"] == framework
    assert any(reason in said["problem"] for reason in reasons), said
