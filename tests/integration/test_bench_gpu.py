"""The benchmark of a GPU, tried on a CPU with tiny models: every figure is computed, none of them means anything."""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import Namespace
from math import isfinite

import pytest

from benchmarks import bench_gpu
from benchmarks.gpu.workloads import BATCH, workload
from benchmarks.sides import can_run
from tests.support.paths import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.bench_gpu", *arguments]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_without_a_gpu_it_says_so_and_is_no_failure() -> None:
    done = bench()
    assert done.returncode == 77
    assert "nothing was measured on a GPU: --device gpu: there is no GPU here" in done.stderr


@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
def test_it_measures_each_family_in_a_process_of_its_own(framework: str) -> None:
    pytest.importorskip(framework)
    small = ("--device", "cpu", "--small", "--seconds", "0.01")
    done = bench(*small, "--families", "mlp", "--frameworks", framework)
    assert done.returncode == 0, done.stderr
    assert f"\nmlp, {framework}\n  ours  " in done.stdout
    for figure in ("of the best other", "bound by launches", "predicting, ours", "first step"):
        assert figure in done.stdout


@pytest.mark.parametrize("family", BATCH)
def test_every_family_has_figures_in_torch(family: str) -> None:
    pytest.importorskip("torch")
    plain_torch = pytest.importorskip("benchmarks.gpu.plain_torch")
    found = bench_gpu.measured(family, "torch", Namespace(device="cpu", small=True, seconds=0.01))
    wide = can_run(plain_torch.step_of(workload(family, "torch", small=True), "cpu", bfloat16=True))
    rivals = ["plain torch, float32", *(["plain torch, bfloat16"] if wide else [])]
    assert list(found["training"]) == ["ours", *rivals]
    figures = [*found["training"].values(), *found["prediction"].values(), *found["ratios"].values()]
    assert all(isfinite(one) and one > 0 for one in figures), found
    assert bench_gpu.shown(found).count("\n") >= 8


def test_a_family_for_which_there_is_no_time_is_named() -> None:
    assert "the time is over" in bench_gpu.table_of("mlp", "torch", end=0.0)
