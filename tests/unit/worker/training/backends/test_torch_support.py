"""Optimizers in torch, whose kernels read weights, gradients and slots side by side."""

from __future__ import annotations

from typing import Any, get_args

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
