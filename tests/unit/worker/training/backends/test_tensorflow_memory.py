"""The memory of a GPU as TensorFlow and the driver tell it: what a batch took, and what is free."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from shared.fleet import nvml
from worker.kinds.device_batch import memory_of


class Driver:
    """NVML with one GPU, which has 400 bytes free."""

    nvmlDeviceGetHandleByUUID = str  # noqa: N815 - the names are NVML's

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:  # noqa: N802
        return SimpleNamespace(free={"GPU-1": 400}[handle])


@pytest.mark.parametrize(("uuid", "free"), [("GPU-1", 400), ("GPU-2", 0)])
def test_tensorflow_asks_the_driver_for_what_is_free(uuid: str, free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    experimental = pytest.importorskip("tensorflow").config.experimental
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", uuid)
    monkeypatch.setattr(nvml, "opened", Driver)
    monkeypatch.setattr(experimental, "get_memory_info", lambda gpu: {"current": 10, "peak": 70})
    resets: list[str] = []
    monkeypatch.setattr(experimental, "reset_memory_stats", resets.append)
    memory = memory_of("tensorflow")
    memory.begin()
    assert (memory.taken(), memory.free(), resets) == (60, free, ["GPU:0"])
    memory.give_back()
