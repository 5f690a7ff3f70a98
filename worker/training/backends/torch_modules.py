"""Modules of torch as a learner holds them: their weights, their buffers, and their random numbers."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from nightshift.families.learner import Array
from worker.training.backends import torch_support as support
from worker.training.numerics.data_order import rng_seed


def seed_draws(seed: int, purpose: str, step: int) -> None:
    """Make all random numbers that a module draws next depend on these three only."""
    key = rng_seed(seed, purpose, step)
    torch.manual_seed(key)
    np.random.seed(key & 0xFFFFFFFF)
    random.seed(key)


def prepared(network: object, device: torch.device) -> nn.Module:
    """Return a network on the device: float32, convolution weights in channels-last memory.

    Raises TypeError if it is no module, ValueError if one of its weights is not a number of floating point.
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"network() must return a torch.nn.Module; it returned {type(network).__name__}")
    for name, weight in network.named_parameters():
        if not weight.is_floating_point():
            raise ValueError(f"the weight {name} is {weight.dtype}; a learner's weights are float32")
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.momentum is not None:
            module.num_batches_tracked = None  # nothing reads it: with a momentum it is no part of the state
    return network.float().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters and floating-point buffers under their names in `state_dict`, tied ones once."""
    found = {name: tensor for name, tensor in module.state_dict(keep_vars=True).items() if tensor.is_floating_point()}
    first = {id(tensor): name for name, tensor in reversed(found.items())}
    return {name: tensor for name, tensor in found.items() if first[id(tensor)] == name}


def set_mode(module: nn.Module, training: bool, is_frozen: Callable[[str], bool]) -> None:
    """Switch to training or evaluation. Frozen submodules, with their statistics and dropout, always evaluate."""
    module.train(training)
    if training:
        for name, part in module.named_modules():
            if is_frozen(f"{name}."):
                part.eval()


class Buffers:
    """The buffers of a module, so that a step with a non-finite loss can be taken back from them."""

    def __init__(self, module: nn.Module, weights: Mapping[str, Tensor]) -> None:
        """Create it. `weights`: what is saved as the model's weights; other buffers are `extra`."""
        self._places = [
            (part, name, buffer)
            for part in module.modules()
            for name, buffer in part._buffers.items()
            if buffer is not None
        ]
        saved = {id(tensor) for tensor in weights.values()}
        self._extra = {name: buffer for name, buffer in module.named_buffers() if id(buffer) not in saved}
        self._new = {name: support.to_numpy(buffer) for name, buffer in self._extra.items()}

    def copies(self) -> list[Tensor]:
        """Return copies, for `settle`."""
        return [buffer.clone() for _, _, buffer in self._places]

    @torch.no_grad()
    def settle(self, before: list[Tensor], bad: Tensor) -> None:
        """Keep what a step left in the buffers, or go back to the copies if a loss was bad. No device sync."""
        for (part, name, buffer), old in zip(self._places, before, strict=True):
            left = part._buffers[name]
            buffer.copy_(torch.where(bad, old, buffer if left is None else left))
            part._buffers[name] = buffer  # the module may have put another tensor in its place

    def extra(self) -> dict[str, Array]:
        """Return the buffers beside the weights that training has changed."""
        now = {name: support.to_numpy(buffer) for name, buffer in self._extra.items()}
        return {name: array for name, array in now.items() if not np.array_equal(array, self._new[name])}

    def load_extra(self, arrays: Mapping[str, Array]) -> None:
        """Restore them; those that are not given are as in a new module."""
        for name, buffer in self._extra.items():
            support.assign(buffer, name, {**self._new, **arrays})
