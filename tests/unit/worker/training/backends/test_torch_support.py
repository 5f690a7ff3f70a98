"""Optimizers in torch, whose kernels read weights, gradients and slots side by side; copies beside computation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import pytest

from nightshift.families.optimizers import Optimizer
from nightshift.families.training import Training

torch = pytest.importorskip("torch")
torch_support = pytest.importorskip("worker.training.backends.torch_support")


def begun(name: str) -> tuple[Any, Any]:
    """Return a weight whose memory is in the order of columns, and its optimizer."""
    more = {"momentum": 0.9} if name == "sgd" else {}
    weight = torch.nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4).t())
    return weight, torch_support.make_optimizer(Training(optimizer=name, learning_rate=0.1, **more), {"w": weight})


def step(weight: Any, optimizer: Any) -> None:
    optimizer.zero_grad()
    (weight * torch.arange(12.0).view(4, 3)).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("name", get_args(Optimizer))
def test_a_weight_in_any_order_of_memory_goes_on_from_its_slots(name: str) -> None:
    weight, optimizer = begun(name)
    step(weight, optimizer)
    again, other = begun(name)
    torch_support.assign(again, "w", {"w": torch_support.to_numpy(weight)})
    torch_support.load_slots(other, {"w": again}, torch_support.slots(optimizer, {"w": weight}))
    for _ in range(2):
        step(weight, optimizer)
        step(again, other)
    assert torch.equal(weight, again)
    layouts = [slot.stride() for key, slot in other.state[again].items() if key != "step"]
    assert set(layouts) == {again.stride()}


# -- copies beside computation, on a pretended GPU -------------------------------------------------


@dataclass
class Stream:
    """A stream of a pretended GPU, which notes what is asked of it."""

    name: str
    log: list[str]

    def wait_stream(self, other: Stream) -> None:
        self.log.append(f"{self.name} waits for {other.name}")

    def record_event(self) -> Stream:
        self.log.append(f"{self.name} records")
        return self

    def synchronize(self) -> None:
        self.log.append(f"the host waits for {self.name}")


@dataclass
class OnGpu:
    """A tensor of a pretended GPU."""

    number: int
    log: list[str]
    device: str = "cuda"

    def record_stream(self, stream: Stream) -> None:
        self.log.append(f"{self.number} is read by {stream.name}")

    def pinned(self) -> OnHost:
        return OnHost(self.number, self.log)


@dataclass
class OnHost:
    """Pinned memory for a tensor of a pretended GPU."""

    number: int
    log: list[str]

    def copy_(self, tensor: OnGpu, *, non_blocking: bool) -> None:
        assert non_blocking
        self.log.append(f"copies {tensor.number} to the host")

    def numpy(self) -> int:
        return self.number


@dataclass
class PretendedGpu:
    """Torch with a pretended GPU: two streams, one of which computes."""

    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.computing, self.copying = Stream("computing", self.log), Stream("copying", self.log)
        self.current = self.computing

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before

    def to_device(self, batch: int, device: Any) -> OnGpu:
        self.log.append(f"{self.current.name} copies {batch}")
        return OnGpu(batch, self.log)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendedGpu]:
    gpu = PretendedGpu()
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: gpu.copying)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: gpu.current)
    monkeypatch.setattr(torch.cuda, "stream", gpu.stream)
    monkeypatch.setattr(torch_support, "to_device", gpu.to_device)
    monkeypatch.setattr(torch_support, "on_host", lambda tensor: False)
    monkeypatch.setattr(torch, "empty_like", lambda tensor, *, device, pin_memory: tensor.pinned())
    torch_support.copying_stream.cache_clear()
    yield gpu
    torch_support.copying_stream.cache_clear()


def test_the_next_batch_is_copied_by_another_stream_while_one_is_computed(gpu: PretendedGpu) -> None:
    for tensor in torch_support.sent(iter([0, 1]), torch.device("cuda", 0)):
        gpu.log.append(f"{gpu.current.name} computes {tensor.number}")
    assert gpu.log == [
        line
        for number in (0, 1)
        for line in (
            f"copying copies {number}",
            "computing waits for copying",
            f"{number} is read by computing",
            f"computing computes {number}",
        )
    ]


def test_a_result_is_copied_at_once_and_waited_for_when_it_is_read(gpu: PretendedGpu) -> None:
    fetch = torch_support.fetch(OnGpu(7, gpu.log))
    assert gpu.log == ["copies 7 to the host", "computing records"]
    assert fetch() == 7
    assert gpu.log[-1] == "the host waits for computing"


def test_on_a_cpu_batches_are_the_arrays_themselves() -> None:
    batches = [np.arange(3.0), np.arange(2.0)]
    found = [torch_support.fetch(tensor)() for tensor in torch_support.sent(batches, torch.device("cpu"))]
    assert all(np.shares_memory(one, other) for one, other in zip(found, batches, strict=True))
