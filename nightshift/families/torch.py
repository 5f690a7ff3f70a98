"""Ready-made learners in torch: a family writes its network, everything else is given.

    class ResNet(ImageClassifier):
        def network(self):
            return nn.Sequential(...)

    build = ResNet

Only modules named as a learner of a family may import this one: it imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nightshift.families.learner import Array, LearnerSetup, LearnerState
from worker.families.cnn.torch_pixels import augmented, pixels
from worker.training.backends import torch_support as support
from worker.training.backends.torch_base import TorchLearner
from worker.training.backends.torch_modules import Buffers, prepared, seed_draws, set_mode, weights_of
from worker.training.numerics.named_arrays import strip_prefix

#: The arrays of a data set for one step, by their names in `Splits`, on the device.
Batch = Mapping[str, Tensor]


class ModuleLearner(TorchLearner):
    """A learner of one `torch.nn.Module`, for data of any kind.

    A subclass writes `network`, `loss`, and `inputs` unless the network reads the array `x`; for metrics beside the
    loss `MEASURED` and `measures`; for outputs other than the network's `predicted`. `self.model` is the family's spec,
    `self.training` the `Training`, `self.facts` what `load_splits` found out about the data.

    Random numbers of torch, numpy and `random` inside the network depend on the job's seed and the step only, so a
    resumed run draws the same ones. Weights have their names in the module's `state_dict`.
    """

    #: Names of the metrics: the loss, then those of `measures`.
    MEASURED: ClassVar[tuple[str, ...]] = ("loss",)

    def network(self) -> nn.Module:
        """Return the network. It is called once, with random numbers that depend on the job's seed only."""
        raise NotImplementedError

    def inputs(self, batch: Batch, step: int | None) -> Any:
        """Return the argument of the network. `step`: None outside training, else the key of augmentation."""
        return batch["x"]

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the mean loss of the rows, float32. With bfloat16, outputs are bfloat16."""
        raise NotImplementedError

    def measures(self, outputs: Any, batch: Batch) -> Sequence[Tensor]:
        """Return the means over the rows of the metrics in `MEASURED` after the loss."""
        return ()

    def predicted(self, outputs: Any) -> Tensor:
        """Return the float32 rows that `predict` returns."""
        found: Tensor = outputs
        return found

    # -- what is given ----------------------------------------------------------------------------

    def __init__(self, setup: LearnerSetup) -> None:
        super().__init__(setup)
        self.facts = setup.facts
        self.autocast = support.autocast(self.device, self.training.precision)
        seed_draws(self.training.seed, "init", 0)
        self.module = prepared(self.network(), self.device)
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and not self._is_frozen(name))
        weights = weights_of(self.module)
        self._optimize(weights)
        self.buffers = Buffers(self.module, weights)
        set_mode(self.module, True, self._is_frozen)
        self.data: dict[str, Tensor] = {}

    def set_data(self, split: Mapping[str, Array]) -> None:
        self.data = support.move_to_device(split, self.device)

    def train_step(self, rows: npt.NDArray[np.int64], step: int) -> None:
        batch = dict(zip(self.data, support.select(self.data, torch.from_numpy(rows), self.device), strict=True))
        before = self.buffers.copies()
        seed_draws(self.training.seed, "step", step)
        with self.autocast():
            outputs = self.module(self.inputs(batch, step))
        loss = self.loss(outputs, batch)
        self._descend(loss, step)
        self.buffers.settle(before, self.bad)
        with torch.no_grad():
            sums = self._sums(loss, outputs, batch, len(rows))
            self.totals += torch.stack([*sums, self._count(len(rows))])

    def evaluate(self, split: Mapping[str, Array], batch_size: int) -> dict[str, float]:
        totals = torch.zeros(len(self.MEASURED), dtype=torch.float64, device=self.device)
        total = len(next(iter(split.values())))
        with self._evaluating(), self.autocast():
            for at in range(0, total, batch_size):
                batch = {
                    name: support.to_device(rows[at : at + batch_size], self.device) for name, rows in split.items()
                }
                outputs = self.module(self.inputs(batch, None))
                loss = self.loss(outputs, batch)
                totals += torch.stack(self._sums(loss, outputs, batch, min(batch_size, total - at)))
        return self._named(*(totals / total).tolist())

    def predict(self, inputs: Array, batch_size: int) -> Array:
        """Return what `predicted` makes of each row, computed in float32."""
        if len(inputs) == 0:  # not every operation accepts no rows
            return self.predict(np.zeros((1, *inputs.shape[1:]), inputs.dtype), 1)[:0]
        with self._evaluating():
            return np.concatenate(self._in_batches(self._predict, inputs, batch_size))

    def _predict(self, x: Tensor) -> Tensor:
        return self.predicted(self.module(self.inputs({"x": x}, None))).float()

    def _sums(self, loss: Tensor, outputs: Any, batch: Batch, rows: int) -> list[Tensor]:
        return [mean.detach().double() * rows for mean in (loss, *self.measures(outputs, batch))]

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Evaluate without gradients; a network that draws random numbers draws the same ones each time."""
        set_mode(self.module, False, self._is_frozen)
        seed_draws(self.training.seed, "evaluate", 0)
        try:
            with torch.no_grad():
                yield
        finally:
            set_mode(self.module, True, self._is_frozen)

    def state(self) -> LearnerState:
        found = super().state()
        extra = {f"buffers/{name}": array for name, array in self.buffers.extra().items()}
        return LearnerState({**found.arrays, **extra}, found.facts)

    def load_state(self, state: LearnerState) -> None:
        super().load_state(state)
        self.buffers.load_extra(strip_prefix(state.arrays, "buffers/"))


class ImageClassifier(ModuleLearner):
    """A classifier of images, for a family whose parts are `nightshift.families.IMAGE_CLASSIFIER`.

    A subclass writes `network`: inputs float32 [n, channels, height, width] from 0 to 1 in channels-last memory,
    outputs logits [n, self.classes]. Augmentations are those of `cnn`: shift, rotate, flip, erase.
    """

    MEASURED = ("loss", "accuracy")

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.facts["classes"])

    def inputs(self, batch: Batch, step: int | None) -> Tensor:
        x = pixels(batch["x"])
        return x if step is None else augmented(x, self.training.augment, self.training.seed, step)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs.float(), batch["y"])

    def measures(self, outputs: Tensor, batch: Batch) -> Sequence[Tensor]:
        return [(outputs.argmax(1) == batch["y"]).double().mean()]

    def predicted(self, outputs: Tensor) -> Tensor:
        """Return probabilities [n, classes]."""
        return outputs.float().softmax(1)
