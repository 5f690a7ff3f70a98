"""Base class of the torch learners: weights, optimizers and state of a run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from worker.training.backends import torch_support as support
from worker.training.learner import Array, LearnerSetup, LearnerState
from worker.training.numerics.optim import learning_rate

#: Part of the names of running statistics, which are not trained.
RUNNING = ".running_"


class TorchLearner:
    """Base of the torch learners. A family calls `_begin` with its initial weights.

    `networks` are the prefixes of weights with an optimizer of their own ("": one for all).
    """

    def __init__(self, setup: LearnerSetup) -> None:
        support.use_threads(setup.threads)
        self.model, self.training, self.total_steps = setup.model, setup.training, setup.total_steps
        self.device = support.torch_device(setup.device)
        self.frozen = tuple(setup.facts.get("frozen", ()))

    def _begin(self, weights: Mapping[str, Array], totals: int, networks: tuple[str, ...] = ("",)) -> None:
        """Create tensors and optimizers, and `totals` sums on the device for the metrics."""
        self.tensors = {name: self._place(name, array) for name, array in weights.items()}
        self.optimizers = {part: support.make_optimizer(self.training, self._trained(part)) for part in networks}
        self.guards = {
            part: support.FiniteLossGuard(optimizer, self.device) for part, optimizer in self.optimizers.items()
        }
        self.bad = self.guards[networks[0]].bad
        for guard in self.guards.values():
            guard.bad = self.bad  # one non-finite loss stops all networks
        self.totals = torch.zeros(totals, dtype=torch.float64, device=self.device)
        self.rate = learning_rate(self.training, 0, self.total_steps)

    # -- the step ---------------------------------------------------------------------------------

    def _descend(self, loss: Tensor, step: int) -> None:
        """Run one step of the only optimizer."""
        (optimizer,), (guard,) = self.optimizers.values(), self.guards.values()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.training.grad_clip is not None:
            torch.nn.utils.clip_grad_norm_(self._trained().values(), self.training.grad_clip)
        self.rate = support.set_rate(optimizer, learning_rate(self.training, step, self.total_steps))
        guard.step(loss)

    # -- state ------------------------------------------------------------------------------------

    def state(self) -> LearnerState:
        arrays = {f"weights/{name}": array for name, array in self.weights().items()}
        for part, optimizer in self.optimizers.items():
            slots = support.slots(optimizer, self._trained(part))
            arrays |= {f"optimizer/{name}": array for name, array in slots.items()}
        arrays |= {"totals": support.to_numpy(self.totals), "bad": support.to_numpy(self.bad)}
        return LearnerState(arrays, {"rate": self.rate, **support.versions()})

    def load_state(self, state: LearnerState) -> None:
        self.load_weights(support.strip_prefix(state.arrays, "weights/"))
        for part, optimizer in self.optimizers.items():
            support.load_slots(optimizer, self._trained(part), support.strip_prefix(state.arrays, "optimizer/"))
        self.totals.copy_(torch.from_numpy(np.array(state.arrays["totals"])))
        self.bad.copy_(torch.from_numpy(np.array(state.arrays["bad"])))
        self.rate = float(state.facts["rate"])

    def weights(self) -> dict[str, Array]:
        return {name: support.to_numpy(tensor) for name, tensor in self.tensors.items()}

    def load_weights(self, weights: Mapping[str, Array]) -> None:
        for name, tensor in self.tensors.items():
            support.assign(tensor, name, weights)

    def _trained(self, part: str = "") -> dict[str, Tensor]:
        """Return the trainable weights whose names start with `part`."""
        return {name: t for name, t in self.tensors.items() if t.requires_grad and name.startswith(part)}

    def _is_frozen(self, name: str) -> bool:
        return bool(self.frozen) and name.startswith(self.frozen)

    def _place(self, name: str, array: Array) -> Tensor:
        """Copy an array to the device, convolution weights in channels-last memory."""
        tensor = torch.from_numpy(array).to(self.device)
        if tensor.dim() == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        return tensor.requires_grad_(not (RUNNING in name or self._is_frozen(name)))
