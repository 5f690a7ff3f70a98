"""The network. Only a worker imports this module."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nightshift.families.torch import ImageClassifier


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut without weights (option A): every second pixel, more maps of zeros."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(filters)
        self.stride, self.added = stride, filters - channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))
        return F.relu(y + shortcut)


class ResidualNetwork(nn.Module):
    """The network of `ResNetModel`."""

    def __init__(self, channels: int, blocks: int, width: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.groups = nn.Sequential(
            _group(width, width, blocks, stride=1),
            _group(width, 2 * width, blocks, stride=2),
            _group(2 * width, 4 * width, blocks, stride=2),
        )
        self.output = nn.Linear(4 * width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        maps = self.groups(self.stem(x - 0.5))
        return self.output(maps.mean((2, 3)))


def _group(channels: int, filters: int, blocks: int, stride: int) -> nn.Sequential:
    first = Block(channels, filters, stride)
    return nn.Sequential(first, *(Block(filters, filters, 1) for _ in range(blocks - 1)))


class Predicting(nn.Module):
    """The network from stored bytes [n, height, width, channels] to probabilities, for its ONNX file."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.permute(0, 3, 1, 2).float() / 255).softmax(1)


class ResNet(ImageClassifier):
    """The learner: the loop, the optimizer, checkpoints and predictions are Nightshift's."""

    def network(self) -> nn.Module:
        """Return the network for the job's spec and the classes of its data set."""
        spec = self.model
        return ResidualNetwork(spec.image_channels, spec.blocks, spec.width, self.classes)


build = ResNet
