"""The GAN in torch: two networks, two fused optimizers; channels-last, native bfloat16."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nightshift.families.learner import Array, LearnerSetup
from worker.families.gan.family import GanModel
from worker.families.gan.noise import dropout_masks, noise_in_batches, sample_noise, step_noise
from worker.families.gan.weights import NETWORKS, initial, pixel_scale, precision, to_bytes
from worker.training.backends import torch_support as support
from worker.training.backends.torch_base import Running, TorchLearner

#: Dropout: the factors of each layer's outputs.
Drop = Sequence[Tensor]


class TorchGan(TorchLearner):
    """A GAN in torch; the twin of `TensorflowGan`.

    The `facts` of its setup: optionally `frozen` (prefixes of fixed weights).
    """

    model: GanModel
    MEASURED = ("g_loss", "d_loss")

    def __init__(self, setup: LearnerSetup) -> None:
        super().__init__(setup)
        self.autocast = support.autocast(self.device, precision(self.model, self.training))
        self.scale, self.shift = pixel_scale(self.model)
        self._begin(initial(self.model, self.training.seed), NETWORKS)
        self.data: dict[str, Tensor] = {}
        self.one = torch.ones((), device=self.device)

    # -- the step ---------------------------------------------------------------------------------

    def set_data(self, split: Mapping[str, Array]) -> None:
        self.data = support.move_to_device({"x": split["x"]}, self.device)

    def train_step(self, rows: np.ndarray[Any, np.dtype[np.int64]], step: int) -> None:
        rows = rows.repeat(2) if len(rows) == 1 else rows  # batch norm needs a variance
        (x,) = support.select(self.data, torch.from_numpy(rows), self.device)
        z = support.send(step_noise(self.model, self.training.seed, step, len(rows)), self.device)
        drop = self._masks(len(rows), step)
        self.rate = self.rate_at(step)
        running = self._running()
        with self.autocast():
            fakes = self._generate(z, running, drop["generator"])
            real = self._discriminate(self._pixels(x), running, drop["real"])
        update = self._alternating if self.model.updates == "alternating" else self._joint
        g_loss, d_loss = update(real, fakes, running, drop)
        self._keep_running(running)
        # A float32 times a number of rows is exact in float64.
        self.totals.add_(torch.stack([g_loss.detach(), d_loss.detach(), self.one]).double(), alpha=len(rows))

    def _alternating(
        self, real: Tensor, fakes: Tensor, running: Running, drop: Mapping[str, Drop]
    ) -> tuple[Tensor, Tensor]:
        """Train the discriminator, then the generator on the same fakes through the updated discriminator."""
        with self.autocast():
            fake = self._discriminate(fakes.detach(), running, drop["fake"])
        d_loss = _told_apart(real, fake)
        self._learn("discriminator", d_loss, self._gradients("discriminator", d_loss))
        with self.autocast():
            fooled = self._discriminate(fakes, {}, drop["fooled"])
        g_loss = _taken_for_real(fooled)
        self._learn("generator", g_loss, self._gradients("generator", g_loss))
        return g_loss, d_loss

    def _joint(self, real: Tensor, fakes: Tensor, running: Running, drop: Mapping[str, Drop]) -> tuple[Tensor, Tensor]:
        """Train both networks on one judgement of the fakes, by the discriminator before its step."""
        with self.autocast():
            fake = self._discriminate(fakes, running, drop["fake"])
        g_loss, d_loss = _taken_for_real(fake), _told_apart(real, fake)
        of_generator = self._gradients("generator", g_loss, keep=True)
        self._learn("discriminator", d_loss, self._gradients("discriminator", d_loss))
        self._learn("generator", g_loss, of_generator)
        return g_loss, d_loss

    def _gradients(self, part: str, loss: Tensor, *, keep: bool = False) -> Sequence[Tensor]:
        """Return the gradients of one network; `keep` the graph for another loss."""
        return torch.autograd.grad(loss, self._learned(part), retain_graph=keep)

    def _learn(self, part: str, loss: Tensor, gradients: Sequence[Tensor]) -> None:
        """Run one step of one network."""
        weights = self._learned(part)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        loss = self._averaged(weights, loss)
        if self.training.grad_clip is not None:
            torch.nn.utils.clip_grad_norm_(weights, self.training.grad_clip)
        support.set_rate(self.optimizers[part], self.rate)
        self.guards[part].step(loss)

    def _learned(self, part: str) -> list[Tensor]:
        """Return the weights of one network that its optimizer changes."""
        found: list[Tensor] = self.optimizers[part].param_groups[0]["params"]
        return found

    # -- the networks -----------------------------------------------------------------------------

    def _generate(self, z: Tensor, running: Running = None, drop: Drop = ()) -> Tensor:
        """Return images [n, c, h, w], float32, channels-last, in the range of the discriminator's inputs."""
        model, masks = self.model, iter(drop)
        x = z
        for i in range(len(model.generator_dense)):
            x = self._linear(x, f"generator.dense{i}")
            x = self._drop(F.relu(self._norm(x, f"generator.dense_norm{i}", running)), masks)
        filters, sizes = model.generator_filters, [model.halved(i) for i in range(len(model.generator_filters) + 1)]
        if filters:
            x = self._linear(x, "generator.project").view(-1, filters[0], *sizes[-1])
            x = x.contiguous(memory_format=torch.channels_last)
            x = self._drop(F.relu(self._norm(x, "generator.norm0", running)), masks)
            for i in range(1, len(filters)):
                x = self._up(x, f"generator.up{i}", sizes[len(filters) - i])
                x = self._drop(F.relu(self._norm(x, f"generator.norm{i}", running)), masks)
            x = self._up(x, "generator.output", sizes[0])
        else:
            x = self._linear(x, "generator.output").view(-1, model.image_channels, *sizes[0])
        return x.float().sigmoid() if model.output == "sigmoid" else x.float().tanh()

    def _discriminate(self, x: Tensor, running: Running = None, drop: Drop = ()) -> Tensor:
        """Return logits [n], float32, for an image being real."""
        model, masks = self.model, iter(drop)
        for i in range(len(model.discriminator_filters)):
            name = f"discriminator.conv{i}"
            x = F.conv2d(x, self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias"), 2, self._padding())
            x = x.contiguous(memory_format=torch.channels_last)  # a single channel gives channels-first outputs
            x = F.leaky_relu(self._norm(x, f"discriminator.norm{i}", running), model.leak)
            x = self._drop(x, masks)
        for i in range(len(model.discriminator_dense)):
            x = self._norm(self._linear(x, f"discriminator.dense{i}"), f"discriminator.dense_norm{i}", running)
            x = self._drop(F.leaky_relu(x, model.leak), masks)
        return self._linear(x, "discriminator.output")[:, 0].float()

    def _linear(self, x: Tensor, name: str) -> Tensor:
        """Apply a dense layer; maps are flattened in memory order, H, W, C.

        Flattening them to the weights' C, H, W would copy them, and give every gradient above a layout in which
        convolutions are slow.
        """
        weight = self.tensors[f"{name}.weight"]
        if x.dim() == 4 and x.shape[1] == 1:  # a single map is the same in both orders
            x = x.flatten(1)
        elif x.dim() == 4:
            weight = weight.view(-1, *x.shape[1:]).permute(0, 2, 3, 1).flatten(1)
            x = x.permute(0, 2, 3, 1).flatten(1)
        return F.linear(x, weight, self.tensors.get(f"{name}.bias"))

    def _up(self, x: Tensor, name: str, size: tuple[int, int]) -> Tensor:
        """Apply a transposed convolution that doubles height and width, plus one if `size` is odd."""
        more = (size[0] - 2 * x.shape[2], size[1] - 2 * x.shape[3])
        weight, bias = self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias")
        return F.conv_transpose2d(x, weight, bias, 2, self._padding(), more)

    def _padding(self) -> int:
        return self.model.kernel_size // 2 - 1

    def _drop(self, x: Tensor, masks: Iterator[Tensor]) -> Tensor:
        mask = next(masks, None)
        return x if mask is None else x * mask.view(*mask.shape, *[1] * (x.dim() - 2)).to(x.dtype)

    def _pixels(self, x: Tensor) -> Tensor:
        """Convert bytes [n, h, w, c] to float32 [n, c, h, w] in channels-last memory."""
        return x.permute(0, 3, 1, 2).float().mul_(self.scale).add_(self.shift)

    # -- random numbers of a step, drawn in numpy -------------------------------------------------

    def _masks(self, n: int, step: int) -> dict[str, list[Tensor]]:
        drawn = dropout_masks(self.model, self.training.seed, step, n)
        return {use: [support.send(mask, self.device) for mask in found] for use, found in drawn.items()}

    # -- evaluation -------------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self, split: Mapping[str, Array], batch_size: int) -> dict[str, float]:
        """Return both losses, without dropout, on these images and as many samples."""
        n, totals = len(split["x"]), torch.zeros(2, dtype=torch.float64, device=self.device)
        for at in range(0, n, batch_size):
            x = self._pixels(support.to_device(split["x"][at : at + batch_size], self.device))
            z = support.send(sample_noise(self.model, self.training.seed, at, len(x)), self.device)
            with self.autocast():
                real, fake = self._discriminate(x), self._discriminate(self._generate(z))
            d_losses = F.softplus(-real).double() + F.softplus(fake).double()
            totals += torch.stack([F.softplus(-fake).double().sum(), d_losses.sum()])
        g_loss, d_loss = (totals / n).tolist()
        return {"g_loss": g_loss, "d_loss": d_loss}

    @torch.no_grad()
    def predict(self, inputs: Array, batch_size: int) -> Array:
        """Return the discriminator's probability that each image is real: [n] float32, computed in float32."""
        parts = (inputs[at : at + batch_size] for at in range(0, len(inputs), batch_size))
        logits = [self._discriminate(self._pixels(x)) for x in support.sent(parts, self.device)]
        return torch.cat(logits).sigmoid().cpu().numpy() if logits else np.empty(0, np.float32)

    @torch.no_grad()
    def generate(self, count: int, seed: int, batch_size: int, start: int = 0) -> Array:
        """Return samples `start` … `start + count - 1` of `seed`: uint8 [count, h, w, c], computed in float32."""
        sent = support.sent(noise_in_batches(self.model, seed, start, start + count, batch_size), self.device)
        begun = (support.fetch(self._generate(z).permute(0, 2, 3, 1)) for z in sent)
        empty = np.empty((0, *self.model.image_size, self.model.image_channels), np.uint8)
        return np.concatenate([empty, *(to_bytes(self.model, fetch()) for fetch in self._late(begun))])


def _told_apart(real: Tensor, fake: Tensor) -> Tensor:
    """Return the discriminator's loss of these logits."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def _taken_for_real(fake: Tensor) -> Tensor:
    """Return the generator's loss of these logits."""
    return F.softplus(-fake).mean()


build = TorchGan
