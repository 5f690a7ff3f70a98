"""What the ranks of a gang share with their agent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from worker.runners.messages import Assignment, Failed

torch = pytest.importorskip("torch")
torch_agent = pytest.importorskip("worker.runners.torch_agent")


def error(message: str) -> Failed:
    return Failed(error_type="job_error", message=message, retryable=False)


def test_the_first_of_several_errors_counts_and_none_cuts_another() -> None:
    shared = torch_agent.Shared(3)
    assert shared.failure is None
    shared.leave(2, error("the longer message of the third rank"))
    shared.leave(1, error("short"))
    assert shared.failure == error("the longer message of the third rank")


def test_an_error_that_is_too_long_is_left_out() -> None:
    shared = torch_agent.Shared(2)
    shared.leave(0, error("x" * 70_000))
    assert shared.failure is None
    shared.leave(1, error("short"))
    assert shared.failure == error("short")


@pytest.mark.parametrize("visible", ["GPU-0", "MIG-0"])
def test_the_agent_asks_cuda_for_nothing_because_its_forks_could_use_no_gpu(
    visible: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def launch(config: Any, entry: Any) -> Any:
        return lambda *_: None

    def count() -> int:
        asked.append("cudaGetDeviceCount")
        return 1

    monkeypatch.setattr(torch.cuda, "_is_compiled", lambda: True)
    monkeypatch.setattr(torch._C, "_cuda_getDeviceCount", count, raising=False)
    monkeypatch.setattr(torch_agent, "elastic_launch", launch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    assignment = Assignment(
        job_id="a" * 16, fence=1, spec={}, job_dir="/", work_dir=str(tmp_path), device="gpu", devices=["GPU-0", "GPU-1"]
    )
    assert torch_agent.run(assignment, lambda: True, asked.append) == 0
    assert asked == []
