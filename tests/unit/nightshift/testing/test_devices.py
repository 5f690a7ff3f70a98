"""The device of the checks: chosen once, for this process and those that it starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nightshift.errors import ConfigurationError
from nightshift.testing import devices, reasons
from tests.support.gpus import Host, card


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    found = Host(tmp_path, card("GPU-0"), card("GPU-1"), card("GPU-2"))
    found.enter(monkeypatch)
    for variable in devices.VARIABLES:
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv(variable, "")  # so that what is chosen is forgotten after the test
        monkeypatch.delenv(variable)
    return found


def test_by_default_it_is_the_cpu(host: Host) -> None:
    devices.choose("cpu")
    assert devices.kind() == "cpu"
    assert devices.visible_before() == []
    reasons.require("torch")
    reasons.require_exactness()


def test_a_gpu_is_pinned_for_child_processes_which_choose_no_other(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")
    devices.choose("cuda:1")
    assert (devices.kind(), os.environ["CUDA_VISIBLE_DEVICES"]) == ("gpu", "GPU-2")
    assert devices.visible_before() == ["GPU-1", "GPU-2"]
    devices.choose("cuda:1")  # in a child process
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-2"
    with pytest.raises(pytest.skip.Exception, match="no two runs are equal"):
        reasons.require_exactness()


def test_a_framework_that_does_not_work_there_is_left_out(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    devices.choose("cuda:0")
    monkeypatch.setattr(devices, "unusable", lambda framework: "it has no CUDA")
    with pytest.raises(pytest.skip.Exception, match="torch does not work on this GPU: it has no CUDA"):
        reasons.require("torch")


@pytest.mark.parametrize(("name", "words"), [("cuda:3", "there are 3 GPUs here"), ("tpu", "it is cpu, or a GPU")])
def test_a_device_that_is_not_there_is_refused(host: Host, name: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        devices.choose(name)
