"""Base class of the torch learners: weights, normalization, optimizers and state of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nightshift.families.learner import Array, LearnerSetup, LearnerState
from worker.training import gang
from worker.training.backends import torch_gang
from worker.training.backends import torch_support as support
from worker.training.backends.base_learner import BaseLearner
from worker.training.backends.torch_gang import TorchGang
from worker.training.numerics.named_arrays import strip_prefix
from worker.training.numerics.norms import NORM_EPS, NORM_MOMENTUM, RUNNING

#: Batch norm's statistics: a mapping to update in training, an empty one to discard them, None for evaluation.
Running = Mapping[str, Tensor] | None


class TorchLearner(BaseLearner):
    """Base of the torch learners. A family calls `_begin` with its initial weights.

    `networks` are the prefixes of weights with an optimizer of their own ("": one for all).
    """

    def __init__(self, setup: LearnerSetup) -> None:
        super().__init__(setup)
        support.use_threads(setup.threads)
        support.forbid_tf32()
        self.device = support.torch_device(setup.device)
        self.gang = gang.current()

    def _begin(self, weights: Mapping[str, Array], networks: tuple[str, ...] = ("",)) -> None:
        """Create tensors and optimizers, and the sums for the metrics."""
        self._optimize({name: self._place(name, array) for name, array in weights.items()}, networks)

    def _optimize(self, tensors: Mapping[str, Tensor], networks: tuple[str, ...] = ("",)) -> None:
        """Create the optimizers of tensors that are on the device, and the sums for the metrics."""
        self.tensors = tensors
        self.optimizers = {part: support.make_optimizer(self.training, self._trained(part)) for part in networks}
        self.guards = {
            part: support.FiniteLossGuard(optimizer, self.device) for part, optimizer in self.optimizers.items()
        }
        self.bad = self.guards[networks[0]].bad
        for guard in self.guards.values():
            guard.bad = self.bad  # one non-finite loss stops all networks
        self.totals = torch.zeros(len(self.MEASURED) + 1, dtype=torch.float64, device=self.device)

    # -- the step ---------------------------------------------------------------------------------

    def _descend(self, loss: Tensor, step: int) -> None:
        """Run one step of the only optimizer."""
        (optimizer,) = self.optimizers.values()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._update(loss, step)

    def _update(self, loss: Tensor, step: int) -> None:
        """Change the weights of the only optimizer by their gradients."""
        (optimizer,), (guard,) = self.optimizers.values(), self.guards.values()
        loss = self._averaged(self._trained().values(), loss)
        if self.training.grad_clip is not None:
            torch.nn.utils.clip_grad_norm_(self._trained().values(), self.training.grad_clip)
        self.rate = support.set_rate(optimizer, self.rate_at(step))
        guard.step(loss)

    def _averaged(self, weights: Iterable[Tensor], loss: Tensor) -> Tensor:
        """Replace the gradients of these weights by the gang's, and return its loss."""
        return self.gang.average(weights, loss) if isinstance(self.gang, TorchGang) else loss

    def _take_totals(self) -> list[float]:
        whole = self.gang.total(self.totals) if isinstance(self.gang, TorchGang) else self.totals
        totals: list[float] = whole.tolist()
        self.totals.zero_()
        return totals

    def _count(self, rows: int) -> Tensor:
        """Return a number on the device, without a sync."""
        return torch.full((), rows, dtype=torch.float64, device=self.device)

    # -- normalization; batch norm's statistics are kept only if the losses are finite --------------

    def _norm(self, x: Tensor, name: str, running: Running) -> Tensor:
        """Apply the normalization whose weights have this name, if there are any."""
        scale, bias = self.tensors.get(f"{name}.weight"), self.tensors.get(f"{name}.bias")
        if f"{name}.running_var" not in self.tensors:
            return x if scale is None else F.group_norm(x, 1, scale, bias, NORM_EPS)
        learns = running is not None and not self._is_frozen(name)
        stats = (running if learns else self.tensors) or {}
        mean, var = stats.get(f"{name}.running_mean"), stats.get(f"{name}.running_var")
        return F.batch_norm(x, mean, var, scale, bias, learns, NORM_MOMENTUM, NORM_EPS)

    def _running(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.tensors.items() if RUNNING in name}

    def _keep_running(self, running: Mapping[str, Tensor]) -> None:
        for name, tensor in running.items():
            self.tensors[name].copy_(torch.where(self.bad, self.tensors[name], tensor))

    # -- prediction -------------------------------------------------------------------------------

    def _in_batches(self, compute: Callable[[Tensor], Tensor], inputs: Array, batch_size: int) -> list[Array]:
        """Return what is computed of each batch of rows."""
        batches = (inputs[at : at + batch_size] for at in range(0, len(inputs), batch_size))
        if self.device_kind == "cpu":  # a tensor's memory is free before the next batch needs as much
            return [compute(support.to_device(batch, self.device)).numpy() for batch in batches]
        begun = (support.fetch(compute(batch)) for batch in support.sent(batches, self.device))
        return [fetch() for fetch in self._late(begun)]

    # -- state ------------------------------------------------------------------------------------

    def state(self) -> LearnerState:
        arrays = {f"weights/{name}": array for name, array in self.weights().items()}
        for part, optimizer in self.optimizers.items():
            slots = support.slots(optimizer, self._trained(part))
            arrays |= {f"optimizer/{name}": array for name, array in slots.items()}
        arrays |= {**torch_gang.parts(self.gang, self.totals), "bad": support.to_numpy(self.bad)}
        size = {"devices": self.gang.size} if self.gang.size > 1 else {}
        return LearnerState(arrays, {"rate": self.rate, **size, **support.versions()})

    def load_state(self, state: LearnerState) -> None:
        self.load_weights(strip_prefix(state.arrays, "weights/"))
        for part, optimizer in self.optimizers.items():
            support.load_slots(optimizer, self._trained(part), strip_prefix(state.arrays, "optimizer/"))
        own = gang.own_totals(state.arrays, self.gang.size, self.gang.rank)
        self.totals.copy_(torch.from_numpy(np.array(own)))
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

    def _place(self, name: str, array: Array) -> Tensor:
        """Copy an array to the device, convolution weights in channels-last memory."""
        tensor = torch.from_numpy(array).to(self.device)
        if tensor.dim() == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        return tensor.requires_grad_(self._learns(name))
