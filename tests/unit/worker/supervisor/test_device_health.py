"""When a worker leaves its GPU and when it returns, with a pool whose frameworks work as a test says."""

from __future__ import annotations

import os
import threading
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
        self.problems_of_peers: dict[str, str] = {}
        self.tried: list[str] = []

    @property
    def frameworks(self) -> frozenset[str]:
        return frozenset(self.installed) - self.unusable.keys()

    def probe(self, framework: str, device_id: str | None = None) -> str | None:
        slot = self.slot if device_id is None else DeviceLock(self.slot.path.parent / f"{device_id}.lock")
        assert slot._try() is None, "nobody else may use the device meanwhile"
        self.tried.append(framework if device_id is None else f"{framework} on {device_id}")
        return self.problems.get(framework) if device_id is None else self.problems_of_peers.get(device_id)


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


def test_a_device_that_is_left_again_and_again_is_watched_by_one_thread(
    pool: Pool, make: Callable[..., DeviceHealth]
) -> None:
    health = make(device_retry_seconds=1000)
    before = threading.active_count()
    for _ in range(3):
        health.hear_driver("GPU is lost")
        health.hear_driver(None)
        assert health.try_again("torch") is None
        assert health.left_because is None
    assert threading.active_count() - before == 1


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


def test_a_failing_device_of_a_gang_is_named_and_its_worker_leaves_it(
    pool: Pool, make: Callable[..., DeviceHealth], tmp_path: Path
) -> None:
    leader, peer = make(), make()
    pool.problems_of_peers["GPU-1"] = "GPU is lost"
    peer.hear_peers()
    assert pool.tried == []
    assert leader.try_peers("torch", ["GPU-2", "GPU-1", "GPU-3"]) == "GPU-1: GPU is lost"
    assert pool.tried == ["torch on GPU-2", "torch on GPU-1"]
    pool.problems = dict.fromkeys(pool.installed, "GPU is lost")
    eventually("its worker has left", lambda: peer.hear_peers() or peer.left_because)
    assert peer.left_because == "GPU is lost"
    eventually("the suspicion is over", lambda: not pool.slot.suspicion.exists())


def test_a_suspicion_waits_for_the_runner_that_uses_the_device_and_may_be_wrong(
    pool: Pool, make: Callable[..., DeviceHealth]
) -> None:
    health, held = make(), pool.slot.take()
    pool.slot.suspicion.touch()
    for _ in range(3):
        health.hear_peers()
    eventually("it has looked", lambda: not health._is_suspected)
    assert (pool.tried, pool.slot.suspicion.exists()) == ([], True)
    os.close(held)
    eventually("it has tried", lambda: health.hear_peers() or not pool.slot.suspicion.exists())
    assert (health.left_because, pool.frameworks) == (None, {"torch", "tensorflow"})


def test_a_suspicion_waits_for_the_driver_that_lost_the_card(pool: Pool, make: Callable[..., DeviceHealth]) -> None:
    health = make(device_retry_seconds=1000)
    health.hear_driver("GPU is lost")
    pool.slot.suspicion.touch()
    health.hear_peers()
    eventually("it has looked", lambda: not health._is_suspected)
    assert (pool.tried, pool.slot.suspicion.exists()) == ([], True)
    assert health.left_because == "the NVIDIA driver says: GPU is lost"
    health.hear_driver(None)
    eventually("it has tried", lambda: health.hear_peers() or not pool.slot.suspicion.exists())
    assert health.left_because is None
