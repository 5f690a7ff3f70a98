"""What a job leaves on the GPU: nothing, however it ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nightshift.testing import attempts, devices
from nightshift.testing.cases import Case
from nightshift.testing.processes import Process
from nightshift.testing.reasons import require
from tests.support.device_memory import used, wait_until_freed
from tests.support.training import CASES, SERVER

#: Cycles of a GPU's clock for which a kernel runs: minutes.
ENDLESS = 10**12
#: How long a process may take to begin with its kernel (seconds).
BEGIN_SECONDS = 120.0
SHORT = {"max_steps": 8}


def test_memory_is_what_it_was_after_each_job(case: Case, data_sets: Callable[[Case], Path], tmp_path: Path) -> None:
    before = used()
    assert case.attempt(case.spec(**SHORT), tmp_path, data_sets(case)) == 0
    wait_until_freed(before)


def test_out_of_memory_is_told_as_such_and_the_next_job_runs(data_sets: Callable[[Case], Path], tmp_path: Path) -> None:
    before, said = used(), tmp_path / "said.txt"
    _require_torch()
    assert attempts.run(SERVER, _take_too_much, (said, devices.kind())) == 0
    assert said.read_text() == ("device_out_of_memory" if devices.kind() == "gpu" else "out_of_memory")
    wait_until_freed(before)
    _train(data_sets, tmp_path / "next")


def test_a_process_killed_within_a_kernel_leaves_the_gpu_to_the_next(
    data_sets: Callable[[Case], Path], tmp_path: Path
) -> None:
    before, begun = used(), tmp_path / "begun"
    _require_torch()
    process = Process(SERVER, target=_compute_without_end, args=((begun, devices.kind()),))
    process.start()
    end = time.monotonic() + BEGIN_SECONDS
    while not begun.exists():
        assert process.exitcode is None, "it ended by itself"
        assert time.monotonic() < end, "it does not begin"
        time.sleep(0.05)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    wait_until_freed(before)
    _train(data_sets, tmp_path / "next")


def _require_torch() -> None:
    pytest.importorskip("torch")
    require("torch")


def _train(data_sets: Callable[[Case], Path], folder: Path) -> None:
    case = CASES["mlp-torch"]
    assert case.attempt(case.spec(**SHORT), folder, data_sets(case)) == 0


def _take_too_much(order: tuple[Path, str]) -> None:
    """Ask for a petabyte in this process, and write how a runner calls the error."""
    import torch

    from worker.runners.failures import failure

    path, device = order
    try:
        torch.empty(1 << 50, dtype=torch.uint8, device=_torch_device(device))
    except BaseException as error:
        path.write_text(failure(error, device=device, framework="torch").error_type)


def _compute_without_end(order: tuple[Path, str]) -> None:
    """Begin a computation that takes minutes, tell it by a file, and wait for its end."""
    import torch

    path, device = order
    torch.ones(1 << 20, device=_torch_device(device)).sum().item()
    if device == "gpu":
        torch.cuda._sleep(ENDLESS)
    path.touch()
    while device == "cpu":
        time.sleep(1)
    torch.cuda.synchronize()


def _torch_device(device: str) -> str:
    return "cuda" if device == "gpu" else "cpu"
