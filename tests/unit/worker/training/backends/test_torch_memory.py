"""The memory of a GPU as torch tells it: what a batch took, and what is free."""

from __future__ import annotations

import pytest

from worker.kinds.device_batch import memory_of


def test_torch_counts_what_it_keeps_and_does_not_use_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = pytest.importorskip("torch").cuda
    told = {"memory_allocated": 10, "max_memory_allocated": 70, "memory_reserved": 90, "mem_get_info": (500, 1000)}
    for name, value in told.items():
        monkeypatch.setattr(cuda, name, lambda value=value: value)
    resets: list[None] = []
    monkeypatch.setattr(cuda, "reset_peak_memory_stats", lambda: resets.append(None))
    memory = memory_of("torch")
    memory.begin()
    assert (memory.taken(), memory.free(), len(resets)) == (60, 580, 1)
