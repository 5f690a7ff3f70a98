"""A job run by hand on a device: the GPU is pinned before a framework is imported."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.factories import make_spec
from tests.support.gpus import Host, card
from worker import kinds, run_job
from worker.runners.messages import Result


@pytest.fixture
def spec(tmp_path: Path) -> str:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(make_spec().model_dump(mode="json")))
    return str(path)


@pytest.fixture
def assigned(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the assignments that were run, with what the process saw of the GPUs."""
    found: list[Any] = []

    def run(assignment: Any, reporter: Any) -> Result:
        found.append((assignment.device, os.environ.get("CUDA_VISIBLE_DEVICES")))
        return Result(metrics={})

    monkeypatch.setattr(kinds, "run", run)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    return found


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [([], ("cpu", "")), (["--device", "cuda:1"], ("gpu", "GPU-1")), (["--device", "gpu"], ("gpu", "GPU-0"))],
)
def test_a_job_runs_on_the_device_that_is_named(
    arguments: list[str],
    wanted: tuple[str, str],
    spec: str,
    assigned: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")  # put back after the test
    Host(tmp_path, card("GPU-0"), card("GPU-1")).enter(monkeypatch)
    assert run_job.main([spec, str(tmp_path / "job"), *arguments]) == 0
    assert assigned == [wanted]


def test_without_that_gpu_nothing_is_run(
    spec: str, assigned: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Host(tmp_path, error=12).enter(monkeypatch)
    with pytest.raises(SystemExit):
        run_job.main([spec, str(tmp_path / "job"), "--device", "cuda:0"])
    assert "there is no GPU here: the NVIDIA driver is not installed" in capsys.readouterr().err
    assert assigned == []
