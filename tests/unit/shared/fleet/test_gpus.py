"""Which GPUs a process may use, by an NVML whose cards a test chooses."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nightshift.errors import ConfigurationError
from shared.fleet.gpu_usage import GpuReader, GpuUsage
from shared.fleet.gpus import choose_gpus, refuse_memory_limit, visible_gpus
from shared.fleet.nvml import inventory
from shared.settings import Settings
from tests.support.gpus import GB, Host, card, instance

FOUR = ("GPU-a1", "GPU-a2", "GPU-b3", "GPU-c4")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Host]:
    def made(*cards: dict[str, Any], error: int | None = None) -> Host:
        found = Host(tmp_path, *cards, error=error)
        found.enter(monkeypatch)
        return found

    return made


def uuids() -> list[tuple[int, str]]:
    return [(gpu.index, gpu.uuid) for gpu in choose_gpus("gpu").gpus]


@pytest.mark.parametrize(
    ("visible", "shown"),
    [
        ("2", [(2, "GPU-b3")]),
        ("3,1", [(1, "GPU-a2"), (3, "GPU-c4")]),
        ("GPU-b3", [(2, "GPU-b3")]),
        ("GPU-b", [(2, "GPU-b3")]),
        (" GPU-c , 0", [(0, "GPU-a1"), (3, "GPU-c4")]),
        ("1,1,GPU-a2", [(1, "GPU-a2")]),
        ("1,-1,2", [(1, "GPU-a2")]),
    ],
)
def test_a_part_of_the_cards_keeps_the_numbers_of_the_host(
    host: Callable[..., Host], monkeypatch: pytest.MonkeyPatch, visible: str, shown: list[tuple[int, str]]
) -> None:
    host(*map(card, FOUR))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert uuids() == shown


@pytest.mark.parametrize("visible", ["", "-1", "NoDevFiles"])
def test_cards_that_are_hidden_on_purpose_are_no_error(
    host: Callable[..., Host], monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    host(*map(card, FOUR))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert choose_gpus("auto").gpus == ()
    with pytest.raises(ConfigurationError, match="CUDA_VISIBLE_DEVICES hides all"):
        choose_gpus("gpu")


@pytest.mark.parametrize(
    ("visible", "said"),
    [
        ("4", "'4' fits no GPU of this host, which has 0 GPU-a1, 1 GPU-a2"),
        ("GPU-x", "'GPU-x' fits no GPU"),
        ("MIG-1", "'MIG-1' fits no GPU"),
        ("GPU-a", "beginning of 2 UUIDs"),
    ],
)
def test_a_name_that_fits_no_card_is_refused_also_for_auto(
    host: Callable[..., Host], monkeypatch: pytest.MonkeyPatch, visible: str, said: str
) -> None:
    host(*map(card, FOUR))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(ConfigurationError, match=said):
        choose_gpus("auto")


def partitioned() -> dict[str, Any]:
    return card("GPU-a1", instances=[instance("MIG-11"), None, instance("MIG-12"), None])


def test_a_card_with_mig_is_its_instances(host: Callable[..., Host], monkeypatch: pytest.MonkeyPatch) -> None:
    host(partitioned(), card("GPU-a2"))
    assert uuids() == [(0, "MIG-11"), (1, "MIG-12"), (2, "GPU-a2")]
    found = choose_gpus("gpu").gpus
    facts = [(gpu.card, gpu.name, gpu.memory_bytes) for gpu in found[:2]]
    assert facts == [(0, "NVIDIA Test MIG 1g.10gb", 10 * GB)] * 2
    for visible, shown in (("MIG-12", [(1, "MIG-12")]), ("0", [(0, "MIG-11"), (1, "MIG-12")]), ("1", [(2, "GPU-a2")])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert uuids() == shown


def test_a_card_with_mig_and_no_instance_is_told(host: Callable[..., Host]) -> None:
    host(card("GPU-a1", instances=[None, None]), card("GPU-a2"))
    found = choose_gpus("auto")
    assert [(gpu.index, gpu.uuid) for gpu in found.gpus] == [(1, "GPU-a2")]
    assert "GPU 0: its MIG mode is on, and it has no instance" in str(found.problems[0])


def test_each_figure_of_a_mig_instance_is_read_by_itself(host: Callable[..., Host]) -> None:
    host(partitioned())
    assert GpuReader("MIG-12").read() == GpuUsage(10 * GB, GB, None, 61.0)


def test_a_lost_card_leaves_the_others_with_their_numbers(
    host: Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    host(*map(card, FOUR)).lose(1)
    assert uuids() == [(0, "GPU-a1"), (2, "GPU-b3"), (3, "GPU-c4")]
    assert list(map(str, choose_gpus("auto").problems)) == ["GPU 1: GPU is lost"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2")
    assert choose_gpus("auto").problems == (), "it is not asked for"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a1,GPU-a2")
    assert uuids() == [(0, "GPU-a1")]
    assert list(map(str, choose_gpus("auto").problems)) == ["GPU-a2 is not found (GPU 1: GPU is lost)"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,7")
    with pytest.raises(ConfigurationError, match="'7' fits no GPU"):
        choose_gpus("auto")
    for visible in ("1", "GPU-a2"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        with pytest.raises(ConfigurationError, match="GPU is lost"):
            choose_gpus("auto")


@pytest.mark.parametrize("error", [4, 18, 999])
def test_a_driver_that_fails_makes_no_cpu_worker_in_silence(host: Callable[..., Host], error: int) -> None:
    host(card("GPU-a1"), error=error)
    with pytest.raises(ConfigurationError, match=r"no GPU can be used \(NVML: .*--device cpu"):
        choose_gpus("auto")


@pytest.mark.parametrize("error", [9, 12])
def test_a_host_without_a_driver_works_on_its_cpu(
    host: Callable[..., Host], monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    host(error=error)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert choose_gpus("auto").gpus == ()
    with pytest.raises(ConfigurationError, match="the NVIDIA driver is not"):
        choose_gpus("gpu")


def test_without_the_package_there_is_no_gpu_to_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert inventory().absent == "the package nvidia-ml-py is not installed"
    assert visible_gpus().gpus == ()


def test_a_card_lost_while_it_is_read_is_told_as_lost(host: Callable[..., Host]) -> None:
    cards = host(card("GPU-a1"), card("GPU-a2"))
    reader = GpuReader("GPU-a2")
    assert reader.read() == GpuUsage(80 * GB, GB, 97.0, 61.0)
    cards.lose(1, error=999)
    assert (reader.read(), reader.lost) == (None, None), "a driver that fails is not a lost card"
    cards.lose(1)
    assert (reader.read(), reader.lost) == (None, "GPU is lost")
    cards.find(1)
    assert reader.read() is not None
    assert reader.lost is None


def test_a_limit_of_address_space_is_refused() -> None:
    refuse_memory_limit(Settings())
    with pytest.raises(ConfigurationError, match="address space"):
        refuse_memory_limit(Settings(runner_memory_limit_bytes=10_000_000_000))
