"""When a worker leaves its GPU and when it returns, with a pool whose frameworks work as a test says."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from shared.settings import Settings
from tests.support.stack import eventually
from worker.hardware.devices import Device
from worker.runners.device_lock import DeviceLock
from worker.runners.runner_pool import RunnerPool
from worker.supervisor.device_health import DeviceHealth


class Pool:
    """The runners of a GPU, whose lock must be held while a framework is tried."""

    def __init__(self, slot: DeviceLock) -> None:
        self.slot, self.unusable, self.installed = slot, dict[str, str](), ["torch", "tensorflow"]
        self.problems: dict[str, str] = {}
        self.tried: list[str] = []

    @property
    def frameworks(self) -> frozenset[str]:
        return frozenset(self.installed) - self.unusable.keys()

    def probe(self, framework: str) -> str | None:
        assert self.slot._try() is None, "nobody else may use the device meanwhile"
        self.tried.append(framework)
        return self.problems.get(framework)


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return Pool(DeviceLock.of(Device("gpu", 0, "NVIDIA Test", "GPU-1"), Settings(data_dir=tmp_path)))


@pytest.fixture
def make(pool: Pool, tmp_path: Path) -> Iterator[Callable[..., DeviceHealth]]:
    made: list[DeviceHealth] = []

    def health(**settings: Any) -> DeviceHealth:
        values = Settings(data_dir=tmp_path, **{"device_retry_seconds": 0.01, "slot_wait_seconds": 0.1, **settings})
        made.append(DeviceHealth("gpu0@test", cast(RunnerPool, pool), values))
        return made[-1]

    yield health
    for one in made:
        one.close()


def test_what_works_is_advertised(pool: Pool, make: Callable[..., DeviceHealth]) -> None:
    health = make()
    pool.problems["tensorflow"] = "no CUDA"
    health.try_first()
    assert health.tried.is_set()
    assert (pool.frameworks, pool.unusable, health.left_because) == ({"torch"}, {"tensorflow": "no CUDA"}, None)


def test_a_device_on_which_nothing_works_is_left_until_something_does(
    pool: Pool, make: Callable[..., DeviceHealth]
) -> None:
    health, told = make(), list[str | None]()
    health.on_change = lambda: told.append(health.left_because)
    pool.problems = {"torch": "too old", "tensorflow": "no CUDA"}
    health.try_first()
    assert told[0] == "torch: too old; tensorflow: no CUDA"
    del pool.problems["torch"]
    eventually("it has returned", lambda: health.left_because is None)
    assert (told[-1], pool.frameworks) == (None, {"torch"})


def test_one_reason_is_said_once(pool: Pool, make: Callable[..., DeviceHealth]) -> None:
    pool.problems = dict.fromkeys(pool.installed, "GPU is lost")
    health = make(device_retry_seconds=1000)
    assert health.try_again("torch") == "GPU is lost"
    assert health.left_because == "GPU is lost"


def test_a_framework_that_works_after_a_failure_was_not_the_devices_fault(
    pool: Pool, make: Callable[..., DeviceHealth]
) -> None:
    pool.problems["tensorflow"] = "no CUDA"
    assert make().try_again("torch") is None
    assert pool.tried == ["torch", "tensorflow"]


def test_a_card_that_the_driver_lost_is_not_tried_before_the_driver_has_it_again(
    pool: Pool, make: Callable[..., DeviceHealth]
) -> None:
    health = make()
    health.hear_driver(None)
    assert health.left_because is None
    health.hear_driver("GPU is lost")
    assert health.left_because == "the NVIDIA driver says: GPU is lost"
    assert health.try_again("torch") == "the NVIDIA driver says: GPU is lost"
    assert (pool.tried, pool.frameworks) == ([], set())
    health.hear_driver(None)
    eventually("it has returned", lambda: health.left_because is None)
    assert pool.frameworks == {"torch", "tensorflow"}


def test_a_device_that_another_installation_uses_counts_as_working(
    pool: Pool, make: Callable[..., DeviceHealth]
) -> None:
    held = pool.slot.take()
    pool.problems = dict.fromkeys(pool.installed, "no CUDA")
    health = make()
    health.try_first()
    assert (pool.tried, pool.frameworks, health.tried.is_set()) == ([], {"torch", "tensorflow"}, True)
    assert health.try_again("torch") is None
    os.close(held)
    assert health.try_again("torch") == "no CUDA"
