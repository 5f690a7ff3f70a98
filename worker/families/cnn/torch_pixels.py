"""Images in torch: from stored bytes to a network's inputs, and their augmentation."""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor

from worker.families.cnn.augmentation import affine, erase_boxes
from worker.families.cnn.weights import PIXEL_SCALE
from worker.training.backends import torch_support as support


def pixels(x: Tensor) -> Tensor:
    """Convert bytes [n, h, w, c] to float32 [n, c, h, w] in channels-last memory."""
    return x.permute(0, 3, 1, 2).float().mul_(PIXEL_SCALE)


def augmented(x: Tensor, augment: Collection[str], seed: int, step: int) -> Tensor:
    """Return the images [n, c, h, w] of a step moved and erased as drawn for it, in float32.

    Also inside autocast, which would round the coordinates to bfloat16: up to half a pixel of an image of 224.
    """
    if not augment:
        return x
    with torch.autocast(x.device.type, enabled=False):
        return _augmented(x, augment, seed, step)


def _augmented(x: Tensor, augment: Collection[str], seed: int, step: int) -> Tensor:
    n, _, height, width = x.shape
    if (theta := affine(augment, seed, step, n)) is not None:
        grid = F.affine_grid(support.send(theta, x.device), list(x.shape), align_corners=False)
        x = F.grid_sample(x, grid, align_corners=False).contiguous(memory_format=torch.channels_last)
    if "erase" in augment:
        boxes = support.send(erase_boxes(seed, step, n, height, width), x.device)
        x = x * ~support.box_mask(boxes, height, width)
    return x
