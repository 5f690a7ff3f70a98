"""A small network in torch with all that has state: batch norm, dropout, and buffers beside the weights."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nightshift.families.torch import Batch, ImageClassifier, ModuleLearner


class Small(nn.Module):
    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 6, 3, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.mean_norm = nn.BatchNorm2d(6, momentum=None)
        self.drop = nn.Dropout(0.3)
        self.output = nn.Linear(6, classes)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("last", torch.zeros(()), persistent=False)
        self.register_buffer("mask", torch.ones(6, dtype=torch.bool))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
            self.last = x.detach().mean()  # another tensor in its place
        x = self.mean_norm(torch.relu(self.norm(self.stem(x)))).mean((2, 3)) * self.mask
        x = x * (1 + 0.01 * self.calls + self.last)
        if self.training:
            x = x * (1 + 0.1 * random.random() + 0.1 * float(np.random.random()))
        return self.output(self.drop(x))


class SmallClassifier(ImageClassifier):
    def network(self) -> nn.Module:
        return Small(self.model.image_channels, self.classes)


class Line(ModuleLearner):
    """A regression, for data other than images."""

    MEASURED = ("loss", "error")

    def network(self) -> nn.Module:
        return nn.Linear(3, 1)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return (outputs[:, 0] - batch["y"]).square().mean()

    def measures(self, outputs: Tensor, batch: Batch) -> list[Tensor]:
        return [(outputs[:, 0] - batch["y"]).abs().mean()]


class Tied(ImageClassifier):
    """One weight under two names."""

    def network(self) -> nn.Module:
        first, second = nn.Linear(64, 64), nn.Linear(64, 64)
        second.weight = first.weight
        size = 3 * self.model.image_size[0] * self.model.image_size[1]
        return nn.Sequential(nn.Flatten(), nn.Linear(size, 64), first, second, nn.Linear(64, self.classes))


class NotAModule(ImageClassifier):
    def network(self) -> Any:
        return lambda x: x


build = SmallClassifier
