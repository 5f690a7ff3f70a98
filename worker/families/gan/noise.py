"""Random numbers of a GAN, in numpy: the noise z and dropout masks, the same in both frameworks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nightshift.families.learner import Array
from worker.families.gan.family import GanModel
from worker.training.numerics.data_order import generator
from worker.training.numerics.dropout import dropout_mask

#: Rows of z per key of the random generator, so that any range of samples is drawn without those before it.
BLOCK = 256


def step_noise(model: GanModel, seed: int, step: int, n: int) -> Array:
    """Return z of one training step: [n, latent] float32."""
    return generator(seed, "z", step).standard_normal((n, model.latent), np.float32)


def sample_noise(model: GanModel, seed: int, start: int, count: int) -> Array:
    """Return z of samples `start` … `start + count - 1` of `seed`: [count, latent] float32.

    Each row depends only on its number.
    """
    blocks = range(start // BLOCK, -(-(start + count) // BLOCK))
    rows = [generator(seed, "samples", b).standard_normal((BLOCK, model.latent), np.float32) for b in blocks]
    first = start % BLOCK
    return np.concatenate([np.empty((0, model.latent), np.float32), *rows])[first : first + count]


def noise_in_batches(model: GanModel, seed: int, start: int, stop: int, batch_size: int) -> Iterator[Array]:
    """Yield z of samples `start` … `stop - 1` of `seed`."""
    for at in range(start, stop, batch_size):
        yield sample_noise(model, seed, at, min(batch_size, stop - at))


def masked_widths(model: GanModel) -> dict[str, list[int]]:
    """Return the widths (units or feature maps) of the layers with dropout, for each pass of a step."""
    generator = [*model.generator_dense, *model.generator_filters] if model.generator_dropout else []
    discriminator = [*model.discriminator_filters, *model.discriminator_dense] if model.discriminator_dropout else []
    fooled = discriminator if model.updates == "alternating" else []
    return {"generator": generator, "real": discriminator, "fake": discriminator, "fooled": fooled}


def dropout_masks(model: GanModel, seed: int, step: int, n: int) -> dict[str, list[Array]]:
    """Return the factors of each layer's outputs, for each pass: 0 where they are dropped."""
    shares = {"generator": model.generator_dropout}
    return {
        use: _masks(seed, use, step, n, widths, shares.get(use, model.discriminator_dropout))
        for use, widths in masked_widths(model).items()
    }


def _masks(seed: int, use: str, step: int, n: int, widths: Sequence[int], share: float) -> list[Array]:
    kept = np.float32(1 / (1 - share))
    return [~dropout_mask(seed, f"dropout {use} {i}", step, (n, width), share) * kept for i, width in enumerate(widths)]
