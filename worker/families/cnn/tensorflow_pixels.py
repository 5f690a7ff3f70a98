"""Images in TensorFlow: from stored bytes to a network's inputs, and their augmentation."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import tensorflow as tf

from nightshift.families.learner import Array
from worker.families.cnn.augmentation import GEOMETRIC, affine, erase_boxes
from worker.families.cnn.weights import PIXEL_SCALE

Tensor = Any


def pixels(x: Tensor) -> Tensor:
    """Convert bytes to float32 [n, h, w, c]."""
    return tf.cast(x, tf.float32) * PIXEL_SCALE


def augmentation_specs(augment: Collection[str]) -> dict[str, tuple[list[int], Any]]:
    """Return shape (per image) and dtype of the random parameters of augmentation."""
    moved: dict[str, tuple[list[int], Any]] = {"affine": ([2, 3], tf.float32)} if GEOMETRIC & set(augment) else {}
    return moved | ({"erase": ([4], tf.int64)} if "erase" in augment else {})


def augmentations(augment: Collection[str], seed: int, step: int, n: int, size: tuple[int, int]) -> dict[str, Array]:
    """Return the random parameters of a step for images of a size (height, width)."""
    drawn = {}
    if (moves := affine(augment, seed, step, n)) is not None:
        drawn["affine"] = moves
    if "erase" in augment:
        drawn["erase"] = erase_boxes(seed, step, n, *size)
    return drawn


def augmented(x: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
    """Transform and erase images as drawn: bilinear, black outside, as torch's `grid_sample` does."""
    height, width = x.shape[1], x.shape[2]
    if "affine" in drawn:
        x = tf.raw_ops.ImageProjectiveTransformV3(
            images=x, transforms=_in_pixels(drawn["affine"], height, width), output_shape=[height, width],
            fill_value=0.0, interpolation="BILINEAR", fill_mode="CONSTANT",
        )  # fmt: skip
    if "erase" in drawn:
        boxes = drawn["erase"][:, :, None]
        top, bottom, left, right = (boxes[:, side] for side in range(4))  # TensorFlow unstacks integers on the host
        rows, columns = tf.range(height, dtype=tf.int64), tf.range(width, dtype=tf.int64)
        inside = ((rows >= top) & (rows < bottom))[:, :, None] & ((columns >= left) & (columns < right))[:, None, :]
        x = tf.where(inside[..., None], 0.0, x)
    return x


def _in_pixels(theta: Tensor, height: int, width: int) -> Tensor:
    """Convert matrices [n, 2, 3] in coordinates -1 … 1 (pixel edges) to [n, 8] in pixel indices."""
    (a, b, x), (c, d, y) = (tf.unstack(row, axis=1) for row in tf.unstack(theta, axis=1))
    left, top = 1 / width - 1, 1 / height - 1
    shift_x = (a * left + b * top + x + 1) * width / 2 - 0.5
    shift_y = (c * left + d * top + y + 1) * height / 2 - 0.5
    none = tf.zeros_like(a)
    return tf.stack([a, b * width / height, shift_x, c * height / width, d, shift_y, none, none], 1)
