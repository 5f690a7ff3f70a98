"""The CNN in torch: channels-last, native bfloat16, fused optimizers, no device sync per step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nightshift.families.learner import Array, LearnerSetup
from worker.families.cnn.family import CnnModel
from worker.families.cnn.torch_pixels import augmented, pixels
from worker.families.cnn.weights import initial, is_kernel, outputs
from worker.training.backends import torch_support as support
from worker.training.backends.torch_base import Running, TorchLearner
from worker.training.numerics.data_order import rng_seed

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh}


class TorchCnn(TorchLearner):
    """A CNN classifier in torch; the twin of `TensorflowCnn`.

    The `facts` of its setup: `classes` (names), optionally `frozen` (prefixes of fixed weights).
    """

    model: CnnModel
    MEASURED = ("loss", "accuracy")

    def __init__(self, setup: LearnerSetup) -> None:
        super().__init__(setup)
        self.autocast = support.autocast(self.device, self.training.precision)
        self.activation = _ACTIVATIONS[self.model.activation]
        self.classes = len(setup.facts["classes"])
        self._begin(initial(self.model, self.classes, self.training.seed))
        self.data: dict[str, Tensor] = {}

    # -- the step ---------------------------------------------------------------------------------

    def set_data(self, split: Mapping[str, Array]) -> None:
        self.data = support.move_to_device({"x": split["x"], "y": split["y"]}, self.device)

    def train_step(self, rows: np.ndarray[Any, np.dtype[np.int64]], step: int) -> None:
        x, y = support.select(self.data, torch.from_numpy(rows), self.device)
        running = self._running()
        with self.autocast():
            x = augmented(pixels(x), self.training.augment, self.training.seed, step)
            logits = self._forward(x, running, step)
        loss = self._loss(logits, y)
        self._descend(self._penalized(loss), step)
        self._keep_running(running)
        correct = self._correct(logits.detach(), y).double()
        self.totals += torch.stack([loss.detach().double() * len(y), correct, self._count(len(y))])

    # -- the network ------------------------------------------------------------------------------

    def _forward(self, x: Tensor, running: Running, step: int = 0) -> Tensor:
        """Return logits. `running` holds batch norm's statistics to update; None means evaluation."""
        return F.linear(self._features(x, running, step), self.tensors["output.weight"], self.tensors["output.bias"])

    def _features(self, x: Tensor, running: Running, step: int = 0) -> Tensor:
        """Return the input of the output layer: [n, width]."""
        for i, pooled in enumerate(self.model.pool):
            x = self._norm(self._convolve(x, f"conv{i}"), f"norm{i}", running)
            x = self._activated_and_pooled(x) if pooled else self.activation(x)
        x = x.flatten(1)
        for i in range(len(self.model.dense)):
            x = self.activation(F.linear(x, self.tensors[f"dense{i}.weight"], self.tensors[f"dense{i}.bias"]))
            if running is not None and self.model.dropout:
                x = self._dropout(x, i, step)
        return x

    def _convolve(self, x: Tensor, name: str) -> Tensor:
        w, bias = self.tensors, self.tensors[f"{name}.bias"]
        x, padding = self._padded(x)
        if self.model.convolution == "separable":
            x = F.conv2d(x, w[f"{name}.depthwise"], padding=padding, groups=x.shape[1])
            return F.conv2d(x, w[f"{name}.pointwise"], bias)
        return F.conv2d(x, w[f"{name}.weight"], bias, padding=padding)

    def _padded(self, x: Tensor) -> tuple[Tensor, int]:
        """Return the maps, and the zeros that a convolution adds on every side of them.

        An even kernel needs one zero less at the top and left, which convolutions cannot add.
        """
        lost = self.model.kernel_size - 1 if self.model.padding == "same" else 0
        before, after = lost // 2, lost - lost // 2
        return (x, before) if before == after else (F.pad(x, (before, after, before, after)), 0)

    def _activated_and_pooled(self, x: Tensor) -> Tensor:
        if self.model.pooling == "average":
            return F.avg_pool2d(self.activation(x), 2)
        return self.activation(F.max_pool2d(x, 2))  # the same values: activations are monotone; a quarter of the work

    def _dropout(self, x: Tensor, layer: int, step: int) -> Tensor:
        torch.manual_seed(rng_seed(self.training.seed, f"dropout{layer}", step))
        return F.dropout(x, self.model.dropout)

    def _loss(self, logits: Tensor, y: Tensor) -> Tensor:
        logits = logits.float()
        if self.model.loss == "mean_squared_error":
            return self._squared_error(logits, y)
        if self.model.output == "sigmoid":
            return F.binary_cross_entropy_with_logits(logits[:, 0], y.float())
        return F.cross_entropy(logits, y)

    def _squared_error(self, logits: Tensor, y: Tensor) -> Tensor:
        if self.model.output == "sigmoid":
            return F.mse_loss(logits[:, 0].sigmoid(), y.float())
        return F.mse_loss(logits.softmax(1), F.one_hot(y, self.classes).float())

    def _penalized(self, loss: Tensor) -> Tensor:
        """Return the loss with the penalties on the kernels that learn."""
        l1, l2 = self.model.l1, self.model.l2
        kernels = [w for w in self._trained().values() if is_kernel(tuple(w.shape))] if l1 or l2 else []
        for kernel in kernels:
            loss = loss + l1 * kernel.abs().sum() + l2 * kernel.square().sum()
        return loss

    def _correct(self, logits: Tensor, y: Tensor) -> Tensor:
        chosen = logits[:, 0] > 0 if self.model.output == "sigmoid" else logits.argmax(1)
        return (chosen == y).sum()

    # -- evaluation -------------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self, split: Mapping[str, Array], batch_size: int) -> dict[str, float]:
        totals = torch.zeros(2, dtype=torch.float64, device=self.device)
        for start in range(0, len(split["y"]), batch_size):
            x, y = (support.to_device(split[key][start : start + batch_size], self.device) for key in ("x", "y"))
            with self.autocast():
                logits = self._forward(pixels(x), None)
            totals += torch.stack([self._loss(logits, y).double() * len(y), self._correct(logits, y).double()])
        loss, correct = (totals / len(split["y"])).tolist()
        return {"loss": loss, "accuracy": correct}

    @torch.no_grad()
    def predict(self, inputs: Array, batch_size: int) -> Array:
        """Return probabilities [n, classes], float32, computed in float32 so that both frameworks agree."""
        if len(inputs) == 0:
            return np.empty((0, self.classes), np.float32)
        return np.concatenate(self._in_batches(self._probabilities, inputs, batch_size))

    @torch.no_grad()
    def features(self, inputs: Array, batch_size: int) -> Array:
        """Return the input of the output layer, [n, width] float32, computed in float32."""
        return np.concatenate(self._in_batches(lambda x: self._features(pixels(x), None), inputs, batch_size))

    def _probabilities(self, x: Tensor) -> Tensor:
        logits = self._forward(pixels(x), None)
        if outputs(self.model, self.classes) == 1:
            second = logits.sigmoid()
            return torch.cat([1 - second, second], 1)
        return logits.softmax(1)


build = TorchCnn
