"""The perceptron in torch. Gradients are written out: a step of a small network costs what its calls cost.

Autograd would record each operation and run as many again; here a layer is one call forward and three back, which write
into the gradients that the optimizer reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nightshift.families.learner import Array, LearnerSetup
from worker.families.mlp.learner_base import MlpLearner, measured
from worker.families.mlp.weights import initial
from worker.training.backends import torch_support as support
from worker.training.backends.torch_base import TorchLearner

_aten: Any = torch.ops.aten


class TorchMlp(MlpLearner, TorchLearner):
    """A perceptron in torch; the twin of `TensorflowMlp`."""

    def __init__(self, setup: LearnerSetup) -> None:
        super().__init__(setup)
        self.MEASURED = measured(setup.facts)  # type: ignore[misc]
        self.computed = torch.bfloat16 if self.training.precision == "bfloat16" else torch.float32
        self._begin(initial(self.model, setup.facts, self.training.seed))
        self.layers = [f"dense{i}" for i in range(len(self.model.hidden))]
        trained = self._trained()
        for tensor in trained.values():
            tensor.grad = torch.zeros_like(tensor)
        #: The layers that learn, from the first one on: gradients go no further back.
        self.learning = [name for name in (*self.layers, "output") if f"{name}.weight" in trained]
        self.data: dict[str, Tensor] = {}
        self._minus_one = torch.full((1, 1), -1.0, device=self.device)
        self._rows = cache(self._count)  # one tensor for each size of batch

    # -- the step ---------------------------------------------------------------------------------

    def set_data(self, split: Mapping[str, Array]) -> None:
        self.data = support.move_to_device({"x": split["x"], "y": self._learned(split)}, self.device)

    @torch.no_grad()
    def train_step(self, rows: np.ndarray[Any, np.dtype[np.int64]], step: int) -> None:
        x, y = support.select(self.data, torch.from_numpy(rows), self.device)
        masks = [support.send(mask, self.device) for mask in self._masks(len(rows), step)]
        read, active = [x], list[Tensor]()
        for i, name in enumerate(self.layers):
            active.append(self._activated(self._dense(read[-1], name, self.computed)))
            read.append(self._dropped(active[-1], masks[i]) if masks else active[-1])
        outputs = self._dense(read[-1], "output", torch.float32)
        loss, slope, hits = self._judged(outputs, y)
        self._backward(slope, read, active, masks)
        self._update(loss, step)
        self.totals += torch.stack([loss * len(rows), *hits, self._rows(len(rows))])  # in float64, as the last one is

    def _judged(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return the mean loss, its gradient by the outputs, and the number of right rows for classes."""
        n = len(y)
        if self.loss == "cross_entropy":
            logs = outputs.log_softmax(1)
            loss, slope = F.nll_loss(logs, y), logs.exp().scatter_add_(1, y[:, None], self._minus_one.expand(n, 1))
            return loss, slope.div_(n), [(outputs.argmax(1) == y).sum()]
        error = outputs[:, 0] - y
        if self.loss == "mean_squared_error":
            return error.square().mean(), error.mul(2 / n)[:, None], []
        return error.abs().mean(), error.sign().div_(n)[:, None], []

    def _backward(self, slope: Tensor, read: list[Tensor], active: list[Tensor], masks: list[Tensor]) -> None:
        """Write the gradients of the weights that learn. `slope`: of the loss by the outputs."""
        names = [*self.layers, "output"]
        for i in reversed(range(len(names))):
            weight, bias = self.tensors[f"{names[i]}.weight"], self.tensors[f"{names[i]}.bias"]
            if weight.grad is not None:
                if slope.dtype == torch.float32 == read[i].dtype:
                    torch.mm(slope.t(), read[i], out=weight.grad)
                else:
                    weight.grad.copy_(torch.mm(slope.t(), read[i].to(slope.dtype)))
                assert bias.grad is not None, "a layer learns or is frozen as a whole"
                torch.sum(slope, 0, dtype=torch.float32, out=bias.grad)
            if i == 0 or names[i] == self.learning[0]:
                return
            if self.computed == torch.float32:
                slope = torch.mm(slope, weight)
            else:
                slope = torch.mm(slope.to(self.computed), weight.to(self.computed))
            if masks:
                slope = self._dropped(slope, masks[i - 1])
            slope = self._by_inputs(slope, active[i - 1])

    # -- the network ------------------------------------------------------------------------------

    def _dense(self, x: Tensor, name: str, dtype: torch.dtype) -> Tensor:
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        if x.dtype == dtype == torch.float32:  # the conversions below cost as much as a small product
            return F.linear(x, weight, bias)
        return F.linear(x.to(dtype), weight.to(dtype), bias.to(dtype))

    def _activated(self, x: Tensor) -> Tensor:
        match self.model.activation:
            case "relu":
                return x.relu_()
            case "sigmoid":
                return x.sigmoid_()
            case "tanh":
                return x.tanh_()
        return x

    def _by_inputs(self, slope: Tensor, active: Tensor) -> Tensor:
        """Return the gradient by the inputs of the activation, from that by its outputs."""
        match self.model.activation:
            case "relu":
                return _aten.threshold_backward(slope, active, 0)  # type: ignore[no-any-return]
            case "sigmoid":
                return _aten.sigmoid_backward(slope, active)  # type: ignore[no-any-return]
            case "tanh":
                return _aten.tanh_backward(slope, active)  # type: ignore[no-any-return]
        return slope

    def _dropped(self, x: Tensor, mask: Tensor) -> Tensor:
        return x.masked_fill(mask, 0).mul_(1 / (1 - self.model.dropout))

    # -- evaluation -------------------------------------------------------------------------------

    @torch.no_grad()
    def outputs(self, inputs: Array, batch_size: int) -> Array:
        width = len(self.tensors["output.bias"])
        return np.concatenate([np.empty((0, width), np.float32), *self._in_batches(self._outputs, inputs, batch_size)])

    def _outputs(self, x: Tensor) -> Tensor:
        for name in self.layers:
            x = self._activated(self._dense(x, name, torch.float32))
        return self._dense(x, "output", torch.float32)


build = TorchMlp
