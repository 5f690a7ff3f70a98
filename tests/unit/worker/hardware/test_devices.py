"""Which devices a worker takes, with an NVML that says what a test wants."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from nightshift.errors import ConfigurationError
from shared import events
from tests.support.gpus import Host, card
from worker.hardware import devices, frameworks


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host(tmp_path, card("GPU-0"), card("GPU-1"))
    host.enter(monkeypatch)
    return host


@pytest.fixture
def no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Host(tmp_path, error=12).enter(monkeypatch)


def test_auto_takes_every_gpu_and_pins_by_uuid(two_gpus: Host) -> None:
    found = devices.choose("auto")
    assert [device.worker_name("host") for device in found] == ["gpu0@host", "gpu1@host"]
    assert [device.environment() for device in found] == [
        {"CUDA_VISIBLE_DEVICES": "GPU-0"},
        {"CUDA_VISIBLE_DEVICES": "GPU-1"},
    ]
    assert (found[0].name, found[0].memory_bytes) == ("NVIDIA Test", 80_000_000_000)


def test_slots_of_the_cpu_share_its_memory() -> None:
    [whole] = devices.choose("cpu")
    slots = devices.choose("cpu", slots=2)
    assert [slot.worker_name("here") for slot in slots] == ["cpu0@here", "cpu1@here"]
    assert {slot.memory_bytes for slot in slots} == {(whole.memory_bytes or 0) // 2}
    assert devices.choose("cpu", 1, 2) == slots[1:]


@pytest.mark.parametrize(("device", "slots"), [("cpu", 0), ("gpu", 2), ("auto", 2)])
def test_slots_are_of_the_cpu(device: Literal["auto", "cpu", "gpu"], slots: int) -> None:
    with pytest.raises(ConfigurationError, match="--slots"):
        devices.choose(device, slots=slots)


def test_index_picks_one(two_gpus: Host) -> None:
    assert [device.uuid for device in devices.choose("gpu", 1)] == ["GPU-1"]
    with pytest.raises(ConfigurationError, match="the GPUs that can be used here are 0, 1"):
        devices.choose("gpu", 2)


def test_the_number_of_a_worker_is_that_of_its_card_also_in_a_part_of_them(
    two_gpus: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert [(device.index, device.uuid) for device in devices.choose("auto")] == [(1, "GPU-1")]
    assert devices.choose("gpu", 1) == devices.choose("auto")
    with pytest.raises(ConfigurationError, match="can be used here are 1"):
        devices.choose("gpu", 0)


def test_a_card_that_cannot_be_used_is_in_the_log(two_gpus: Host) -> None:
    two_gpus.lose(0)
    told: list[object] = []
    stop = events.subscribe(lambda event, fields: told.append((event, fields)))
    try:
        assert [device.uuid for device in devices.choose("auto")] == ["GPU-1"]
    finally:
        stop()
    assert told == [("gpu.unusable", {"problem": "GPU 0: GPU is lost"})]


def test_without_a_gpu_the_cpu_works_and_sees_none(no_gpu: None) -> None:
    [device] = devices.choose("auto")
    assert (device.kind, device.worker_name("host")) == ("cpu", "cpu0@host")
    assert device.environment() == {"CUDA_VISIBLE_DEVICES": ""}
    assert devices.choose("cpu", 3)[0].worker_name("host") == "cpu3@host"
    with pytest.raises(ConfigurationError, match="no GPU here: the NVIDIA driver is not installed"):
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
    assert {"sklearn.metrics", "onnx"} <= preloaded
    assert {module for module in imported if not module.startswith("worker")} == set()


@pytest.mark.parametrize(
    ("process", "needless"),
    [
        ("worker.main", {"numpy", "httpx", "alembic", "fastapi"}),
        ("worker.beat", {"numpy", "httpx", "httpcore", "alembic", "fastapi"}),
        ("api.server", {"numpy", "httpx", "alembic", "PIL"}),
        ("api.flower.app", {"numpy", "httpx", "alembic", "PIL"}),
        ("api.launcher.command", {"numpy", "httpx", "alembic", "sqlalchemy", "redis", "celery"}),
    ],
)
def test_an_idle_process_holds_no_library_that_it_does_not_need(process: str, needless: set[str]) -> None:
    """Of what each takes ten megabytes or so. Looking up the families, as processes do, imports nothing of these."""
    heavy = needless | {"torch", "tensorflow", "matplotlib", "pandas", "pyarrow", "scipy", "sklearn"}
    families = (
        "" if process == "api.launcher.command" else "from shared.specs.families import FAMILIES; [*FAMILIES.installed]"
    )
    told = f"import sys, {process}; {families}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert heavy & set(done.stdout.split()) == set()


def test_frameworks_are_served_in_the_order_of_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frameworks, "find_spec", lambda name: object())
    assert frameworks.served("tensorflow, torch") == ["tensorflow", "torch"]
    assert frameworks.served("tensorflow,other") == ["tensorflow"]
    assert frameworks.served()[0] == "torch"


@pytest.mark.parametrize(("name", "uuid"), [("gpu", "GPU-0"), ("cuda", "GPU-0"), ("cuda:1", "GPU-1"), ("cpu", None)])
def test_a_device_has_the_name_that_frameworks_give_it(two_gpus: Host, name: str, uuid: str | None) -> None:
    assert devices.named(name).uuid == uuid


@pytest.mark.parametrize(("name", "words"), [("cuda:2", "2 GPUs here"), ("cuda:x", "such as cuda:0"), ("mps", "cpu")])
def test_a_name_of_no_device_is_refused(two_gpus: Host, name: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        devices.named(name)
