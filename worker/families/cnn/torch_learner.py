"""The CNN in torch: channels-last, native bfloat16, fused optimizers, no device sync per step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nightshift.families.learner import Array, LearnerSetup
from worker.families.cnn.family import CnnModel
from worker.families.cnn.torch_pixels import augmented, pixels
from worker.families.cnn.weights import initial, outputs
from worker.training.backends import torch_support as support
from worker.training.backends.torch_base import Running, TorchLearner
from worker.training.numerics.data_order import rng_seed


class TorchCnn(TorchLearner):
    """A CNN classifier in torch; the twin of `TensorflowCnn`.

    The `facts` of its setup: `classes` (names), optionally `frozen` (prefixes of fixed weights).
    """

    model: CnnModel
    MEASURED = ("loss", "accuracy")

    def __init__(self, setup: LearnerSetup) -> None:
        super().__init__(setup)
        self.autocast = support.autocast(self.device, self.training.precision)
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
        self._descend(loss, step)
        self._keep_running(running)
        correct = self._correct(logits.detach(), y).double()
        self.totals += torch.stack([loss.detach().double() * len(y), correct, self._count(len(y))])

    # -- the network ------------------------------------------------------------------------------

    def _forward(self, x: Tensor, running: Running, step: int = 0) -> Tensor:
        """Return logits. `running` holds batch norm's statistics to update; None means evaluation."""
        return F.linear(self._features(x, running, step), self.tensors["output.weight"], self.tensors["output.bias"])

    def _features(self, x: Tensor, running: Running, step: int = 0) -> Tensor:
        """Return the input of the output layer: [n, width]."""
        w, model = self.tensors, self.model
        for i, pooled in enumerate(model.pool):
            x = F.conv2d(x, w[f"conv{i}.weight"], w[f"conv{i}.bias"])
            x = self._norm(x, f"norm{i}", running)
            if pooled:  # before relu: the same values (both are monotone), a quarter of the work
                x = F.max_pool2d(x, 2)
            x = F.relu(x)
        x = x.flatten(1)
        for i in range(len(model.dense)):
            x = F.relu(F.linear(x, w[f"dense{i}.weight"], w[f"dense{i}.bias"]))
            if running is not None and model.dropout:
                x = self._dropout(x, i, step)
        return x

    def _dropout(self, x: Tensor, layer: int, step: int) -> Tensor:
        torch.manual_seed(rng_seed(self.training.seed, f"dropout{layer}", step))
        return F.dropout(x, self.model.dropout)

    def _loss(self, logits: Tensor, y: Tensor) -> Tensor:
        if self.model.output == "sigmoid":
            return F.binary_cross_entropy_with_logits(logits[:, 0].float(), y.float())
        return F.cross_entropy(logits.float(), y)

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
        parts = [self._probabilities(inputs[at : at + batch_size]) for at in range(0, len(inputs), batch_size)]
        return np.concatenate(parts)

    @torch.no_grad()
    def features(self, inputs: Array, batch_size: int) -> Array:
        """Return the input of the output layer, [n, width] float32, computed in float32."""
        parts = [inputs[at : at + batch_size] for at in range(0, len(inputs), batch_size)]
        found = [self._features(pixels(support.to_device(part, self.device)), None) for part in parts]
        return torch.cat(found).cpu().numpy()

    def _probabilities(self, inputs: Array) -> Array:
        logits = self._forward(pixels(support.to_device(inputs, self.device)), None)
        if outputs(self.model, self.classes) == 1:
            second = logits.sigmoid()
            return torch.cat([1 - second, second], 1).cpu().numpy()
        return logits.softmax(1).cpu().numpy()


build = TorchCnn
