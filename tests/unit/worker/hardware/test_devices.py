"""Which devices a worker takes, with an NVML that says what a test wants."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from nightshift.errors import ConfigurationError
from worker.hardware import devices, frameworks


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetMemoryInfo=lambda index: SimpleNamespace(total=80_000_000_000),
        nvmlDeviceGetName=lambda index: b"NVIDIA Test",
        nvmlDeviceGetUUID=lambda index: f"GPU-{index}",
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError("no driver")

    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(nvmlInit=fail))


def test_auto_takes_every_gpu_and_pins_by_uuid(two_gpus: None) -> None:
    found = devices.choose("auto")
    assert [device.worker_name("host") for device in found] == ["gpu0@host", "gpu1@host"]
    assert [device.environment() for device in found] == [
        {"CUDA_VISIBLE_DEVICES": "GPU-0"},
        {"CUDA_VISIBLE_DEVICES": "GPU-1"},
    ]
    assert (found[0].name, found[0].memory_bytes) == ("NVIDIA Test", 80_000_000_000)


def test_index_picks_one(two_gpus: None) -> None:
    assert [device.uuid for device in devices.choose("gpu", 1)] == ["GPU-1"]
    with pytest.raises(ConfigurationError, match="2 GPU"):
        devices.choose("gpu", 2)


@pytest.mark.parametrize("visible", ["1", "GPU-1"])
def test_what_is_hidden_is_left_alone(two_gpus: None, monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [device.uuid for device in devices.choose("auto")] == ["GPU-1"]


def test_without_a_gpu_the_cpu_works_and_sees_none(no_gpu: None) -> None:
    [device] = devices.choose("auto")
    assert (device.kind, device.worker_name("host")) == ("cpu", "cpu0@host")
    assert device.environment() == {"CUDA_VISIBLE_DEVICES": ""}
    assert devices.choose("cpu", 3)[0].worker_name("host") == "cpu3@host"
    with pytest.raises(ConfigurationError, match="no GPU"):
        devices.choose("gpu")


@pytest.mark.parametrize(
    ("spec", "framework"),
    [
        ({"model": {"framework": "tensorflow"}}, "tensorflow"),
        ({"framework": "tensorflow"}, "tensorflow"),
        ({"inference": {"framework": "tensorflow"}}, "tensorflow"),
        ({}, "torch"),
    ],
)
def test_the_framework_of_a_job(spec: dict[str, object], framework: str) -> None:
    assert frameworks.framework_of(spec) == framework


def test_only_installed_frameworks_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frameworks, "find_spec", lambda name: None if name == "tensorflow" else object())
    assert frameworks.served() == ["torch"]
    assert frameworks.served("torch, tensorflow") == ["torch"]
    assert frameworks.served("tensorflow") == []


def test_a_worker_imports_nothing_of_what_its_forkserver_preloads() -> None:
    told = """if True:
        import sys
        from worker.hardware import frameworks
        preloads = [module for name in frameworks.FRAMEWORKS for module in frameworks.preloads(name)]
        print(*(module for module in preloads if not module.startswith("worker")))
        print(*(module for module in preloads if module.partition(".")[0] in sys.modules))
    """
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    preloaded, imported = (set(line.split()) for line in done.stdout.splitlines())
    assert {"sklearn.metrics", "matplotlib.figure"} <= preloaded
    assert {module for module in imported if not module.startswith("worker")} == set()
